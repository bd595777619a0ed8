//! What is wrong with a server or with us is said, with what to do about it; nobody hangs, and it is worth mending.

use crate::contract::{failure, fresh, until};
use crate::server::{Server, certificates, cluster, servers};
use crate::{open, open_patient, patient, store};
use samovar::io::store::Store;
use samovar::io::store::redis::tls::Tls;
use samovar::{Redis, RedisOptions, StoreFailure};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use StoreFailure::{Misconfigured, Refused, Unreachable};

#[tokio::test]
async fn a_password_that_is_wrong_or_missing_or_not_wanted_is_named() {
    servers!();
    let server = Server::start(&["--requirepass", "right"]);
    let at = |login: &str| format!("redis://{login}{}", server.host());
    for protocol in ["", "?protocol=2"] {
        for (login, says) in [("", "give the password"), (":wrong@", "correct user name and password")] {
            let redis = open(&format!("{}{protocol}", at(login)));
            failure(store(&redis).read("k").await, Misconfigured, says);
            failure(store(&redis).read("k").await, Misconfigured, says);
        }
        assert_eq!(store(&open(&format!("{}{protocol}", at(":right@")))).read("k").await.unwrap(), None);
    }
    let open_server = Server::start(&[]);
    let redis = open(&format!("redis://:secret@{}?protocol=2", open_server.host()));
    failure(store(&redis).read("k").await, Misconfigured, "leave the password out");
}

#[tokio::test]
async fn what_a_user_may_not_do_is_named() {
    servers!();
    let server = Server::start(&[]);
    server.command(&["ACL", "SETUSER", "weak", "on", ">pw", "~*", "-@all", "+get", "+hello", "+ping"]);
    let redis = open(&format!("redis://weak:pw@{}", server.host()));
    assert_eq!(store(&redis).read("k").await.unwrap(), None);
    failure(store(&redis).put("k", fresh("x"), None).await, Misconfigured, "let the ACL user run");
    assert_eq!(store(&redis).read("k").await.unwrap(), None, "it is well but for that");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    servers!();
    let server = Server::start(&["--databases", "2"]);
    failure(
        store(&open(&format!("{}/7", server.url()))).read("k").await,
        Misconfigured,
        "use a database the server has",
    );
}

#[tokio::test]
async fn what_speaks_something_else_is_named() {
    for greeting in
        ["HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9\r\n", "\0\0\0", "$-7\r\n", "*1000000000\r\n"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let redis = open_patient(&format!("redis://{}", listener.local_addr().unwrap()));
        let serve = async {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let _ = client.read(&mut [0; 100]).await;
                let _ = client.write_all(greeting.as_bytes()).await;
            }
        };
        let asked = async { store(&redis).read("k").await };
        let answer = tokio::select! { () = serve => unreachable!(), answer = asked => answer };
        let error = answer.expect_err(greeting);
        assert!(error.undone && matches!(error.kind, Misconfigured | Unreachable), "{greeting:?}: {error}");
    }
}

#[tokio::test]
async fn a_replica_alone_serves_reads_and_says_that_it_is_one() {
    servers!();
    let master = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let redis = open(&replica.url());
    until("its data", || async { store(&redis).read("k").await.is_ok() }).await;
    failure(store(&redis).put("k", fresh("x"), None).await, Misconfigured, "it is a replica");
    assert_eq!(store(&redis).read("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_server_without_room_refuses_and_serves_what_it_has() {
    servers!();
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let redis = open_patient(&server.url());
    store(&redis).put("k", fresh("x"), None).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    failure(store(&redis).put("k", fresh("y"), None).await, Refused, "raise its maxmemory");
    assert!(store(&redis).read("k").await.unwrap().is_some());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    store(&redis).put("k", fresh("z"), None).await.unwrap();
}

#[tokio::test]
async fn a_server_with_no_room_for_one_more_connection_is_asked_on_those_it_has() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    store(&redis).put("k", fresh("x"), None).await.unwrap();
    server.command(&["CONFIG", "SET", "maxclients", "1"]);
    let large = [fresh(""), vec![7; 100_000]].concat();
    store(&redis).put("large", large.clone(), None).await.unwrap();
    assert_eq!(store(&redis).read("large").await.unwrap().unwrap().frame(), large);
    // Its word may be lost with the connection that it ends.
    let error = store(&open_patient(&server.url())).read("k").await.unwrap_err();
    assert!(error.undone && error.to_string().contains("maxclients"), "{error}");
    assert_eq!(redis.tally().outages, 0);
}

#[tokio::test]
async fn a_server_that_is_loading_its_data_is_waited_for() {
    servers!();
    let mut server = Server::start(&[
        "--enable-debug-command",
        "yes",
        "--key-load-delay",
        "300",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    server.command(&["DEBUG", "POPULATE", "10000"]);
    server.command(&["SAVE"]);
    server.kill();
    let redis = open(&server.url());
    // It answers after 3 s, and is loading until then.
    let start = std::thread::spawn(move || {
        server.run();
        server
    });
    until("that it says so", || async {
        let asked = store(&redis).read("k").await;
        asked.is_err_and(|error| error.to_string().contains("wait until it has read its data"))
    })
    .await;
    until("the end of loading", || async { store(&redis).read("k").await.is_ok() }).await;
    drop(start.join());
}

#[tokio::test]
async fn what_does_not_fit_in_tls_is_named() {
    servers!();
    let folder = certificates();
    let pem = |name: &str| Some(std::fs::read(folder.0.join(name)).unwrap());
    let server = Server::tls(&folder.0, &["--tls-auth-clients", "no"]);
    let strict = Server::tls(&folder.0, &["--tls-auth-clients", "yes"]);
    let plain = Server::start(&[]);
    let own = Tls { ca: pem("ca.pem"), ..Tls::default() };
    let named = Tls { server_name: Some("cache.example".into()), ..own.clone() };
    let other = Tls { ca: pem("other-ca.pem"), ..Tls::default() };
    let cases = [
        ("rediss", &server, other, "give its PEM as tls.ca"),
        ("rediss", &server, named, "the server's certificate is for another name"),
        ("rediss", &plain, own.clone(), "not speak TLS on this port"),
        ("rediss", &strict, own.clone(), "may want a client certificate"),
        ("redis", &server, own.clone(), "rediss://"),
    ];
    for (scheme, server, tls, says) in cases {
        let redis = Redis::with(&format!("{scheme}://{}", server.host()), RedisOptions { tls, ..patient() }).unwrap();
        let error = store(&redis).read("k").await.expect_err(says);
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
    let redis = Redis::with(&format!("rediss://{}", server.host()), RedisOptions { tls: own, ..patient() }).unwrap();
    assert_eq!(store(&redis).read("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_named() {
    failure(store(&open("unix:///nowhere/redis.sock")).read("k").await, Unreachable, "correct the path of its socket");
    let redis = open_patient("redis://no-such-host.invalid");
    failure(store(&redis).read("k").await, Unreachable, "correct the host");
}

#[tokio::test]
async fn options_that_cannot_be_are_named() {
    let with = |options: RedisOptions| Redis::with("redis://localhost", options).unwrap_err().to_string();
    let base = RedisOptions::default;
    for (error, says) in [
        (with(RedisOptions { timeout: Duration::ZERO, ..base() }), "invalid timeout: 0ns"),
        (with(RedisOptions { connect_timeout: Duration::MAX, ..base() }), "invalid connect_timeout"),
        (with(RedisOptions { connections: 9, ..base() }), "invalid connections: 9; give 2 to 4"),
        (with(RedisOptions { client_name: Some("a b".into()), ..base() }), "invalid client_name"),
        (with(RedisOptions { username: Some("u".into()), ..base() }), "invalid username"),
    ] {
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_single_server_named_as_a_cluster_and_a_cluster_as_a_single_server_are_named() {
    servers!();
    let single = Server::start(&[]);
    let redis = open_patient(&format!("redis+cluster://{}", single.host()));
    failure(store(&redis).read("k").await, Misconfigured, "say redis:// for a single server");
    let alone = Server::start(&["--cluster-enabled", "yes"]);
    let redis = open_patient(&format!("redis+cluster://{}", alone.host()));
    failure(store(&redis).read("k").await, Misconfigured, "create the cluster");
    let servers = cluster();
    let keys: Vec<_> = (0..20).map(|number| format!("k{number}")).collect();
    let answers = store(&open_patient(&servers[0].url())).get_many(keys).await;
    let errors: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(!errors.is_empty() && errors.iter().all(|error| error.to_string().contains("say redis+cluster://")));
}

#[tokio::test]
async fn a_slot_that_nobody_has_is_named_and_the_others_work() {
    servers!();
    let servers = cluster();
    let options = |one: &Server| one.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    servers.iter().for_each(|one| assert!(options(one).starts_with("+OK")));
    // The slot of "foo" is 12182.
    servers.iter().for_each(|one| _ = one.command(&["CLUSTER", "DELSLOTS", "12182"]));
    let redis = open_patient(&format!("redis+cluster://{}", servers[0].host()));
    let error = store(&redis).read("foo").await.unwrap_err();
    assert!(error.undone && error.to_string().contains("--cluster fix"), "{error}");
    assert_eq!(store(&redis).read("bar").await.unwrap(), None);
}

#[tokio::test]
async fn a_service_that_no_sentinel_watches_is_named() {
    servers!();
    let sentinel = Server::sentinel("");
    let redis = open_patient(&format!("redis+sentinel://{}/other", sentinel.host()));
    failure(store(&redis).read("k").await, Misconfigured, r#"it watches no service "other""#);
}
