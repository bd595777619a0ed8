//! Whom to ask about a key: one server, the master that sentinels name, or the one of a cluster that has the key's slot.

use super::cluster::{Cluster, Map, slot};
use super::finder::Finder;
use super::node::{Alarm, Node, Settings};
use super::sentinel::Watched;
use super::trouble;
use super::url::{Layout, Url};
use crate::error::{StoreError, StoreFailure};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// See the module.
pub enum Topology {
    Single(Arc<Node>),
    Sentinel(Arc<Finder<Node>>),
    Cluster(Arc<Cluster>, Arc<Finder<Map>>),
}

fn alarm<T: Send + Sync + 'static>(finder: &Weak<Finder<T>>) -> Alarm {
    let finder = finder.clone();
    Arc::new(move || finder.upgrade().into_iter().for_each(|finder| finder.look_again()))
}

impl Topology {
    /// What a URL names. `asking` is for sentinels.
    pub fn new(url: &Url, settings: &Arc<Settings>, asking: &Arc<Settings>, name: &str) -> Self {
        let (name, limit): (String, Duration) = (name.to_owned(), settings.timeout);
        match &url.layout {
            Layout::Single => Topology::Single(Node::new(url.addresses[0].clone(), settings, Arc::new(|| {}))),
            Layout::Sentinel(service) => {
                let watched = Arc::new(Watched {
                    sentinels: url.addresses.clone(),
                    service: service.clone(),
                    asking: Arc::clone(asking),
                    settings: Arc::clone(settings),
                });
                Topology::Sentinel(Finder::new(name, limit, |me| {
                    let alarm = alarm(me);
                    Box::new(move |before| {
                        let (watched, alarm) = (Arc::clone(&watched), Arc::clone(&alarm));
                        Box::pin(async move { watched.find(before, alarm).await })
                    })
                }))
            }
            Layout::Cluster => {
                let cluster = Arc::new(Cluster::new(url.addresses.clone(), Arc::clone(settings)));
                let of = Arc::clone(&cluster);
                let finder = Finder::new(name, limit, |me| {
                    let alarm = alarm(me);
                    Box::new(move |_| {
                        let (cluster, alarm) = (Arc::clone(&of), Arc::clone(&alarm));
                        Box::pin(async move { cluster.find(alarm).await })
                    })
                });
                Topology::Cluster(cluster, finder)
            }
        }
    }

    /// Waits until it is known whom to ask.
    pub async fn ready(&self, deadline: Instant) -> Result<(), StoreError> {
        match self {
            Topology::Single(_) => Ok(()),
            Topology::Sentinel(finder) => finder.get(deadline).await.map(drop),
            Topology::Cluster(_, finder) => finder.get(deadline).await.map(drop),
        }
    }

    /// Whom to ask about any key, if there is but one and it is known.
    pub fn only(&self) -> Option<Arc<Node>> {
        match self {
            Topology::Single(node) => Some(Arc::clone(node)),
            Topology::Sentinel(finder) => finder.found(),
            Topology::Cluster(..) => None,
        }
    }

    /// Whom to ask about a key, if that is known. Nothing comes of it if not.
    pub fn known(&self, key: &[u8]) -> Option<Arc<Node>> {
        match self {
            Topology::Cluster(_, finder) => finder.found()?.master(slot(key)).cloned(),
            _ => self.only(),
        }
    }

    /// Whom to ask about a key, as far as is known.
    pub fn route(&self, key: &[u8]) -> Result<Arc<Node>, StoreError> {
        let unknown = || trouble::closed("the store");
        match self {
            Topology::Single(node) => Ok(Arc::clone(node)),
            Topology::Sentinel(finder) => finder.found().ok_or_else(unknown),
            Topology::Cluster(_, finder) => {
                let (map, slot) = (finder.found().ok_or_else(unknown)?, slot(key));
                map.master(slot).cloned().ok_or_else(|| {
                    finder.look_again();
                    let what = format!("slot {slot} has no server");
                    let cure = "see `redis-cli --cluster check`, and mend it with `--cluster fix`";
                    trouble::undone(StoreFailure::Misconfigured, "the cluster", what, cure)
                })
            }
        }
    }

    /// Where a server sends a request instead.
    pub fn redirected(&self, text: &str, from: &Node) -> Option<Arc<Node>> {
        let Topology::Cluster(cluster, finder) = self else { return None };
        let address = super::cluster::redirect(text, &from.address)?;
        Some(cluster.node(&address, &alarm(&Arc::downgrade(finder))))
    }

    /// Something is not as it was thought to be.
    pub fn look_again(&self) {
        match self {
            Topology::Single(_) => {}
            Topology::Sentinel(finder) => finder.look_again(),
            Topology::Cluster(_, finder) => finder.look_again(),
        }
    }

    /// All servers that have keys.
    pub async fn masters(&self, deadline: Instant) -> Result<Vec<Arc<Node>>, StoreError> {
        Ok(match self {
            Topology::Single(node) => vec![Arc::clone(node)],
            Topology::Sentinel(finder) => vec![finder.get(deadline).await?],
            Topology::Cluster(_, finder) => finder.get(deadline).await?.masters.clone(),
        })
    }

    /// Gives back all connections.
    pub fn close(&self) {
        match self {
            Topology::Single(node) => node.close(),
            Topology::Sentinel(finder) => finder.close().into_iter().for_each(|node| node.close()),
            Topology::Cluster(cluster, finder) => {
                finder.close();
                cluster.close();
            }
        }
    }
}
