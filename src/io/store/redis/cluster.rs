//! A cluster: which server has which of the 16384 slots, and which slot a key is in.
//!
//! The map is a guess that servers correct: a request they send elsewhere goes there, and the map is asked for again. The servers
//! that are known are asked for it, all at once, and the hosts of the URL if none of them answers.

use super::node::{Alarm, Lane, Node, Settings};
use super::trouble;
use super::url::Address;
use crate::error::{StoreError, StoreFailure};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use redis::{Value, pipe};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// How many slots there are.
pub const SLOTS: usize = 16384;
const NOBODY: u16 = u16::MAX;

/// Who has which slot.
pub struct Map {
    slots: Vec<u16>,
    /// The servers that have some, in the order of their addresses.
    pub masters: Vec<Arc<Node>>,
}

impl Map {
    /// The server that has a slot.
    pub fn master(&self, slot: u16) -> Option<&Arc<Node>> {
        self.masters.get(usize::from(*self.slots.get(usize::from(slot))?))
    }
}

/// The servers that are known, and how to come by others.
pub struct Cluster {
    pub seeds: Vec<Address>,
    pub settings: Arc<Settings>,
    nodes: Mutex<BTreeMap<Address, Arc<Node>>>,
}

impl Cluster {
    /// Knows nobody but where to begin.
    pub fn new(seeds: Vec<Address>, settings: Arc<Settings>) -> Self {
        Cluster { seeds, settings, nodes: Mutex::default() }
    }

    /// The server at this address, known or not.
    pub fn node(&self, address: &Address, alarm: &Alarm) -> Arc<Node> {
        let mut nodes = self.nodes.lock();
        let make = || Node::new(address.clone(), &self.settings, Arc::clone(alarm));
        Arc::clone(nodes.entry(address.clone()).or_insert_with(make))
    }

    /// Asks for the map.
    pub async fn find(&self, alarm: Alarm) -> Result<Arc<Map>, StoreError> {
        let known: Vec<_> = self.nodes.lock().values().filter(|node| node.is_admitting()).cloned().collect();
        if let Ok(map) = self.ask(known, &alarm).await {
            return Ok(map);
        }
        self.ask(self.seeds.iter().map(|seed| self.node(seed, &alarm)).collect(), &alarm).await
    }

    async fn ask(&self, nodes: Vec<Arc<Node>>, alarm: &Alarm) -> Result<Arc<Map>, StoreError> {
        let mut asked: FuturesUnordered<_> = nodes.iter().map(|node| self.ask_one(node)).collect();
        let mut worst: Option<StoreError> = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(ranges) => return Ok(self.map(ranges, alarm)),
                Err(error) if worst.as_ref().is_none_or(|worst| worst.kind != StoreFailure::Misconfigured) => {
                    worst = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(worst.unwrap_or_else(|| trouble::closed("the cluster")))
    }

    async fn ask_one(&self, node: &Arc<Node>) -> Result<Vec<Range>, StoreError> {
        let mut question = pipe();
        question.cmd("CLUSTER").arg("SLOTS");
        let deadline = Instant::now() + self.settings.connect_timeout;
        let answers = node.ask(Lane::Small, &question, deadline).await?;
        match answers.into_iter().next() {
            Some(Value::ServerError(error)) if error.details().is_some_and(|text| text.contains("cluster support")) => {
                let (what, cure) = ("it is no cluster", "say redis:// for a single server");
                Err(trouble::undone(StoreFailure::Misconfigured, &node.name, what, cure))
            }
            Some(Value::ServerError(error)) => Err(trouble::not_let_in(&node.name, &error)),
            Some(Value::Array(ranges)) => {
                let ranges: Option<Vec<Range>> = ranges.iter().map(|one| range(one, &node.address)).collect();
                let ranges = ranges.ok_or_else(|| trouble::nonsense(&node.name))?;
                let (what, cure) =
                    ("it has no slots and knows nobody who has", "create the cluster: redis-cli --cluster create");
                let none = || trouble::undone(StoreFailure::Misconfigured, &node.name, what, cure);
                if ranges.is_empty() { Err(none()) } else { Ok(ranges) }
            }
            _ => Err(trouble::nonsense(&node.name)),
        }
    }

    fn map(&self, ranges: Vec<Range>, alarm: &Alarm) -> Arc<Map> {
        let mut slots = vec![NOBODY; SLOTS];
        let mut addresses: Vec<&Address> = ranges.iter().map(|range| &range.master).collect();
        addresses.sort_unstable();
        addresses.dedup();
        for range in &ranges {
            let at = addresses.binary_search(&&range.master).map_or(NOBODY, |at| at as u16);
            let end = usize::from(range.last).min(SLOTS - 1);
            slots.get_mut(usize::from(range.first)..=end).into_iter().for_each(|slots| slots.fill(at));
        }
        let masters: Vec<_> = addresses.iter().map(|address| self.node(address, alarm)).collect();
        let gone: Vec<_> = {
            let mut nodes = self.nodes.lock();
            let keep = |address: &Address| addresses.binary_search(&address).is_ok();
            let gone = nodes.keys().filter(|address| !keep(address)).cloned().collect::<Vec<_>>();
            gone.iter().filter_map(|address| nodes.remove(address)).collect()
        };
        gone.iter().for_each(|node| node.close());
        Arc::new(Map { slots, masters })
    }

    /// Gives back all connections.
    pub fn close(&self) {
        let nodes = std::mem::take(&mut *self.nodes.lock());
        nodes.values().for_each(|node| node.close());
    }
}

/// Slots and their master.
#[derive(Debug, PartialEq)]
struct Range {
    first: u16,
    last: u16,
    master: Address,
}

fn range(value: &Value, asked: &Address) -> Option<Range> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else { return None };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let host = match host {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        Value::SimpleString(text) => text,
        _ => "",
    };
    let (first, last, port) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, u16::try_from(*port).ok()?);
    Some(Range { first, last, master: beside(host, port, asked) })
}

/// An address as a server names it: without a host, it is on its own.
fn beside(host: &str, port: u16, asked: &Address) -> Address {
    match asked {
        Address::Tcp(own, _) if host.is_empty() || host == "?" => Address::Tcp(own.clone(), port),
        _ => Address::Tcp(host.to_owned(), port),
    }
}

/// Where a server sends us: `host:port`, the host perhaps left out.
pub fn redirect(text: &str, asked: &Address) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    Some(beside(host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?, asked))
}

/// The slot of a key: that of what is between its first braces, if anything is.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|&byte| byte == b'}').map(|close| &rest[..close])
    });
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    hashed.iter().fold(0, |sum, &byte| sum << 8 ^ TABLE[usize::from((sum >> 8) as u8 ^ byte)]) % SLOTS as u16
}

/// CRC-16/XMODEM, as the cluster specification says.
static TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut sum = (at as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot(b"123456789"), 0x31C3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), slot(b"foo{}{bar}"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_eq!(slot(b"foo"), 12182);
    }

    #[test]
    fn a_server_without_a_name_is_on_the_host_that_was_asked() {
        let asked = Address::Tcp("here".into(), 1);
        assert_eq!(redirect(":7", &asked), Some(Address::Tcp("here".into(), 7)));
        assert_eq!(redirect("there:7", &asked), Some(Address::Tcp("there".into(), 7)));
        assert_eq!(redirect("::1:7", &asked), Some(Address::Tcp("::1".into(), 7)));
        assert_eq!(redirect("there", &asked), None);
    }
}
