//! What one handle does, others hear: in order, each once, and it is known when something may have been missed.

use crate::contract::{NOTHING, fresh, stale, token, until};
use crate::proxy::{Proxy, Weather};
use crate::server::{self, Server, servers, wait_for};
use crate::{open_patient, patient, store};
use samovar::core::coherence::message::{Message, What};
use samovar::core::coherence::{How, Move, Name, Origin};
use samovar::core::remote::cell::{Framed, Under};
use samovar::core::remote::{Filled, Version, Wanted};
use samovar::io::store::ear::{Ear, Listening, News};
use samovar::io::store::{Action, Reply, Store, Tell};
use samovar::{Redis, RedisOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

const CACHE: &[u8] = b"shop";
const HERE: Origin = Origin(1);
const THERE: Origin = Origin(2);
const MINUTE: Duration = Duration::from_secs(60);

struct Sender(UnboundedSender<News>);

impl Ear for Sender {
    fn hear(&self, news: News) {
        // The test may be over.
        let _ = self.0.send(news);
    }
}

/// Somebody who listens, and what they have heard.
struct Listener {
    heard: UnboundedReceiver<News>,
    _listening: Listening,
}

impl Listener {
    /// From when nothing is missed any more.
    async fn begin(redis: &Redis, cache: &[u8], origin: Origin, external: bool) -> Self {
        let mut listener = Self::open(redis, cache, origin, external);
        listener.is_proven().await;
        listener
    }

    fn open(redis: &Redis, cache: &[u8], origin: Origin, external: bool) -> Self {
        let (sender, heard) = unbounded_channel();
        let listening = redis.listen(cache, origin, external, Arc::new(Sender(sender))).expect("it has a bus");
        Listener { heard, _listening: listening }
    }

    async fn any(&mut self) -> News {
        timeout(Duration::from_secs(20), self.heard.recv()).await.expect("nothing is heard").expect("it listens")
    }

    /// What comes next, but for what is said again and again.
    async fn next(&mut self) -> News {
        loop {
            match self.any().await {
                News::Proven { told: None, .. } => {}
                news => return news,
            }
        }
    }

    /// What comes next, with what is passed over: Touched, which comes for own writes too.
    async fn is_proven(&mut self) -> u64 {
        loop {
            match self.next().await {
                News::Proven { told: Some(told), until } => {
                    assert!(until <= Instant::now() + Duration::from_secs(2));
                    return told.birth;
                }
                News::Lost | News::Touched { .. } => {}
                news => panic!("{news:?}"),
            }
        }
    }

    async fn is_lost(&mut self) {
        loop {
            match self.next().await {
                News::Lost => return,
                News::Touched { .. } => {}
                news => panic!("{news:?}"),
            }
        }
    }

    /// Nothing has come that was not waited for.
    fn has_heard_all(&mut self) {
        while let Ok(news) = self.heard.try_recv() {
            assert!(matches!(news, News::Proven { told: None, .. }), "{news:?}");
        }
    }
}

fn tell(origin: Origin) -> Option<Arc<Tell>> {
    Some(Arc::new(Tell { cache: CACHE.to_vec(), origin }))
}

async fn put(redis: &Redis, key: &str, origin: Origin) -> Version {
    let action = Action::Put { frame: fresh(key), keep: Some(MINUTE), tell: tell(origin) };
    match store(redis).ask_one(key, action).await.unwrap() {
        Reply::Written(version) => version,
        other => panic!("{other:?}"),
    }
}

fn changed(key: &str, version: Version) -> News {
    News::Changed { key: key.into(), version }
}

async fn shift(redis: &Redis, names: &[Name], how: How, origin: Origin) -> u64 {
    store(redis).move_registers(CACHE, names.to_vec(), how, origin).await.unwrap()
}

/// A handle of its own finds out by itself who has taken over.
async fn has_found_out(there: &Redis) {
    let keys = || (0..30).map(|number| (format!("shop::{number}"), fresh("x"), None));
    let all = || async { store(there).set_many(keys()).await.iter().all(Result::is_ok) };
    until("the new master", all).await;
}

/// Does one of each kind from there, and hears it here in order.
async fn hears_all(listener: &mut Listener, there: &Redis, key: &str) {
    let version = put(there, key, THERE).await;
    assert_eq!(listener.next().await, changed(key, version));
    put(there, key, HERE).await;
    let keep = MINUTE;
    let buried = store(there).ask_one(key, Action::Invalidate { keep, by: None, tell: tell(THERE) }).await;
    let Ok(Reply::Buried(buried, true)) = buried else { panic!("{buried:?}") };
    assert!(buried > version);
    assert_eq!(listener.next().await, changed(key, buried));
    let (frame, keep) = (fresh("by hand"), None);
    let fill = Action::Fill { under: Under::Nothing, newer_than: None, frame, keep, tell: tell(THERE) };
    let filled = store(there).ask_one(key, fill).await;
    let Ok(Reply::Filled(Filled::Written(filled))) = filled else { panic!("{filled:?}") };
    assert_eq!(listener.next().await, changed(key, filled));
    let names = vec![Name::new("a:b", "тег\0:*"), Name::new("", "")];
    let at = shift(there, &names, How::Stale, THERE).await;
    assert_eq!(listener.next().await, News::Moved(Move { names, how: How::Stale, at }));
    listener.has_heard_all();
}

#[tokio::test]
async fn what_others_do_is_heard_in_order_and_once_and_own_deeds_are_not() {
    servers!();
    let server = Server::start(&[]);
    for (prefix, database) in [("", 0), ("eu:", 3)] {
        let options = || RedisOptions { prefix: prefix.into(), ..patient() };
        let url = format!("{}/{database}", server.url());
        let (here, there) = (Redis::with(&url, options()).unwrap(), Redis::with(&url, options()).unwrap());
        let mut listener = Listener::begin(&here, CACHE, HERE, false).await;
        hears_all(&mut listener, &there, "shop::k").await;
        // Own deeds are not told, and what comes after them shows that they were counted.
        put(&here, "shop::k", HERE).await;
        shift(&here, &[Name::new("", "a")], How::Gone, HERE).await;
        let mut versions = Vec::new();
        for round in 0..200 {
            versions.push((format!("shop::{}", round % 7), put(&there, &format!("shop::{}", round % 7), THERE).await));
        }
        for (key, version) in versions {
            assert_eq!(listener.next().await, changed(&key, version));
        }
        assert!(matches!(listener.any().await, News::Proven { told: None, .. }), "the counts agree");
        listener.has_heard_all();
        assert_eq!((here.tally().lost, here.tally().unheard, there.tally().untold), (0, 0, 0));
    }
}

#[tokio::test]
async fn nobody_is_told_of_loads_and_claims_nor_of_another_cache_or_database() {
    servers!();
    let server = Server::start(&[]);
    let (here, there) = (open_patient(&server.url()), open_patient(&format!("{}/1", server.url())));
    let mut listener = Listener::begin(&here, CACHE, HERE, false).await;
    let (one, other) = (store(&here), store(&there));
    one.claim("shop::k", token(1), Wanted::Newer(None), MINUTE).await.unwrap();
    assert!(one.renew("shop::k", token(1), MINUTE).await.unwrap());
    one.fill("shop::k", (Under::Claim(token(1)), None), fresh("x"), None).await.unwrap();
    one.claim("shop::l", token(1), Wanted::Newer(None), MINUTE).await.unwrap();
    assert!(one.release("shop::l", token(1)).await.unwrap());
    one.put("shop::k", stale("untold"), None).await.unwrap();
    put(&there, "shop::k", THERE).await;
    let elsewhere = Some(Arc::new(Tell { cache: b"shop2".to_vec(), origin: THERE }));
    let action = Action::Put { frame: fresh("x"), keep: None, tell: elsewhere };
    one.ask_one("shop2::k", action).await.unwrap();
    other.registers(CACHE, NOTHING).await.unwrap();
    let version = put(&here, "shop::k", THERE).await;
    assert_eq!(listener.next().await, changed("shop::k", version));
    listener.has_heard_all();
}

#[tokio::test]
async fn a_write_is_one_message_whoever_listens() {
    servers!();
    let server = Server::start(&[]);
    let (here, there) = (open_patient(&server.url()), open_patient(&server.url()));
    let mut listeners = Vec::new();
    for number in 0..3 {
        listeners.push(Listener::begin(&here, CACHE, Origin(10 + number), false).await);
    }
    let published = || {
        let stats = server.command(&["INFO", "commandstats"]);
        let line = stats.lines().find(|line| line.starts_with("cmdstat_publish:")).unwrap_or("calls=0,").to_owned();
        let calls = line.split("calls=").nth(1).and_then(|rest| rest.split(',').next());
        calls.and_then(|calls| calls.parse::<u64>().ok()).unwrap()
    };
    let before = published();
    let version = put(&there, "shop::k", THERE).await;
    for listener in &mut listeners {
        assert_eq!(listener.next().await, changed("shop::k", version));
        listener.has_heard_all();
    }
    assert_eq!(published() - before, 1);
    assert!(server.command(&["PUBSUB", "NUMSUB", "shop%bus0"]).contains(":1"), "one connection hears for all");
    // One leaves, the others go on hearing; with the last the connection goes.
    drop(listeners.pop());
    let version = put(&there, "shop::k", THERE).await;
    assert_eq!(listeners[0].next().await, changed("shop::k", version));
    drop(listeners);
    wait_for("the end of the connection", || server.command(&["PUBSUB", "NUMSUB", "shop%bus0"]).contains(":0"));
}

#[tokio::test]
async fn nothing_is_opened_before_somebody_listens() {
    servers!();
    let server = Server::start(&[]);
    let here = open_patient(&server.url());
    put(&here, "shop::k", HERE).await;
    let before = server.connections();
    let list = server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    assert!(!list.contains("addr="), "{list}");
    let _listener = Listener::begin(&here, CACHE, HERE, false).await;
    assert_eq!(server.connections(), before, "those for values are what they were");
}

#[tokio::test]
async fn a_connection_that_is_killed_is_lost_and_proven_anew() {
    servers!();
    let server = Server::start(&[]);
    let (here, there) = (open_patient(&server.url()), open_patient(&server.url()));
    let mut listener = Listener::begin(&here, CACHE, HERE, false).await;
    for _ in 0..3 {
        assert!(server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).starts_with(":1"));
        listener.is_lost().await;
        listener.is_proven().await;
        hears_all(&mut listener, &there, "shop::k").await;
    }
    assert_eq!(here.tally().lost, 3);
}

#[tokio::test]
async fn a_server_that_is_restarted_or_flushed_has_another_clock() {
    servers!();
    let mut server = Server::start(&[]);
    let (here, there) = (open_patient(&server.url()), open_patient(&server.url()));
    let mut listener = Listener::open(&here, CACHE, HERE, false);
    let mut birth = listener.is_proven().await;
    for what in 0..3 {
        match what {
            0 => drop(server.command(&["FLUSHALL"])),
            1 => drop(server.command(&["DEL", "shop"])),
            _ => {
                server.kill();
                listener.is_lost().await;
                server.run();
            }
        }
        if what < 2 {
            listener.is_lost().await;
        }
        let again = listener.is_proven().await;
        assert!(again > birth, "it was born anew");
        birth = again;
        wait_for("an answer", || server.says(&["PING"], "PONG"));
        hears_all(&mut listener, &there, "shop::k").await;
    }
}

#[tokio::test]
async fn messages_that_are_not_what_they_seem_do_no_harm() {
    servers!();
    let server = Server::start(&[]);
    let (here, there) = (open_patient(&server.url()), open_patient(&server.url()));
    let mut listener = Listener::begin(&here, CACHE, HERE, false).await;
    let publish = |bytes: &[u8]| assert_eq!(server.publish("shop%bus0", bytes), 1);
    let message = |number, stamp| {
        let what = What::Changed { key: b"shop::k".to_vec() };
        Message { origin: Origin(99), number, stamp, what }.to_bytes().unwrap()
    };
    // Somebody else's: counted, and that is all.
    publish(b"hello");
    assert_eq!(listener.next().await, News::Strange);
    // Forged by one who knows how, and heard before: it is believed, which costs at most a load.
    publish(&message(0, 7));
    assert_eq!(listener.next().await, changed("shop::k", Version(7)));
    let version = put(&there, "shop::k", THERE).await;
    assert_eq!(listener.next().await, changed("shop::k", version));
    publish(&message(1, version.0));
    assert_eq!(listener.next().await, changed("shop::k", version));
    // With a number that is ahead: something may have been missed.
    publish(&message(77, 7));
    assert_eq!(listener.next().await, changed("shop::k", Version(7)));
    assert_eq!(listener.next().await, News::Lost);
    listener.is_proven().await;
    // One of ours, cut: it may have been anything.
    let whole = message(2, 7);
    let never = message(2, 1 << 53);
    for bytes in [&whole[..3], &whole[..20], &whole[..whole.len() - 1], &never] {
        publish(bytes);
        assert_eq!(listener.next().await, News::Strange);
        assert_eq!(listener.next().await, News::Lost);
        listener.is_proven().await;
    }
    assert_eq!(here.tally().lost, 5);
    hears_all(&mut listener, &there, "shop::k").await;
}

#[tokio::test]
async fn a_connection_that_freezes_is_lost_before_its_promise_ends() {
    servers!();
    let server = Server::start(&[]);
    let proxy = Proxy::new(server.port).await;
    let (here, there) = (open_patient(&proxy.url()), open_patient(&server.url()));
    let mut listener = Listener::open(&here, CACHE, HERE, false);
    let mut until = loop {
        if let News::Proven { until, .. } = listener.any().await {
            break until;
        }
    };
    proxy.turns(Weather::BlackHole);
    let frozen = Instant::now();
    put(&there, "shop::k", THERE).await;
    loop {
        match listener.any().await {
            // What was on its way.
            News::Proven { until: next, .. } => until = next,
            News::Lost => break,
            news => panic!("{news:?}"),
        }
    }
    // Asked before it froze, but for the moment that it takes to tell it so.
    assert!(until <= frozen + Duration::from_millis(2100), "{:?}", until - frozen);
    listener.has_heard_all();
    proxy.turns(Weather::Fine);
    listener.is_proven().await;
    hears_all(&mut listener, &there, "shop::k").await;
}

#[tokio::test]
async fn what_anybody_writes_is_heard_by_who_asks_for_it() {
    servers!();
    let server = Server::start(&[]);
    let options = || RedisOptions { prefix: "eu:".into(), ..patient() };
    let (here, there) =
        (Redis::with(&server.url(), options()).unwrap(), Redis::with(&server.url(), options()).unwrap());
    let mut listener = Listener::begin(&here, CACHE, HERE, true).await;
    let mut other = Listener::begin(&here, b"shop2", HERE, true).await;
    let mut deaf = Listener::begin(&here, CACHE, HERE, false).await;
    let touched = || News::Touched { key: b"shop::k".to_vec() };
    server.command(&["SET", "eu:shop::k", "by hand", "PX", "80"]);
    assert_eq!(listener.next().await, touched());
    assert_eq!(listener.next().await, touched(), "it has expired");
    server.command(&["SET", "eu:shop::k", "again"]);
    assert_eq!(listener.next().await, touched());
    server.command(&["DEL", "eu:shop::k"]);
    assert_eq!(listener.next().await, touched());
    for key in ["eu:shop2::k", "eu:shop", "shop::k", "eu:shopping::k"] {
        server.command(&["SET", key, "not ours"]);
    }
    assert_eq!(other.next().await, News::Touched { key: b"shop2::k".to_vec() });
    let version = put(&there, "shop::k", THERE).await;
    // Both ways, in whatever order.
    let mut both = [listener.next().await, listener.next().await];
    both.sort_by_key(|news| matches!(news, News::Touched { .. }));
    assert_eq!(both, [changed("shop::k", version), touched()]);
    assert_eq!(deaf.next().await, changed("shop::k", version));
    server.command(&["FLUSHDB"]);
    listener.is_lost().await;
    listener.is_proven().await;
    server.command(&["SET", "eu:shop::k", "after"]);
    assert_eq!(listener.next().await, touched());
}

#[tokio::test]
async fn in_a_cluster_writes_at_each_server_are_heard() {
    servers!();
    let mut servers = server::cluster();
    let url = format!("redis+cluster://{}", servers[0].host());
    let (here, there) = (open_patient(&url), open_patient(&url));
    let mut listener = Listener::begin(&here, CACHE, HERE, true).await;
    for number in 0..30 {
        let key = format!("shop::{number}");
        let version = put(&there, &key, THERE).await;
        // It comes from each server, and as a touch from one.
        let mut touched = 0;
        let mut copies = 0;
        while copies < 3 || touched < 1 {
            match listener.next().await {
                News::Changed { key: of, version: at } if of == key.as_bytes() => {
                    copies += 1;
                    assert_eq!(at, version);
                }
                News::Touched { key: of } if of == key.as_bytes() => touched += 1,
                news => panic!("{news:?}"),
            }
        }
    }
    let at = shift(&there, &[Name::new("", "a")], How::Gone, THERE).await;
    for _ in 0..3 {
        let names = vec![Name::new("", "a")];
        assert_eq!(listener.next().await, News::Moved(Move { names, how: How::Gone, at }));
    }
    // A move is counted, and the count is confirmed.
    while !matches!(listener.any().await, News::Proven { told: None, .. }) {}
    assert!(matches!(listener.any().await, News::Proven { told: None, .. }));
    assert_eq!(here.tally().lost, 0);
    servers[1].kill();
    listener.is_lost().await;
    listener.is_proven().await;
    has_found_out(&there).await;
    for number in 0..30 {
        put(&there, &format!("shop::{number}"), THERE).await;
        while !matches!(listener.next().await, News::Changed { key, .. } if key == format!("shop::{number}").as_bytes())
        {
        }
    }
}

#[tokio::test]
async fn behind_sentinels_the_new_master_is_heard() {
    servers!();
    let mut watched = server::Watched::start();
    let (here, there) = (open_patient(&watched.url()), open_patient(&watched.url()));
    let mut listener = Listener::begin(&here, CACHE, HERE, false).await;
    hears_all(&mut listener, &there, "shop::k").await;
    watched.servers[0].kill();
    listener.is_lost().await;
    listener.is_proven().await;
    has_found_out(&there).await;
    hears_all(&mut listener, &there, "shop::k").await;
}

#[tokio::test]
async fn a_server_that_forbids_the_bus_serves_values_all_the_same() {
    servers!();
    let server = Server::start(&[]);
    for (user, rights) in [("deaf", "-subscribe"), ("mute", "-publish"), ("shut", "resetchannels")] {
        server.command(&["ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", rights]);
    }
    let open = |user: &str| {
        let options = RedisOptions { username: Some(user.into()), password: Some("pw".into()), ..patient() };
        Redis::with(&server.url(), options).unwrap()
    };
    let there = open_patient(&server.url());
    for user in ["deaf", "shut"] {
        let deaf = open(user);
        let mut listener = Listener::open(&deaf, CACHE, HERE, false);
        wait_for("a refusal", || deaf.tally().unheard > 0);
        assert!(deaf.why_deaf().unwrap().to_string().contains("NOPERM"), "{:?}", deaf.why_deaf());
        put(&there, "shop::k", THERE).await;
        let version = put(&deaf, "shop::k", HERE).await;
        assert_eq!(store(&deaf).read("shop::k").await.unwrap().unwrap().version(), version);
        assert!(listener.heard.try_recv().is_err());
        assert_eq!(deaf.tally().untold, u64::from(user == "shut"));
    }
    // What could not be told is counted, so that others find out.
    let mute = open("mute");
    let mut listener = Listener::begin(&there, CACHE, THERE, false).await;
    put(&mute, "shop::k", HERE).await;
    shift(&mute, &[Name::new("", "a")], How::Gone, HERE).await;
    assert_eq!(mute.tally().untold, 2);
    listener.is_lost().await;
    listener.is_proven().await;
}

#[tokio::test]
async fn a_bus_ends_with_its_store() {
    servers!();
    let server = Server::start(&[]);
    let here = open_patient(&server.url());
    let mut listener = Listener::begin(&here, CACHE, HERE, false).await;
    here.close();
    listener.is_lost().await;
    wait_for("the end of the connection", || server.command(&["PUBSUB", "NUMSUB", "shop%bus0"]).contains(":0"));
    let mut late = Listener::open(&here, CACHE, HERE, false);
    assert!(late.heard.try_recv().is_err());
}

#[tokio::test]
async fn a_bus_speaks_as_its_store_does() {
    servers!();
    let folder = server::Folder::new();
    let socket = folder.join("socket");
    let server = Server::start(&["--unixsocket", &socket, "--requirepass", "secret"]);
    let options = || RedisOptions { password: Some("secret".into()), client_name: Some("web-1".into()), ..patient() };
    let here = Redis::with(&format!("unix://{socket}?protocol=2"), options()).unwrap();
    let there = Redis::with(&format!("{}?protocol=2", server.url()), options()).unwrap();
    let mut listener = Listener::begin(&here, CACHE, HERE, false).await;
    hears_all(&mut listener, &there, "shop::k").await;
    let list = there_says(&server, &["CLIENT", "LIST", "TYPE", "pubsub"]);
    assert!(list.contains("name=web-1") && list.contains("resp=3"), "{list}");
    let certificates = server::certificates();
    let server = Server::tls(&certificates.0, &[]);
    let pem = |name: &str| Some(std::fs::read(certificates.0.join(name)).unwrap());
    let tls = samovar::io::store::redis::tls::Tls {
        ca: pem("ca.pem"),
        certificate: pem("client.pem"),
        key: pem("client.key"),
        server_name: None,
    };
    let options = || RedisOptions { tls: tls.clone(), ..patient() };
    let url = format!("rediss://localhost:{}", server.port);
    let (here, there) = (Redis::with(&url, options()).unwrap(), Redis::with(&url, options()).unwrap());
    let mut listener = Listener::begin(&here, CACHE, HERE, false).await;
    hears_all(&mut listener, &there, "shop::k").await;
}

/// What a server with a password says.
fn there_says(server: &Server, words: &[&str]) -> String {
    let port = server.port.to_string();
    let done =
        std::process::Command::new("redis-cli").args(["-p", &port, "-a", "secret"]).args(words).output().unwrap();
    String::from_utf8_lossy(&done.stdout).into_owned()
}
