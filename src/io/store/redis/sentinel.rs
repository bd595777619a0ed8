//! Who is master, as sentinels say: all are asked at once, and the first answer counts whose server says so itself.
//!
//! A sentinel may not have heard yet, and a master may have been demoted: its own word (`ROLE`) decides. Asked again whenever the
//! master is in trouble.

use super::link::Link;
use super::node::{Alarm, Node, Settings};
use super::trouble;
use super::url::Address;
use crate::error::{StoreError, StoreFailure};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{Pipeline, Value, pipe};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The sentinels, and whom they are asked for.
pub struct Watched {
    pub sentinels: Vec<Address>,
    pub service: String,
    /// How to talk to a sentinel.
    pub asking: Arc<Settings>,
    /// And to the master.
    pub settings: Arc<Settings>,
}

impl Watched {
    /// The master, which may be the one from before.
    pub async fn find(&self, before: Option<Arc<Node>>, alarm: Alarm) -> Result<Arc<Node>, StoreError> {
        let mut asked: FuturesUnordered<_> = self.sentinels.iter().map(|sentinel| self.ask(sentinel)).collect();
        let mut worst: Option<StoreError> = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(address) => {
                    let same = before.filter(|node| node.address == address);
                    return Ok(same.unwrap_or_else(|| Node::new(address, &self.settings, alarm)));
                }
                Err(error) if worst.as_ref().is_none_or(|worst| worst.kind != StoreFailure::Misconfigured) => {
                    worst = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(worst.unwrap_or_else(|| trouble::closed(&self.service)))
    }

    async fn ask(&self, sentinel: &Address) -> Result<Address, StoreError> {
        let name = format!("sentinel {sentinel}");
        let mut question = pipe();
        question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let answer = one(sentinel, &self.asking, &question, &name).await?;
        let address = match answer {
            Value::Array(parts) => address(&parts),
            Value::Nil => {
                let what = format!("it watches no service {:?}", self.service);
                let cure = "name the service in the URL as sentinel's `monitor` does";
                return Err(trouble::undone(StoreFailure::Misconfigured, &name, what, cure));
            }
            _ => None,
        };
        let address = address.ok_or_else(|| StoreError { undone: true, ..trouble::nonsense(&name) })?;
        let mut question = pipe();
        question.cmd("ROLE");
        let role = one(&address, &self.settings, &question, &address.to_string()).await?;
        let is_master = matches!(&role, Value::Array(parts) if text(parts.first()) == Some("master"));
        let (what, cure) = ("it is not master, though a sentinel says so", "wait until the failover is over");
        let not_yet = || trouble::undone(StoreFailure::Unreachable, &address.to_string(), what, cure);
        if is_master { Ok(address) } else { Err(not_yet()) }
    }
}

/// One question on a connection of its own.
async fn one(address: &Address, settings: &Settings, question: &Pipeline, name: &str) -> Result<Value, StoreError> {
    let limit: Duration = settings.connect_timeout;
    let asked = timeout(limit, async {
        let link = Link::open(address, settings, Arc::default()).await?;
        link.ask(question).await.map_err(|error| trouble::lost(name, &error))
    });
    let answers = asked.await.unwrap_or_else(|_| Err(trouble::no_greeting(name, settings)))?;
    match answers.into_iter().next() {
        Some(Value::ServerError(error)) => Err(trouble::not_let_in(name, &error)),
        Some(value) => Ok(value),
        None => Err(trouble::nonsense(name)),
    }
}

fn text(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn address(parts: &[Value]) -> Option<Address> {
    let [host, port] = parts else { return None };
    Some(Address::Tcp(text(Some(host))?.to_owned(), text(Some(port))?.parse().ok()?))
}
