//! The rules of a memory over a store, on a real server: several nodes with a memory and connections each load, invalidate and forget
//! the same keys while the server forgets, hangs up and loses its scripts. In the end nothing old is anywhere.

use crate::contract::{self, MINUTE, until};
use crate::proxy::{Proxy, Weather};
use crate::server::{Server, servers};
use crate::{open, open_patient, store};
use samovar::core::clock::Clock;
use samovar::core::coherence::registers::Verdict;
use samovar::core::remote::fill::{End, Fill};
use samovar::core::remote::write::{Effect, Outcome, What, Write};
use samovar::core::remote::{Sharing, Token, Version, Wanted};
use samovar::io::store::Store;
use samovar::io::store::drive::{Frames, Place};
use samovar::io::store::stored::Stored;
use samovar::{Redis, StoreFailure};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Numbers as text behind the moments of the contract's frames.
struct Numbers;

impl Frames<u64> for Numbers {
    fn encode(&self, value: Option<&u64>) -> Option<(Vec<u8>, Option<Duration>)> {
        Some((contract::fresh(&value.map_or("none".into(), u64::to_string)), Some(2 * MINUTE)))
    }

    fn decode(&self, stored: &Stored) -> Option<(Option<u64>, Verdict)> {
        let text = std::str::from_utf8(&stored.frame()[20..]).ok()?;
        let value = if text == "none" { None } else { Some(text.parse().ok()?) };
        Some((value, Verdict::Good))
    }
}

/// What a node has of a key.
#[derive(Clone, Copy, Default)]
struct Kept {
    value: Option<(u64, Option<Version>)>,
    /// Counts what made loads under way void.
    epoch: u64,
    /// What nobody here may be behind.
    floor: u64,
}

struct Node {
    redis: Redis,
    memory: Mutex<HashMap<String, Kept>>,
}

/// Nodes, and the source of their values.
struct World {
    nodes: Vec<Node>,
    source: Mutex<HashMap<String, u64>>,
    loads: AtomicU64,
    clock: Clock,
}

fn token() -> Token {
    Token::new(u128::from(rand()) << 64 | u128::from(rand()))
}

fn rand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

impl Node {
    fn change<T>(&self, key: &str, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(self.memory.lock().unwrap().entry(key.into()).or_default())
    }

    /// Something of this version took the place of what was there.
    fn drop_older(&self, key: &str, version: Option<Version>) {
        self.change(key, |kept| {
            kept.epoch += 1;
            let there = kept.value.and_then(|(_, version)| version);
            if version.is_none_or(|version| version.replaces(there)) {
                kept.value = None;
            }
        });
    }
}

impl World {
    fn new(redis: impl Iterator<Item = Redis>) -> Arc<Self> {
        let nodes = redis.map(|redis| Node { redis, memory: Mutex::default() }).collect();
        Arc::new(World { nodes, source: Mutex::default(), loads: AtomicU64::new(0), clock: Clock::system() })
    }

    fn truth(&self, key: &str) -> u64 {
        self.source.lock().unwrap().get(key).copied().unwrap_or(0)
    }

    fn place<'a>(&'a self, node: usize, key: &'a str) -> Place<'a, Numbers> {
        Place { store: &self.nodes[node].redis, key: key.as_bytes(), clock: &self.clock, frames: &Numbers }
    }

    async fn load(&self, key: &str) -> Result<Option<u64>, Infallible> {
        self.loads.fetch_add(1, SeqCst);
        let value = self.truth(key);
        tokio::time::sleep(Duration::from_millis(rand() % 4)).await;
        Ok(Some(value))
    }

    /// What a caller on this node is answered.
    async fn ask(&self, at: usize, key: &str, sharing: Sharing, anew: bool) -> u64 {
        let node = &self.nodes[at];
        let seen = node.change(key, |kept| *kept);
        let floor = if anew { self.truth(key) } else { seen.floor };
        if let (Some((value, _)), false) = (seen.value, anew) {
            assert!(value >= floor, "{value} of {key}, and {floor} was known");
            return value;
        }
        let wanted = if anew { Wanted::Anew } else { Wanted::Newer(None) };
        let (end, _) = self.place(at, key).fill(Fill::begin(token(), wanted, sharing), self.load(key)).await;
        let (value, kept) = match end {
            End::Found(frame) | End::Lost(frame) => (frame.value.unwrap(), Some(Some(frame.version))),
            End::Loaded(value, version) => (value.unwrap(), Some(version)),
            End::Forgone(value) => (value.unwrap(), None),
            other => panic!("{other:?}"),
        };
        node.change(key, |now| {
            let there = now.value.and_then(|(_, version)| version);
            let newer = |version: Version| version.replaces(there);
            if now.epoch == seen.epoch
                && let Some(version) = kept
                && version.is_none_or(newer)
            {
                now.value = Some((value, version));
            }
        });
        assert!(value >= floor, "{value} of {key}, and {floor} was known");
        value
    }

    /// Changes the source, and tells everybody as the machine says; what could not be told is told again until it was.
    async fn change(&self, at: usize, key: &str) -> Outcome {
        let truth = {
            let mut source = self.source.lock().unwrap();
            let value = source.entry(key.into()).or_default();
            *value += 1;
            *value
        };
        let mut told = Outcome::Queued;
        let mut again = true;
        while std::mem::take(&mut again) {
            let (mut write, mut effects) = Write::begin(What::<u64>::Tombstone);
            while !effects.is_empty() {
                match effects.remove(0) {
                    Effect::WriteTier(what) => {
                        let (input, _) = self.place(at, key).write(what).await;
                        effects.extend(write.step(input));
                    }
                    Effect::DropMemory(version) => self.nodes[at].drop_older(key, version),
                    Effect::PutMemory(..) => unreachable!("a tombstone is no value"),
                    Effect::Publish(version) => self.nodes.iter().for_each(|node| {
                        node.drop_older(key, Some(version));
                        node.change(key, |kept| kept.floor = truth.max(kept.floor));
                    }),
                    Effect::Recover => again = true,
                    Effect::Done(outcome) => told = outcome,
                }
            }
        }
        self.nodes[at].change(key, |kept| kept.floor = truth.max(kept.floor));
        told
    }

    async fn end(&self, keys: &[String]) {
        for key in keys {
            let truth = self.truth(key);
            for (at, node) in self.nodes.iter().enumerate() {
                let kept = node.change(key, |kept| kept.value);
                assert!(kept.is_none_or(|(value, _)| value == truth), "node {at} ends with {kept:?} of {key}: {truth}");
                let (end, _) =
                    self.place(at, key).fill::<u64, Infallible>(Fill::read(), async { unreachable!() }).await;
                let stored = if let End::Found(frame) = end { frame.value } else { None };
                assert!(stored.is_none_or(|value| value == truth), "the store ends with {stored:?} of {key}: {truth}");
            }
        }
    }
}

#[tokio::test]
async fn nothing_old_is_anywhere_though_the_server_forgets_and_hangs_up() {
    servers!();
    let server = Server::start(&[]);
    let keys: Vec<String> = (0..4).map(|number| format!("k{number}")).collect();
    let world = World::new((0..3).map(|_| open_patient(&server.url())));
    let end = Instant::now() + Duration::from_secs(6);
    let mut tasks = Vec::new();
    for number in 0..24 {
        let (world, keys) = (Arc::clone(&world), keys.clone());
        tasks.push(tokio::spawn(async move {
            let (node, mut asked) = (number % 3, 0_u64);
            while Instant::now() < end {
                let key = &keys[rand() as usize % keys.len()];
                match rand() % 40 {
                    0..3 => _ = world.change(node, key).await,
                    3..5 => world.nodes[node].change(key, |kept| kept.value = None),
                    5 => _ = world.ask(node, key, Sharing::Process, true).await,
                    6 => _ = world.ask(node, key, Sharing::Cluster, false).await,
                    _ => _ = world.ask(node, key, Sharing::Process, false).await,
                }
                asked += 1;
                tokio::task::yield_now().await;
            }
            asked
        }));
    }
    while Instant::now() < end {
        match rand() % 8 {
            0 => server.command(&["FLUSHALL"]),
            1 => server.command(&["SCRIPT", "FLUSH"]),
            2 => server.command(&["CLIENT", "KILL", "TYPE", "normal"]),
            _ => server.command(&["DEL", &keys[rand() as usize % keys.len()]]),
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut asked = 0;
    for task in tasks {
        asked += task.await.unwrap();
    }
    world.end(&keys).await;
    println!("{asked} steps, {} loads", world.loads.load(SeqCst));
    assert!(world.loads.load(SeqCst) > 300);
}

#[tokio::test]
async fn where_one_load_is_to_be_enough_there_is_one() {
    servers!();
    let server = Server::start(&[]);
    let world = World::new((0..3).map(|_| open_patient(&server.url())));
    let tasks: Vec<_> = (0..60)
        .map(|number| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.ask(number % 3, "k", Sharing::Cluster, false).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 0);
    }
    assert_eq!(world.loads.load(SeqCst), 1);
}

#[tokio::test]
async fn without_its_server_a_node_loads_at_once_and_keeps_that_to_itself() {
    servers!();
    let server = Server::start(&[]);
    let proxy = Proxy::new(server.port).await;
    let world = World::new([open(&proxy.url()), open(&server.url())].into_iter());
    until("a first answer", || async { store(&world.nodes[0].redis).read("k").await.is_ok() }).await;
    proxy.turns(Weather::BlackHole);
    contract::failure(store(&world.nodes[0].redis).read("k").await, StoreFailure::Timeout, "no answer");
    let begin = Instant::now();
    for number in 0..100 {
        assert_eq!(world.ask(0, &format!("k{number}"), Sharing::Process, false).await, 0);
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "a hundred loads of some milliseconds, {:?}", begin.elapsed());
    assert_eq!(store(&world.nodes[1].redis).read("k0").await.unwrap(), None);
    // An invalidation meanwhile is told as soon as there is somebody to tell.
    let change = async { world.change(0, "k0").await };
    let back = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.turns(Weather::Fine);
    };
    let (told, ()) = tokio::join!(change, back);
    assert_eq!((told, world.ask(1, "k0", Sharing::Process, false).await), (Outcome::Applied, 1));
}

#[tokio::test]
async fn a_claim_is_renewed_while_a_load_runs_and_a_frame_nobody_can_read_is_replaced() {
    servers!();
    let server = Server::start(&[]);
    let world = World::new([open_patient(&server.url())].into_iter());
    let redis = &world.nodes[0].redis;
    store(redis).put("k", contract::fresh("what another codec wrote"), None).await.unwrap();
    let load = async {
        // The claim is renewed after three seconds of the load.
        tokio::time::sleep(Duration::from_millis(3300)).await;
        let left = server.command(&["GETRANGE", "k", "28", "35"]);
        Ok::<_, Infallible>(Some(left.len() as u64))
    };
    let before = contract::now();
    let begun = Fill::begin(token(), Wanted::Newer(None), Sharing::Process);
    let (end, _) = world.place(0, "k").fill(begun, load).await;
    assert!(matches!(end, End::Loaded(Some(_), Some(_))), "{end:?}");
    assert!(redis.tally().others == 1 && contract::now() > before, "one renewal");
    assert!(matches!(world.place(0, "k").fill(Fill::read(), world.load("k")).await.0, End::Found(_)));
}
