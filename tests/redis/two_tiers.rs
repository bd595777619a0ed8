//! Caches over a real server: what two processes see of each other, of frames that others wrote, and of a server that goes away.

use super::open_patient;
use super::proxy::{Proxy, Weather};
use super::server::{Server, servers, wait_for};
use samovar::core::coherence::Origin;
use samovar::core::coherence::message::{Message, What};
use samovar::io::store::Store;
use samovar::{Cache, Outcome, Policy, Redis, Remote, Sharing, minutes};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const TTL: Policy = Policy::ttl(minutes(5));

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    tags: Vec<String>,
}

fn user(name: &str) -> User {
    User { name: name.into(), tags: vec!["a".into(), "b".into()] }
}

type Users = Cache<String, User>;

/// A process with connections of its own.
fn process(store: Redis) -> Users {
    Cache::builder().name("app").remote(store).build()
}

async fn load(cache: &Users, key: &str, name: &'static str) -> User {
    cache.get_or_load(key, TTL, move |_| async move { Ok::<_, Infallible>(user(name)) }).await.unwrap()
}

#[tokio::test]
async fn two_processes_share_what_one_has_loaded_written_or_deleted() {
    servers!();
    let server = Server::start(&[]);
    let (here, there) = (process(open_patient(&server.url())), process(open_patient(&server.url())));
    assert_eq!(load(&here, "user:7", "Ada").await, user("Ada"));
    assert_eq!(load(&there, "user:7", "nobody").await, user("Ada"));
    assert_eq!((there.stats().loads, there.stats().remote_hits), (0, 1));
    let ends = |cache: &Users| cache.peek("user:7").unwrap().fresh_until.unwrap();
    let apart = ends(&here).max(ends(&there)).duration_since(ends(&here).min(ends(&there))).unwrap();
    assert!(apart < Duration::from_millis(10), "{apart:?}");
    assert!(server.command(&["EXISTS", "app::user:7"]).contains(":1"));
    assert_eq!(there.set("user:8".into(), user("Bea"), TTL).await, Ok(Outcome::Applied));
    assert_eq!(here.fetch_many(["user:7", "user:8", "user:9"]).await.unwrap().len(), 2);
    assert_eq!(here.delete("user:7").await, Ok(Outcome::Applied));
    assert_eq!(process(open_patient(&server.url())).fetch("user:7").await, Ok(None));
    assert_eq!(there.set_if_absent("user:7".into(), user("Cy"), TTL).await, Ok(true));
    assert_eq!(here.set_if_absent("user:7".into(), user("Dee"), TTL).await, Ok(false));
}

#[tokio::test]
async fn a_hundred_keys_are_claimed_once_and_written_once() {
    servers!();
    let server = Server::start(&[]);
    let store = Arc::new(open_patient(&server.url()));
    let cache: Users = Cache::builder().name("app").remote(Arc::clone(&store)).build();
    let keys: Vec<String> = (0..100).map(|number| format!("user:{number}")).collect();
    let load = |_, keys: Vec<String>| async move {
        Ok::<_, Infallible>(keys.into_iter().map(|key| (key.clone(), user(&key))).collect::<HashMap<_, _>>())
    };
    assert_eq!(cache.get_or_load_many(keys.clone(), TTL, load).await.unwrap().len(), 100);
    let tally = store.tally();
    assert_eq!((tally.claims, tally.writes, tally.reads), (100, 100, 0));
    let there = process(open_patient(&server.url()));
    let never = |_, _| std::future::ready(Err::<HashMap<_, _>, _>("the store has them"));
    assert_eq!(there.get_or_load_many(keys, TTL, never).await.unwrap().len(), 100);
    assert_eq!((there.stats().loads, there.stats().remote_hits), (0, 100));
}

#[tokio::test]
async fn of_two_processes_one_loads_where_that_is_to_be_enough() {
    servers!();
    let server = Server::start(&[]);
    let process = || -> Users {
        let remote = Remote::over(open_patient(&server.url())).single_flight(Sharing::Cluster);
        Cache::builder().name("app").remote(remote).build()
    };
    let (loads, caches) = (Arc::new(AtomicU64::new(0)), [process(), process(), process()]);
    let asking = caches.into_iter().map(|cache| {
        let loads = Arc::clone(&loads);
        tokio::spawn(async move {
            let load = |_| async move {
                loads.fetch_add(1, SeqCst);
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(user("Ada"))
            };
            cache.get_or_load("user:7", TTL, load).await.unwrap()
        })
    });
    for one in asking.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), user("Ada"));
    }
    assert_eq!(loads.load(SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_is_killed_is_not_missed_and_is_used_again_when_it_is_back() {
    servers!();
    let mut server = Server::start(&[]);
    let (here, there) = (process(Redis::open(&server.url()).unwrap()), process(open_patient(&server.url())));
    load(&here, "before", "Ada").await;
    server.kill();
    // The first calls find out that it is gone, within its time budget; then that is known.
    let begin = Instant::now();
    for number in 0..50 {
        load(&here, &format!("user:{number}"), "Bea").await;
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(here.stats().loads, 51);
    assert_eq!(load(&here, "before", "nobody").await, user("Ada"), "memory has it");
    assert_eq!(here.delete("before").await, Ok(Outcome::Queued));
    assert_eq!((here.get("before"), here.queued()), (None, 1));
    server.run();
    wait_for("the store is told", || here.queued() == 0);
    assert_eq!(here.set("user:7".into(), user("Cy"), TTL).await, Ok(Outcome::Applied));
    assert_eq!(there.fetch("user:7").await, Ok(Some(user("Cy"))));
    assert_eq!(load(&here, "before", "Dee").await, user("Dee"));
    assert_eq!(load(&there, "before", "nobody").await, user("Dee"));
}

#[tokio::test]
async fn what_is_under_a_key_and_no_frame_is_loaded_anew() {
    servers!();
    let server = Server::start(&[]);
    let cache = process(open_patient(&server.url()));
    for junk in ["junk", "SV\x01\x02", "SV and a good deal more than any header would ever need to be read at all"] {
        server.command(&["SET", "app::user:7", junk]);
        assert_eq!(cache.fetch("user:7").await, Ok(None));
        assert_eq!(load(&cache, "user:7", "Ada").await, user("Ada"));
        let other = process(open_patient(&server.url()));
        assert_eq!(other.fetch("user:7").await, Ok(Some(user("Ada"))), "and replaced");
        cache.delete("user:7").await.unwrap();
    }
}

/// A cache whose memory has "user:7" and answers alone, since it hears of others.
async fn listener(server: &Server, url: &str) -> Users {
    let cache = process(open_patient(url));
    load(&cache, "user:7", "Ada").await;
    wait_for("it listens", || server.command(&["PUBSUB", "NUMSUB", "app%bus0"]).contains(":1"));
    // Before that something may have been missed.
    for _ in 0..1_000 {
        load(&cache, "user:7", "nobody").await;
        let claims = server.command(&["INFO", "commandstats"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
        load(&cache, "user:7", "nobody").await;
        if cache.get("user:7").is_some() && asked(&server.command(&["INFO", "commandstats"])) == asked(&claims) {
            return cache;
        }
    }
    panic!("it never answers alone");
}

/// How many scripts the server has run.
fn asked(stats: &str) -> Vec<&str> {
    stats.lines().filter(|line| line.starts_with("cmdstat_eval")).collect()
}

#[tokio::test]
async fn what_a_process_writes_or_deletes_leaves_the_memory_of_those_who_listen() {
    servers!();
    let server = Server::start(&[]);
    let (here, there) = (listener(&server, &server.url()).await, process(open_patient(&server.url())));
    there.set("user:7".into(), user("Bea"), TTL).await.unwrap();
    wait_for("it is heard", || here.bus_stats().heard == 1);
    assert_eq!(here.get("user:7"), None);
    assert_eq!(load(&here, "user:7", "nobody").await, user("Bea"));
    assert_eq!(here.get("user:7"), Some(user("Bea")));
    there.delete("user:7").await.unwrap();
    wait_for("it is heard", || here.bus_stats().heard == 2);
    assert_eq!(here.get("user:7"), None);
    assert_eq!((load(&here, "user:7", "Cy").await, here.stats().loads), (user("Cy"), 2));
    assert_eq!((here.bus_stats().lost, there.bus_stats().heard), (0, 0));
}

#[tokio::test]
async fn who_speaks_the_protocol_is_heard_whoever_that_is() {
    servers!();
    let server = Server::start(&[]);
    let here = listener(&server, &server.url()).await;
    let what = What::Changed { key: b"app::user:7".to_vec() };
    let message = Message { origin: Origin(99), number: 0, stamp: 7, what }.to_bytes().unwrap();
    assert_eq!(server.publish("app%bus0", &message), 1);
    wait_for("it is heard", || here.bus_stats().heard == 1);
    assert_eq!(here.get("user:7"), None, "whatever is there, it is asked for");
    assert_eq!(load(&here, "user:7", "nobody").await, user("Ada"));
    server.publish("app%bus0", b"hello");
    wait_for("it is counted", || here.bus_stats().strange == 1);
    assert_eq!(here.get("user:7"), Some(user("Ada")));
}

#[tokio::test]
async fn a_process_that_is_cut_off_serves_nothing_that_was_changed_more_than_two_seconds_before() {
    servers!();
    let server = Server::start(&[]);
    let proxy = Proxy::new(server.port).await;
    let (here, there) = (listener(&server, &proxy.url()).await, process(open_patient(&server.url())));
    proxy.turns(Weather::BlackHole);
    there.set("user:7".into(), user("Bea"), TTL).await.unwrap();
    let changed = Instant::now();
    while here.get("user:7").is_some() {
        assert!(changed.elapsed() < Duration::from_millis(2_100));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(here.bus_stats().heard, 0);
    proxy.turns(Weather::Fine);
    wait_for("that is noticed", || here.bus_stats().lost > 0);
    let back = Instant::now();
    while load(&here, "user:7", "nobody").await != user("Bea") {
        assert!(back.elapsed() < Duration::from_secs(20), "what is in doubt answers while the store is out of reach");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
