//! Reads that go to a server as one: each key has its own answer, whatever the server says to all of them.

use crate::contract::fresh;
use crate::proxy::{Proxy, Weather};
use crate::server::{Server, cluster, servers};
use crate::{open_patient, store};
use samovar::StoreFailure::{Misconfigured, Refused, Unreachable};
use samovar::io::store::Store;
use samovar::{Redis, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What was found under these keys: the text of each frame, nothing, or the error.
async fn read<K: Into<Vec<u8>>>(redis: &Redis, keys: impl IntoIterator<Item = K>) -> Vec<Result<String, StoreError>> {
    let text = |frame: &[u8]| String::from_utf8_lossy(&frame[20..]).into_owned();
    let answers = store(redis).get_many(keys).await;
    let said =
        |found: Option<samovar::io::store::stored::Stored>| found.map_or("-".into(), |found| text(found.frame()));
    answers.into_iter().map(|answer| answer.map(said)).collect()
}

fn words(answers: Vec<Result<String, StoreError>>) -> Vec<String> {
    answers.into_iter().map(Result::unwrap).collect()
}

/// How often a server was asked this, whether it did it or not.
fn calls(server: &Server, command: &str) -> usize {
    let told = server.command(&["INFO", "commandstats"]);
    let fields = told.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
    let counts = fields.unwrap_or_default().split(',').filter_map(|field| {
        field.strip_prefix("calls=").or_else(|| field.strip_prefix("rejected_calls="))?.parse::<usize>().ok()
    });
    counts.sum()
}

#[tokio::test]
async fn many_keys_are_read_by_few_commands_and_counted_one_by_one() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    let key = |number: usize| format!("k{number}");
    store(&redis).set_many((0..1000).map(|number| (key(number), fresh(&number.to_string()), None))).await;
    // Writing looks at what is there.
    server.command(&["CONFIG", "RESETSTAT"]);
    // Two commands of 256 keys, and one that is left over.
    let found = words(read(&redis, (0..513).rev().map(key)).await);
    assert!(found.into_iter().eq((0..513).rev().map(|number: usize| number.to_string())));
    assert_eq!((calls(&server, "mget"), calls(&server, "get")), (2, 1));
    assert_eq!(words(read(&redis, ["k7", "none", "k7"]).await), ["7", "-", "7"]);
    let tally = redis.tally();
    assert_eq!((tally.reads, tally.found, tally.retries), (516, 515, 0));
}

#[tokio::test]
async fn what_is_there_of_another_kind_is_nothing_among_others() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    store(&redis).put("k", fresh("x"), None).await.unwrap();
    server.command(&["RPUSH", "list", "x"]);
    server.command(&["SET", "text", "hello"]);
    assert_eq!(words(read(&redis, ["list", "k", "text", "none", "k"]).await), ["-", "x", "-", "-", "x"]);
    assert_eq!(calls(&server, "mget"), 1);
}

#[tokio::test]
async fn a_key_that_may_not_be_read_hides_no_other() {
    servers!();
    let server = Server::start(&[]);
    let owner = open_patient(&server.url());
    store(&owner).set_many(["own:1", "own:2", "theirs"].map(|key| (key, fresh(key), None))).await;
    for (user, may) in [("narrow", "+mget"), ("old", "+ping")] {
        server.command(&["ACL", "SETUSER", user, "on", ">pw", "~own:*", "-@all", "+get", "+hello", "+ping", may]);
        let redis = open_patient(&format!("redis://{user}:pw@{}", server.host()));
        let found = read(&redis, ["own:1", "theirs", "own:2"]).await;
        let [Ok(one), Err(refused), Ok(two)] = &found[..] else { panic!("{user}: {found:?}") };
        assert_eq!((&one[..], refused.kind, &two[..]), ("own:1", Misconfigured, "own:2"));
        assert!(refused.to_string().contains("let the ACL user"), "{refused}");
        let before = calls(&server, "mget");
        assert_eq!(words(read(&redis, ["own:1", "own:2"]).await), ["own:1", "own:2"]);
        assert_eq!((calls(&server, "mget"), redis.tally().retries), (before, 0), "it was refused once");
        assert!(before > 0, "{user}");
    }
}

/// A server that says this to MGET and that to GET, and how often it was asked the first.
async fn liar(together: &'static str, alone: &'static str) -> (Redis, Arc<AtomicUsize>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redis = open_patient(&format!("redis://{}", listener.local_addr().unwrap()));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let serving = tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(lie(client, together, alone, count));
        }
    });
    (redis, asked, serving)
}

async fn lie(mut client: TcpStream, together: &str, alone: &str, count: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = client.read(&mut buffer).await {
        // What is asked here is so short that it comes as a whole.
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let commands = text.split("\r\n").filter_map(|word| match word {
            "MGET" => {
                count.fetch_add(1, Relaxed);
                Some(together)
            }
            "GET" => Some(alone),
            "HELLO" | "CLIENT" | "PING" => Some("+OK\r\n"),
            _ => None,
        });
        let said: String = commands.collect();
        if client.write_all(said.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn what_a_server_says_to_all_is_said_of_each() {
    for (says, kind, text, tried) in [
        ("-LOADING it is\r\n", Unreachable, "wait until it has read its data", 4),
        ("-READONLY it is\r\n", Misconfigured, "it is a replica", 4),
        ("-MASTERDOWN it is\r\n", Unreachable, "link to the master", 4),
        ("-OOM it is\r\n", Refused, "raise its maxmemory", 1),
        ("-NOPERM it is\r\n", Misconfigured, "let the ACL user", 1),
        ("-ERR unknown command 'MGET'\r\n", Misconfigured, "use Redis 7.0", 1),
        ("-ERR odd\r\n", Refused, "see its documentation", 1),
    ] {
        let (redis, asked, serving) = liar(says, says).await;
        let answers = read(&redis, ["a", "b", "c"]).await;
        assert_eq!(answers.len(), 3);
        for answer in answers {
            let error = answer.expect_err(says);
            assert!(error.kind == kind && error.to_string().contains(text), "{says:?}: {error}");
        }
        assert_eq!(asked.load(Relaxed), tried, "{says:?}");
        serving.abort();
    }
}

#[tokio::test]
async fn a_command_that_is_refused_is_asked_for_once_and_each_key_by_itself_from_then_on() {
    let (redis, asked, serving) = liar("-ERR unknown command 'MGET'\r\n", "$-1\r\n").await;
    for _ in 0..3 {
        assert_eq!(words(read(&redis, ["a", "b", "c"]).await), ["-"; 3]);
    }
    assert_eq!(asked.load(Relaxed), 1);
    serving.abort();
}

#[tokio::test]
async fn what_is_no_answer_to_all_is_none_to_any() {
    let bad =
        ["*2\r\n$-1\r\n$-1\r\n", "*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n", "*0\r\n", "*-1\r\n", "$-1\r\n", "$1\r\nx\r\n"];
    for says in
        bad.into_iter().chain([":3\r\n", "+OK\r\n", "%1\r\n$1\r\na\r\n$1\r\nb\r\n", "~3\r\n$-1\r\n$-1\r\n$-1\r\n"])
    {
        let (redis, _, serving) = liar(says, "$-1\r\n").await;
        let answers = read(&redis, ["a", "b", "c"]).await;
        assert!(answers.len() == 3 && answers.iter().all(|answer| answer.is_err()), "{says:?}: {answers:?}");
        serving.abort();
    }
    // What is wrong with one is wrong with that one.
    let (redis, _, serving) = liar("*3\r\n$-1\r\n:7\r\n_\r\n", "$-1\r\n").await;
    let answers = read(&redis, ["a", "b", "c"]).await;
    let [Ok(first), Err(second), Ok(third)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((&first[..], &third[..]), ("-", "-"));
    assert!(second.to_string().contains("an answer to another question"), "{second}");
    serving.abort();
    let (redis, _, serving) = liar("*3\r\n$-1\r\nHTTP/1.1\r\n", "$-1\r\n").await;
    assert!(read(&redis, ["a", "b", "c"]).await.iter().all(|answer| answer.is_err()));
    serving.abort();
}

#[tokio::test]
async fn an_answer_that_is_cut_anywhere_is_asked_for_again() {
    servers!();
    let server = Server::start(&[]);
    let proxy = Proxy::new(server.port).await;
    let redis = open_patient(&proxy.url());
    let keys = ["a", "b", "none", "c"];
    store(&redis).set_many(["a", "b", "c"].map(|key| (key, fresh(key), None))).await;
    let frame = 12 + fresh("a").len();
    let length = "*4\r\n".len() + 3 * (format!("${frame}\r\n").len() + frame + 2) + "_\r\n".len();
    for after in 0..length {
        proxy.turns(Weather::Cut(after));
        assert_eq!(words(read(&redis, keys).await), ["a", "b", "-", "c"], "after {after}");
        assert_eq!(redis.tally().retries, 4 * (after as u64 + 1), "after {after}");
    }
    proxy.turns(Weather::Cut(length));
    assert_eq!(words(read(&redis, keys).await), ["a", "b", "-", "c"], "all of it");
    assert_eq!(redis.tally().retries, 4 * length as u64);
}

#[tokio::test]
async fn keys_of_many_slots_are_read_from_the_servers_that_have_them() {
    servers!();
    let servers = cluster();
    let redis = open_patient(&format!("redis+cluster://{}", servers[0].host()));
    let key = |number: usize| format!("k{number}");
    store(&redis).set_many((0..300).map(|number| (key(number), fresh(&number.to_string()), None))).await;
    let found = words(read(&redis, (0..300).map(key)).await);
    assert!(found.into_iter().eq((0..300).map(|number: usize| number.to_string())));
    assert_eq!(servers.iter().map(|one| calls(one, "mget")).sum::<usize>(), 0);
}
