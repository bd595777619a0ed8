//! A server that is killed, frozen, slow or cut off: what it costs, and that it is over when it is over.

use crate::contract::{ANY, LIFE, MINUTE, failure, fresh, token, until};
use crate::proxy::{Proxy, Weather};
use crate::server::{Server, Watched, cluster, servers};
use crate::{open, open_patient, store};
use samovar::io::store::Store;
use samovar::{Redis, RedisOptions, StoreFailure};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// What a call may take by default, and what a busy machine adds.
const BUDGET: Duration = Duration::from_millis(250);
const SLACK: Duration = Duration::from_millis(250);
/// A call that waits for nobody.
const AT_ONCE: Duration = Duration::from_millis(50);
/// How soon it is used again after its return.
const RECOVERY: Duration = Duration::from_secs(1);

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begin = Instant::now();
    let done = work.await;
    (done, begin.elapsed())
}

async fn works(redis: &Redis) -> bool {
    store(redis).read("k").await.is_ok()
}

/// Until it works, which must be within a second from now.
async fn recovers(redis: &Redis) {
    let ((), took) = timed(until("its return", || works(redis))).await;
    assert!(took < RECOVERY, "it took {took:?}");
}

/// Calls as long as it is out of reach: each fails, and waits for nothing.
async fn fails_at_once(redis: &Redis, calls: usize) {
    for _ in 0..calls {
        let (result, took) = timed(store(redis).read("k")).await;
        let error = result.expect_err("it cannot have worked");
        assert!(error.undone && took < AT_ONCE, "{took:?}: {error}");
    }
}

#[tokio::test]
async fn a_frozen_server_costs_one_time_out_and_recovers_by_itself() {
    servers!();
    let server = Server::start(&[]);
    let redis = open(&server.url());
    store(&redis).put("k", fresh("x"), None).await.unwrap();
    server.signal("STOP");
    let begin = Instant::now();
    // Many at once, and some more while they wait: all of them are told when the first has waited long enough.
    let mut callers = Vec::new();
    for wave in 0..3 {
        callers.extend((0..200).map(|number| {
            let redis = redis.clone();
            tokio::spawn(async move { store(&redis).read(format!("{wave}:{number}")).await })
        }));
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let mut errors = Vec::new();
    for caller in callers {
        errors.push(caller.await.unwrap().unwrap_err());
    }
    assert!(begin.elapsed() < BUDGET + SLACK, "{:?}", begin.elapsed());
    assert_eq!(errors[0].kind, StoreFailure::Timeout);
    let later = errors[200..].iter().filter(|error| error.kind == StoreFailure::Timeout);
    assert_eq!(later.count(), 0, "who came later need not wait as long");
    fails_at_once(&redis, 1000).await;
    failure(store(&redis).put("k", fresh("y"), None).await, StoreFailure::Unreachable, "no answer within the 250ms");
    server.signal("CONT");
    recovers(&redis).await;
    assert_eq!(redis.tally().outages, 1);
    until("the end of other connections", || async { server.connections() <= 2 }).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_at_first_is_used_when_it_comes() {
    servers!();
    let mut server = Server::start(&[]);
    server.kill();
    let redis = open(&server.url());
    let (result, took) = timed(store(&redis).read("k")).await;
    failure(result, StoreFailure::Unreachable, "start the server, or correct host and port");
    assert!(took < SLACK, "{took:?}");
    fails_at_once(&redis, 100).await;
    server.run();
    recovers(&redis).await;
}

#[tokio::test]
async fn a_server_killed_and_restarted_under_load_is_used_again_and_nobody_waits_beyond_the_budget() {
    servers!();
    let mut server = Server::start(&[]);
    let redis = open(&server.url());
    recovers(&redis).await;
    let load: Vec<_> = (0..50)
        .map(|number| {
            let redis = redis.clone();
            tokio::spawn(async move {
                let (mut slowest, mut failed) = (Duration::ZERO, 0);
                for round in 0..400 {
                    let key = format!("{number}:{}", round % 10);
                    let (result, took) = timed(store(&redis).claim(&key[..], token(1), ANY, LIFE)).await;
                    slowest = slowest.max(took);
                    failed += u32::from(result.is_err());
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                (slowest, failed)
            })
        })
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.run();
        recovers(&redis).await;
    }
    let mut failures = 0;
    for caller in load {
        let (slowest, failed) = caller.await.unwrap();
        assert!(slowest < BUDGET + SLACK, "{slowest:?}");
        failures += failed;
    }
    assert!(failures > 0, "it was away for a while");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn clients_that_the_server_kills_connect_again_and_only_what_must_not_be_repeated_fails() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    recovers(&redis).await;
    let load: Vec<_> = (0..20)
        .map(|number| {
            let redis = redis.clone();
            tokio::spawn(async move {
                for round in 0..100 {
                    let key = format!("{number}:{round}");
                    store(&redis).invalidate(&key[..], LIFE).await.unwrap();
                    assert!(store(&redis).read(&key[..]).await.unwrap().is_none());
                    // Laid again under its name it could let an older load's value in.
                    if let Err(error) = store(&redis).claim(&key[..], token(1), ANY, LIFE).await {
                        assert_eq!((error.kind, error.undone), (StoreFailure::Unreachable, false));
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
    for caller in load {
        caller.await.unwrap();
    }
    assert!(redis.tally().connects > 1);
    assert_eq!((server.connections(), redis.tally().outages), (1, 0));
}

#[tokio::test]
async fn a_server_that_pauses_longer_than_a_call_may_take_is_given_up_until_it_goes_on() {
    servers!();
    let server = Server::start(&[]);
    let redis = open(&server.url());
    recovers(&redis).await;
    server.command(&["CLIENT", "PAUSE", "900", "ALL"]);
    let (result, took) = timed(store(&redis).read("k")).await;
    assert!(result.is_err() && took < BUDGET + SLACK, "{took:?}");
    fails_at_once(&redis, 100).await;
    until("its return", || works(&redis)).await;
}

#[tokio::test]
async fn a_write_cut_off_in_the_middle_is_unknown_and_a_read_is_asked_again() {
    servers!();
    let server = Server::start(&[]);
    let proxy = Proxy::new(server.port).await;
    let redis = open_patient(&proxy.url());
    let large = [fresh(""), vec![7; 50_000]].concat();
    store(&redis).put("k", large.clone(), None).await.unwrap();
    for after in [0, 1, 7, 1000] {
        proxy.turns(Weather::Cut(after));
        assert_eq!(store(&redis).read("k").await.unwrap().unwrap().frame(), large, "after {after} bytes");
    }
    proxy.turns(Weather::Cut(2));
    let error = store(&redis).put("k", fresh("y"), None).await.unwrap_err();
    assert!(!error.undone && error.kind == StoreFailure::Unreachable, "{error}");
    assert!(store(&redis).read("k").await.unwrap().unwrap().frame().ends_with(b"y"), "it was written all the same");
    assert_eq!(redis.tally().retries, 4);
}

#[tokio::test]
async fn a_network_that_swallows_everything_or_only_the_answers_costs_one_time_out() {
    servers!();
    let server = Server::start(&[]);
    let proxy = Proxy::new(server.port).await;
    for weather in [Weather::BlackHole, Weather::OneWay] {
        let redis = open(&proxy.url());
        recovers(&redis).await;
        proxy.turns(weather);
        let (result, took) = timed(store(&redis).put("k", fresh("x"), None)).await;
        failure(result, StoreFailure::Timeout, "no answer within");
        assert!(took < BUDGET + SLACK, "{took:?}");
        fails_at_once(&redis, 200).await;
        proxy.turns(Weather::Fine);
        recovers(&redis).await;
        redis.close();
    }
    until("the end of all connections", || async { server.connections() == 0 }).await;
}

#[tokio::test]
async fn a_port_that_accepts_and_never_answers_costs_one_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redis = open(&format!("redis://{}", listener.local_addr().unwrap()));
    let (result, took) = timed(store(&redis).read("k")).await;
    failure(result, StoreFailure::Timeout, "no connection within");
    assert!(took < BUDGET + SLACK, "{took:?}");
    fails_at_once(&redis, 200).await;
}

#[tokio::test]
async fn a_slow_network_is_slow_and_not_given_up() {
    servers!();
    let server = Server::start(&[]);
    let proxy = Proxy::new(server.port).await;
    let redis = open(&proxy.url());
    recovers(&redis).await;
    proxy.turns(Weather::Slow(Duration::from_millis(60)));
    let many: Vec<_> = (0..30)
        .map(|_| {
            let redis = redis.clone();
            tokio::spawn(async move { store(&redis).read("k").await })
        })
        .collect();
    for one in many {
        one.await.unwrap().unwrap();
    }
    assert_eq!(redis.tally().outages, 0);
}

#[tokio::test]
async fn one_answer_that_takes_too_long_does_not_end_what_others_are_told() {
    servers!();
    let server = Server::start(&[]);
    let proxy = Proxy::new(server.port).await;
    let redis = open(&proxy.url());
    // A few hundred pieces, each late: more than the budget, though something is heard all the time.
    store(&redis).put("large", [fresh(""), vec![7; 4_000_000]].concat(), Some(MINUTE)).await.unwrap();
    store(&redis).put("k", fresh("x"), None).await.unwrap();
    proxy.turns(Weather::Slow(Duration::from_millis(8)));
    let large = store(&redis).read("large");
    let small = async {
        for _ in 0..10 {
            assert!(store(&redis).read("k").await.unwrap().is_some());
        }
    };
    let (large, ()) = tokio::join!(large, small);
    failure(large, StoreFailure::Timeout, "no answer within");
    assert_eq!(redis.tally().outages, 0);
    assert!(works(&redis).await);
}

#[tokio::test]
async fn an_outage_while_connecting_is_over_when_it_is_over() {
    servers!();
    let server = Server::start(&[]);
    let proxy = Proxy::new(server.port).await;
    proxy.turns(Weather::BlackHole);
    let options = RedisOptions { connect_timeout: Duration::from_secs(30), ..RedisOptions::default() };
    let redis = Redis::with(&proxy.url(), options).unwrap();
    failure(store(&redis).read("k").await, StoreFailure::Timeout, "no connection within");
    fails_at_once(&redis, 10).await;
    proxy.turns(Weather::Fine);
    recovers(&redis).await;
}

#[tokio::test]
async fn sentinels_and_clusters_that_are_not_there_at_first_are_used_when_they_come() {
    servers!();
    let mut watched = Watched::start();
    let mut servers = cluster();
    let redis = [open(&watched.url()), open(&format!("redis+cluster://{},{}", servers[0].host(), servers[3].host()))];
    watched.sentinels.iter_mut().chain(&mut servers).for_each(Server::kill);
    for redis in &redis {
        let (result, took) = timed(store(redis).read("k")).await;
        failure(result, StoreFailure::Unreachable, "start the server, or correct host and port");
        assert!(took < BUDGET + SLACK, "{took:?}");
        fails_at_once(redis, 100).await;
    }
    watched.sentinels.iter_mut().chain(&mut servers).for_each(Server::run);
    for redis in &redis {
        until("its return", || works(redis)).await;
    }
}

#[tokio::test]
async fn a_store_that_is_dropped_in_an_outage_leaves_nobody_knocking() {
    servers!();
    let mut server = Server::start(&[]);
    server.kill();
    let listener = TcpListener::bind(("127.0.0.1", server.port)).await.unwrap();
    let redis = open(&server.url());
    assert!(store(&redis).read("k").await.is_err());
    let (first, _) = listener.accept().await.unwrap();
    drop((first, redis));
    // Whoever was on the way already may still come; then nobody does.
    while tokio::time::timeout(Duration::from_millis(600), listener.accept()).await.is_ok() {}
}
