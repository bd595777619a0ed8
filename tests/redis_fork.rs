//! A store that is used before a fork and after it, by both sides. Of its own, since a test harness has threads.
//!
//! A child that merely used the runtime it was born with would hang, and its parent after it: they share an epoll set.

#[path = "contract/mod.rs"]
#[allow(dead_code, reason = "its frames are all that is needed here")]
mod contract;
#[path = "redis/server.rs"]
#[allow(dead_code, reason = "one server is all that is needed here")]
mod server;

use contract::fresh;
use samovar::Redis;
use samovar::core::coherence::Origin;
use samovar::io::store::ear::{Ear, Listening, News};
use samovar::io::store::{Action, Store, Tell};
use server::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

fn main() {
    server::servers!();
    let server = Server::start(&[]);
    let options = samovar::RedisOptions { timeout: Duration::from_secs(5), ..Default::default() };
    let redis = Redis::with(&server.url(), options).unwrap();
    a_child_has_connections_of_its_own_and_so_has_its_child(&redis, &server);
    children_of_a_busy_parent_work_and_leave_it_alone(&redis);
    a_child_listens_anew_and_leaves_its_parent_listening(&redis, &server);
    println!("ok: forks");
}

fn put(redis: &Redis, key: &str) {
    let store: &dyn Store = redis;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.put(key, fresh(key), None)).unwrap();
    let found = runtime.block_on(store.read(key)).unwrap().expect("it is there");
    assert!(found.frame().ends_with(key.as_bytes()), "somebody else's answer");
}

/// The child's id, or nothing in the child, which has ten seconds.
fn fork() -> Option<libc::pid_t> {
    // SAFETY: the child uses nothing that another thread might have held: what it takes from the store is made anew.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: it sets a timer.
            unsafe { libc::alarm(10) };
            None
        }
        child => {
            assert!(child > 0, "no child");
            Some(child)
        }
    }
}

fn leave() -> ! {
    // SAFETY: it ends the process, and runs nothing of the parent's.
    unsafe { libc::_exit(0) }
}

fn wait(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!((waited, status), (child, 0), "the child hung or failed");
}

/// Says when it hears of a key or of nothing missed.
struct Teller(Sender<News>);

impl Ear for Teller {
    fn hear(&self, news: News) {
        if matches!(news, News::Changed { .. } | News::Lost | News::Proven { told: Some(_), .. }) {
            let _ = self.0.send(news);
        }
    }
}

/// Somebody who hears, from when nothing is missed.
fn listen(redis: &Redis) -> (Listening, Receiver<News>) {
    let (sender, heard) = channel();
    let listening = redis.listen(b"shop", Origin(1), false, Arc::new(Teller(sender))).expect("it has a bus");
    let first = heard.recv_timeout(Duration::from_secs(8)).expect("it joins");
    assert!(matches!(first, News::Proven { .. }), "{first:?}");
    (listening, heard)
}

fn tell(redis: &Redis, heard: &Receiver<News>) {
    let (store, tell): (&dyn Store, _) = (redis, Tell { cache: b"shop".to_vec(), origin: Origin(2) });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let put = Action::Put { frame: fresh("told"), keep: None, tell: Some(Arc::new(tell)) };
    runtime.block_on(store.ask_one("shop::k", put)).unwrap();
    let news = heard.recv_timeout(Duration::from_secs(8)).expect("it is heard");
    assert!(matches!(news, News::Changed { .. }), "{news:?}");
}

fn a_child_listens_anew_and_leaves_its_parent_listening(redis: &Redis, server: &Server) {
    let (listening, heard) = listen(redis);
    tell(redis, &heard);
    let subscribers = |count: &str| server.command(&["PUBSUB", "NUMSUB", "shop%bus0"]).contains(count);
    let Some(child) = fork() else {
        // What it has of its parent's is a copy, of which nothing comes.
        drop(listening);
        let (_listening, heard) = listen(redis);
        assert!(subscribers(":2"));
        tell(redis, &heard);
        leave();
    };
    wait(child);
    let news = heard.recv_timeout(Duration::from_secs(8)).expect("the child's write is heard");
    assert!(matches!(news, News::Changed { .. }), "{news:?}");
    tell(redis, &heard);
    server::wait_for("the end of the child's", || subscribers(":1"));
    assert_eq!(redis.tally().lost, 0);
}

fn a_child_has_connections_of_its_own_and_so_has_its_child(redis: &Redis, server: &Server) {
    put(redis, "parent");
    let Some(child) = fork() else {
        put(redis, "child");
        let Some(grandchild) = fork() else {
            put(redis, "grandchild");
            leave();
        };
        wait(grandchild);
        put(redis, "child again");
        assert_eq!(redis.tally().connects, 1, "its own count");
        leave();
    };
    put(redis, "parent meanwhile");
    wait(child);
    put(redis, "parent afterwards");
    assert_eq!(redis.tally().connects, 1, "its connection was left alone");
    server::wait_for("the end of the others'", || server.connections() == 1);
}

fn children_of_a_busy_parent_work_and_leave_it_alone(redis: &Redis) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let over = &over;
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    put(redis, &format!("thread {thread}"));
                }
            });
        }
        for round in 0..20 {
            let Some(child) = fork() else {
                (0..5).for_each(|step| put(redis, &format!("child {round}:{step}")));
                leave();
            };
            wait(child);
        }
        over.store(true, SeqCst);
    });
    put(redis, "at the end");
}
