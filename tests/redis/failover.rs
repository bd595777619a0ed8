//! Another server takes over: followed by itself, under load, with nobody waiting beyond the budget.

use crate::contract::{ANY, LIFE, fresh, token, until};
use crate::server::{Server, Watched, cluster, is_well, line_of, servers, wait_for};
use crate::{open, open_patient, store};
use samovar::Redis;
use samovar::io::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The budget, and what a busy machine adds.
const LIMIT: Duration = Duration::from_millis(500);

/// Callers that write and read keys of their own until they are told to end.
struct Load {
    callers: Vec<JoinHandle<Duration>>,
    over: Arc<AtomicBool>,
    failed: Arc<AtomicU32>,
}

impl Load {
    fn start(redis: &Redis) -> Self {
        let (over, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let caller = |number: usize| {
            let (redis, over, failed) = (redis.clone(), Arc::clone(&over), Arc::clone(&failed));
            tokio::spawn(async move {
                let (mut slowest, mut round) = (Duration::ZERO, 0);
                while !over.load(SeqCst) {
                    let (key, text) = (format!("{number}:{}", round % 7), format!("{number}:{round}"));
                    let begin = Instant::now();
                    let put = store(&redis).put(&key[..], fresh(&text), None).await;
                    slowest = slowest.max(begin.elapsed());
                    match put {
                        Ok(_) => {
                            if let Ok(Some(found)) = store(&redis).read(&key[..]).await {
                                let found = String::from_utf8_lossy(&found.frame()[20..]).into_owned();
                                assert!(found.starts_with(&format!("{number}:")), "somebody else's: {found}");
                            }
                        }
                        Err(_) => _ = failed.fetch_add(1, SeqCst),
                    }
                    round += 1;
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
                slowest
            })
        };
        Load { callers: (0..20).map(caller).collect(), over, failed }
    }

    async fn end(self) -> u32 {
        self.over.store(true, SeqCst);
        for caller in self.callers {
            let slowest = caller.await.unwrap();
            assert!(slowest < LIMIT, "{slowest:?}");
        }
        self.failed.load(SeqCst)
    }
}

async fn writes(redis: &Redis, keys: usize) -> bool {
    let values = (0..keys).map(|number| (format!("w{number}"), fresh("x"), None));
    store(redis).set_many(values).await.iter().all(Result::is_ok)
}

#[tokio::test]
async fn a_master_that_dies_is_replaced_by_what_the_sentinels_name() {
    servers!();
    let mut watched = Watched::start();
    let redis = open(&watched.url());
    until("a first answer", || writes(&redis, 1)).await;
    let load = Load::start(&redis);
    watched.servers[0].kill();
    assert!(!writes(&redis, 1).await);
    until("a new master", || writes(&redis, 1)).await;
    assert!(load.end().await > 0);
    // The old one comes back as a replica, and is left alone.
    watched.servers[0].run();
    until("all of it", || writes(&redis, 100)).await;
    wait_for("its new role", || watched.servers[0].says(&["ROLE"], "slave"));
    assert!(writes(&redis, 100).await);
}

#[tokio::test]
async fn a_master_that_is_demoted_in_good_health_is_left() {
    servers!();
    let watched = Watched::start();
    let redis = open(&format!("{}?client_name=app", watched.url()));
    until("a first answer", || writes(&redis, 1)).await;
    wait_for("a failover", || watched.sentinels[0].command(&["SENTINEL", "FAILOVER", "one"]).starts_with("+OK"));
    wait_for("its new role", || watched.servers[0].says(&["ROLE"], "slave"));
    until("a new master", || writes(&redis, 10)).await;
    until("that the old one is left", || async {
        watched.servers[0].try_command(&["CLIENT", "LIST"]).is_some_and(|list| !list.contains("name=app"))
    })
    .await;
}

#[tokio::test]
async fn a_master_of_a_cluster_that_dies_is_replaced_by_its_replica() {
    servers!();
    let mut servers = cluster();
    let redis = open(&format!("redis+cluster://{}", servers[1].host()));
    until("a first answer", || writes(&redis, 50)).await;
    let load = Load::start(&redis);
    servers[0].kill();
    until("a failure", || async { !writes(&redis, 50).await }).await;
    // The others go on meanwhile.
    let found = store(&redis).get_many((0..50).map(|number| format!("w{number}"))).await;
    assert!(found.iter().any(Result::is_ok));
    until("a new master", || writes(&redis, 50)).await;
    assert!(load.end().await > 0);
    servers[0].run();
    wait_for("all is well", || servers.iter().all(is_well));
    assert!(writes(&redis, 100).await);
}

#[tokio::test]
async fn a_frozen_master_of_a_cluster_costs_one_time_out_and_the_others_go_on() {
    servers!();
    let servers = cluster();
    let redis = open(&format!("redis+cluster://{}", servers[1].host()));
    until("a first answer", || writes(&redis, 50)).await;
    servers[0].signal("STOP");
    let begin = Instant::now();
    let found = store(&redis).get_many((0..50).map(|number| format!("w{number}"))).await;
    assert!(begin.elapsed() < LIMIT && found.iter().any(Result::is_ok) && found.iter().any(Result::is_err));
    let begin = Instant::now();
    let mut failed = 0;
    for number in 0..50 {
        failed += u32::from(store(&redis).read(format!("w{number}")).await.is_err());
    }
    assert!(begin.elapsed() < LIMIT, "{:?}, {failed} failed", begin.elapsed());
    until("a new master", || writes(&redis, 50)).await;
    servers[0].signal("CONT");
    wait_for("all is well", || servers.iter().all(is_well));
    assert!(writes(&redis, 100).await);
}

#[tokio::test]
async fn slots_that_are_moved_under_load_cost_nobody_an_error() {
    servers!();
    let servers = cluster();
    let redis = open_patient(&format!("redis+cluster://{}", servers[0].host()));
    until("a first answer", || writes(&redis, 50)).await;
    let tagged = |number: usize| format!("{{foo}}{number}");
    let values = (0..50).map(|number| (tagged(number), fresh("x"), None));
    assert!(store(&redis).set_many(values).await.iter().all(Result::is_ok));
    let (from, to) = (&servers[2], &servers[0]);
    let id = |server: &Server| line_of(&server.command(&["CLUSTER", "MYID"]));
    let (from_id, to_id) = (id(from), id(to));
    let load = Load::start(&redis);
    to.command(&["CLUSTER", "SETSLOT", "12182", "IMPORTING", &from_id]);
    from.command(&["CLUSTER", "SETSLOT", "12182", "MIGRATING", &to_id]);
    for number in 0..50 {
        // Half of the keys are there, half are here.
        let port = to.port.to_string();
        from.command(&["MIGRATE", "127.0.0.1", &port, &tagged(number), "0", "1000"]);
        if number % 10 == 0 {
            let found = store(&redis).get_many((0..50).map(tagged)).await;
            assert!(found.into_iter().all(|found| found.is_ok_and(|found| found.is_some())), "after {number}");
            let found = store(&redis).claim(format!("{{foo}}new{number}"), token(1), ANY, LIFE).await;
            assert!(found.is_ok(), "{found:?}");
        }
    }
    for server in [to, from, &servers[1]] {
        server.command(&["CLUSTER", "SETSLOT", "12182", "NODE", &to_id]);
    }
    let found = store(&redis).get_many((0..50).map(tagged)).await;
    assert!(found.into_iter().all(|found| found.is_ok_and(|found| found.is_some())));
    assert_eq!(load.end().await, 0);
    assert_eq!(redis.tally().outages, 0);
}
