//! What holds on a server that is well: the contract on every kind of it, and what connections there are.

use crate::contract::{self, ANY, LIFE, MINUTE, fresh, holds, token};
use crate::server::{Server, Watched, certificates, cluster, servers};
use crate::{open, open_patient, patient, store};
use samovar::core::remote::cell::Under;
use samovar::core::remote::{Filled, Found, Version, Wanted};
use samovar::io::store::local::LocalStore;
use samovar::io::store::redis::tls::Tls;
use samovar::io::store::stored::Stored;
use samovar::io::store::{Action, Reply, Request, Store};
use samovar::{Redis, RedisOptions};

#[tokio::test]
async fn the_contract_holds_on_one_server_with_either_protocol_and_a_prefix() {
    servers!();
    let server = Server::start(&[]);
    holds(&open_patient(&server.url())).await;
    let options = RedisOptions { prefix: "a[b]*:".into(), ..patient() };
    holds(&Redis::with(&format!("{}/3?protocol=2", server.url()), options).unwrap()).await;
    assert!(server.command(&["INFO", "keyspace"]).contains("db3:"));
}

#[tokio::test]
async fn the_contract_holds_on_a_unix_socket() {
    servers!();
    let folder = crate::server::Folder::new();
    let path = folder.join("own socket");
    let server = Server::start(&["--unixsocket", &path]);
    holds(&open_patient(&format!("unix://{}?db=1", path.replace(' ', "%20")))).await;
    assert!(server.command(&["INFO", "keyspace"]).contains("db1:"));
}

#[tokio::test]
async fn the_contract_holds_over_tls_with_a_client_certificate() {
    servers!();
    let folder = certificates();
    let pem = |name: &str| Some(std::fs::read(folder.0.join(name)).unwrap());
    let server = Server::tls(&folder.0, &["--tls-auth-clients", "yes"]);
    let tls = Tls { ca: pem("ca.pem"), certificate: pem("client.pem"), key: pem("client.key"), ..Tls::default() };
    let options = RedisOptions { tls, ..patient() };
    holds(&Redis::with(&format!("rediss://localhost:{}", server.port), options).unwrap()).await;
}

#[tokio::test]
async fn the_contract_holds_on_a_cluster() {
    servers!();
    let servers = cluster();
    let redis = open_patient(&format!("redis+cluster://{},{}", servers[4].host(), servers[0].host()));
    holds(&redis).await;
    // One connection for small values and one for large to each master, and to a replica while it is asked for the map.
    let connections: Vec<_> = servers.iter().map(Server::connections).collect();
    assert!(connections[..3].iter().all(|&count| (1..=2).contains(&count)), "{connections:?}");
    assert_eq!(connections[3..], [0; 3]);
}

#[tokio::test]
async fn the_contract_holds_behind_sentinels() {
    servers!();
    let watched = Watched::start();
    holds(&open_patient(&watched.url())).await;
}

#[tokio::test]
async fn users_passwords_names_and_database_numbers_are_told_to_the_server() {
    servers!();
    let server = Server::start(&[]);
    server.command(&["ACL", "SETUSER", "app", "on", ">pa ss", "~*", "&*", "+@all"]);
    for (url, protocol) in [("", "resp=3"), ("?protocol=2", "resp=2")] {
        let url = format!("redis://app:pa%20ss@{}/2{url}", server.host());
        let options = RedisOptions { client_name: Some("web-1".into()), ..patient() };
        let redis = Redis::with(&url, options).unwrap();
        store(&redis).put("k", fresh("x"), None).await.unwrap();
        let list = server.command(&["CLIENT", "LIST"]);
        let line = list.lines().find(|line| line.contains("name=web-1")).expect("it has a name");
        assert!(["db=2", "user=app", protocol].iter().all(|text| line.contains(text)), "{line}");
    }
}

#[tokio::test]
async fn a_thousand_callers_share_two_connections_and_none_fails() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    for round in 0..3 {
        let callers: Vec<_> = (0..1000)
            .map(|number| {
                let redis = redis.clone();
                tokio::spawn(async move {
                    let (key, text) = (format!("k{number}"), format!("{round}:{number}"));
                    store(&redis).put(&key[..], fresh(&text), None).await.unwrap();
                    let found = store(&redis).read(&key[..]).await.unwrap().unwrap();
                    assert!(found.frame().ends_with(text.as_bytes()), "somebody else's answer");
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(server.connections(), 1);
    }
    store(&redis).put("large", vec![1; 100_000], None).await.unwrap();
    assert_eq!(server.connections(), 2);
    assert_eq!((redis.tally().connects, redis.tally().retries), (2, 0));
    drop(redis);
    contract::until("the end of its connections", || async { server.connections() == 0 }).await;
}

#[tokio::test]
async fn large_values_do_not_hold_up_small_ones() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    let large = [fresh(""), vec![7; 1_000_000]].concat();
    store(&redis).put("large", large.clone(), None).await.unwrap();
    store(&redis).put("small", fresh("x"), None).await.unwrap();
    let bytes = || {
        let list = server.command(&["CLIENT", "LIST"]);
        let lines = list.lines().filter(|line| line.contains("addr=") && !line.contains("cmd=client"));
        lines
            .map(|line| {
                (line.contains("cmd=get"), line.split("id=").nth(1).unwrap().split(' ').next().unwrap().to_owned())
            })
            .collect::<Vec<_>>()
    };
    // Which connection has carried a read last tells the lanes apart.
    store(&redis).put("small", fresh("y"), None).await.unwrap();
    let found = store(&redis).read("large").await.unwrap().unwrap();
    assert_eq!(found.frame(), large);
    let reads: Vec<_> = bytes().into_iter().filter(|(reads, _)| *reads).collect();
    assert_eq!((bytes().len(), reads.len()), (2, 1), "the large one is read where it was written");
}

#[tokio::test]
async fn one_store_serves_runtimes_and_threads_that_come_and_go() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    std::thread::scope(|scope| {
        for number in 0..4 {
            let redis = redis.clone();
            scope.spawn(move || {
                for round in 0..3 {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let (key, text) = (format!("{number}"), format!("{number}:{round}"));
                    let found = runtime.block_on(async {
                        store(&redis).put(&key[..], fresh(&text), None).await.unwrap();
                        // Left under way when its runtime goes.
                        let left = redis.clone();
                        tokio::spawn(async move { store(&left).read("nobody waits").await });
                        store(&redis).read(&key[..]).await.unwrap().unwrap()
                    });
                    assert!(found.frame().ends_with(text.as_bytes()));
                }
            });
        }
    });
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn ten_thousand_cancelled_questions_shift_no_answer() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    let keys: Vec<_> = (0..100).map(|number| (format!("k{number}"), fresh(&number.to_string()), None)).collect();
    store(&redis).set_many(keys).await;
    let mut draws = 7_u64;
    for round in 0..100 {
        let callers: Vec<_> = (0..100)
            .map(|number: usize| {
                let redis = redis.clone();
                tokio::spawn(async move {
                    let found = store(&redis).read(format!("k{number}")).await.unwrap().unwrap();
                    assert_eq!(found.frame()[20..], *number.to_string().as_bytes());
                })
            })
            .collect();
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        for caller in callers {
            draws = draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if draws >> 33 & 1 == 0 {
                caller.abort();
            }
            if let Err(error) = caller.await {
                assert!(error.is_cancelled(), "{error}");
            }
        }
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn what_is_there_of_another_kind_is_nothing_and_is_written_over() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    for key in ["list", "text", "cut", "later"] {
        let _ = match key {
            "list" => server.command(&["RPUSH", key, "x"]),
            "text" => server.command(&["SET", key, "hello"]),
            // An envelope that ends in the middle, and one of a later format.
            "cut" => server.command(&["SET", key, "SV\x01\x03abcdefgh"]),
            _ => server.command(&["SET", key, "SV\x02\x02abcdefgh0123456789012345678901234567890123456789"]),
        };
        assert_eq!(store(&redis).read(key).await.unwrap(), None, "{key}");
        let found = store(&redis).claim(key, token(1), ANY, LIFE).await.unwrap();
        assert_eq!(found, Found::Claimed(token(1), None), "{key}");
        let filled = store(&redis).fill(key, (Under::Claim(token(1)), None), fresh(key), None).await.unwrap();
        assert!(matches!(filled, Filled::Written(_)), "{key}");
        assert!(store(&redis).read(key).await.unwrap().unwrap().frame().ends_with(key.as_bytes()));
    }
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_told_again() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    for round in 0..3 {
        let puts = (0..100).map(|number| (format!("{round}:{number}"), fresh("x"), None));
        assert!(store(&redis).set_many(puts).await.iter().all(Result::is_ok));
        server.command(&["SCRIPT", "FLUSH"]);
    }
    let found = store(&redis).claim("k", token(1), ANY, LIFE).await.unwrap();
    assert_eq!(found, Found::Claimed(token(1), None));
    assert_eq!(redis.tally().retries, 0, "that is no failure");
}

/// A reply without its versions, which differ.
fn plain(answer: &Result<Reply, samovar::StoreError>) -> String {
    let stored = |stored: &Stored| String::from_utf8_lossy(&stored.frame()[20..]).into_owned();
    match answer {
        Ok(Reply::Read(found)) => format!("read {:?}", found.as_ref().map(stored)),
        Ok(Reply::Claimed(Found::Fresh(found))) => format!("fresh {}", stored(found)),
        Ok(Reply::Claimed(Found::Claimed(token, old))) => format!("claimed {token:?} {:?}", old.as_ref().map(stored)),
        Ok(Reply::Filled(Filled::Written(_)) | Reply::Written(_)) => "written".into(),
        Ok(Reply::Buried(_, there)) => format!("buried {there}"),
        Ok(Reply::Filled(Filled::Lost(found))) => format!("lost {}", stored(found)),
        other => format!("{other:?}"),
    }
}

fn version(answer: &Result<Reply, samovar::StoreError>) -> Option<Version> {
    match answer {
        Ok(Reply::Filled(Filled::Written(version)) | Reply::Written(version) | Reply::Buried(version, _)) => {
            Some(*version)
        }
        _ => None,
    }
}

/// The scripts do what the machine in the core does, which the simulator plays: the same random requests, the same answers.
#[tokio::test]
async fn a_server_answers_as_the_machine_does() {
    servers!();
    let server = Server::start(&[]);
    let stores: [Box<dyn Store>; 2] = [Box::new(open_patient(&server.url())), Box::new(LocalStore::default())];
    let mut draws = 11_u64;
    let mut below = |limit: usize| {
        draws = draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (draws >> 33) as usize % limit
    };
    // What each store has written, in the same order.
    let mut versions: Vec<[Version; 2]> = vec![[Version(1); 2]];
    for step in 0..3000 {
        let (key, number) = (format!("k{}", below(3)).into_bytes(), token(below(3) as u128));
        let seen = versions[versions.len() - 1 - below(versions.len().min(4))];
        let (kind, known, stale, claim) = (below(12), below(3) == 0, below(3) == 0, below(2) == 0);
        let text = step.to_string();
        let frame = if stale { contract::stale(&text) } else { fresh(&text) };
        let mut answers = Vec::new();
        for (at, store) in stores.iter().enumerate() {
            let newer_than = known.then_some(seen[at]);
            let action = match kind {
                0..3 => Action::Claim { token: number, wanted: Wanted::Newer(newer_than), life: LIFE },
                3 => Action::Claim { token: number, wanted: Wanted::Anew, life: LIFE },
                4..7 => {
                    let under = match (claim, kind) {
                        (true, _) => Under::Claim(number),
                        (_, 4) => Under::Nothing,
                        (_, 5) => Under::Something,
                        _ => Under::Version(seen[at]),
                    };
                    Action::Fill { under, newer_than, frame: frame.clone(), keep: Some(MINUTE), tell: None }
                }
                7 => Action::Put { frame: frame.clone(), keep: None, tell: None },
                8 => Action::Invalidate { keep: MINUTE, by: None, tell: None },
                9 => Action::Renew { token: number, life: LIFE },
                10 if claim => Action::Release { token: number },
                10 => Action::Delete,
                _ => Action::Read,
            };
            answers.push(store.ask(vec![Request { key: key.clone().into(), action }]).await.remove(0));
        }
        assert_eq!(plain(&answers[0]), plain(&answers[1]), "step {step}, kind {kind}");
        if let [Some(one), Some(other)] = [version(&answers[0]), version(&answers[1])] {
            versions.push([one, other]);
        }
    }
    assert!(versions.len() > 300);
}

#[tokio::test]
async fn a_closed_store_says_so_and_leaves_no_connection() {
    servers!();
    let server = Server::start(&[]);
    let redis = open(&server.url());
    store(&redis).put("k", fresh("x"), None).await.unwrap();
    redis.close();
    contract::failure(store(&redis).read("k").await, samovar::StoreFailure::Unreachable, "closed");
    contract::until("the end of its connections", || async { server.connections() == 0 }).await;
}
