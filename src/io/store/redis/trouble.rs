//! What goes wrong between us and a server, in words: what happened, and what to do about it.

use super::node::Settings;
use super::stream::{self, Ended};
use super::wire::Lost;
use crate::error::{StoreError, StoreFailure};
use redis::ServerError;
use std::io;
use std::time::Duration;

/// What a server's error asks for.
#[derive(Debug, PartialEq)]
pub enum Signal {
    /// Send the script along.
    NoScript,
    /// The slot has another owner from now on: slot, and its address as the server knows it.
    Moved(u16, String),
    /// This one key is at another's already.
    Ask(String),
    /// Try again in a moment; whether there is a better server to ask may have to be found out.
    Later(StoreError),
    /// Somebody else is the one to write to; else as above.
    NotMaster(StoreError),
    /// No use in trying again.
    Final(StoreError),
    /// There is something of another kind under the key.
    WrongType,
}

/// A failure that leaves nothing done.
pub fn undone(kind: StoreFailure, store: &str, what: impl Into<String>, cure: impl Into<String>) -> StoreError {
    StoreError { kind, store: store.to_owned(), what: what.into(), cure: cure.into(), undone: true }
}

/// What an error reply means.
pub fn signal(store: &str, error: &ServerError) -> Signal {
    use StoreFailure::{Misconfigured, Refused, Unreachable};
    let detail = error.details().unwrap_or_default();
    let said = format!("it said {} {detail}", error.code());
    let of = |kind, cure: &str| undone(kind, store, said.trim_end(), cure);
    let words: Vec<&str> = detail.split(' ').collect();
    match (error.code(), words.as_slice()) {
        ("NOSCRIPT", _) => Signal::NoScript,
        ("MOVED", [slot, address, ..]) if slot.parse::<u16>().is_ok() => {
            Signal::Moved(slot.parse().unwrap_or_default(), (*address).to_owned())
        }
        ("ASK", [_, address, ..]) => Signal::Ask((*address).to_owned()),
        ("LOADING", _) => Signal::Later(of(Unreachable, "wait until it has read its data from disk")),
        ("TRYAGAIN", _) => Signal::Later(of(Unreachable, "wait until its slots have been moved")),
        ("BUSY", _) => Signal::Later(of(Unreachable, "end the script that keeps it busy: SCRIPT KILL")),
        ("CLUSTERDOWN", _) => Signal::NotMaster(of(
            Unreachable,
            "wait for its failover; if slots have no owner, see `redis-cli --cluster check` and `--cluster fix`",
        )),
        ("MASTERDOWN", _) => {
            Signal::NotMaster(of(Unreachable, "wait for its failover, or mend its link to the master"))
        }
        ("READONLY", _) => Signal::NotMaster(of(
            Misconfigured,
            "it is a replica: name the master in the URL, or let redis+sentinel:// or redis+cluster:// find it",
        )),
        ("OOM", _) => Signal::Final(of(Refused, "raise its maxmemory, or let it evict: maxmemory-policy allkeys-lfu")),
        ("MISCONF", _) => Signal::Final(of(Refused, "mend its disk, or set stop-writes-on-bgsave-error no")),
        ("NOAUTH" | "WRONGPASS" | "NOPERM" | "NOPROTO", _) => Signal::Final(of(Misconfigured, setup_cure(error))),
        ("WRONGTYPE", _) => Signal::WrongType,
        ("ERR", ["unknown", "command", ..]) => {
            Signal::Final(of(Misconfigured, "use Redis 7.0 or later, with EVALSHA, GET, SET, TIME and UNLINK enabled"))
        }
        _ => Signal::Final(of(Refused, "see its documentation for what that means")),
    }
}

fn setup_cure(error: &ServerError) -> &'static str {
    match error.code() {
        "NOAUTH" => "give the password: redis://:password@host, or password=",
        "WRONGPASS" => "correct user name and password: redis://user:password@host",
        "NOPERM" if error.details().is_some_and(|text| text.contains("channel") || text.contains("subscribe")) => {
            "let the ACL user SUBSCRIBE and PUBLISH on the channels of its caches: &prefix*"
        }
        "NOPERM" => {
            "let the ACL user run HELLO, CLIENT, SELECT, EVAL, EVALSHA and the commands of the scripts on all keys used"
        }
        "NOPROTO" => "say protocol=2 in the URL",
        _ if error.details().is_some_and(|text| text.contains("max number of clients")) => {
            "raise its maxclients, or let fewer processes connect"
        }
        _ if error.details().is_some_and(|text| text.contains("DB index")) => {
            "use a database the server has, such as /0"
        }
        _ if error.details().is_some_and(|text| text.contains("AUTH")) => {
            "leave the password out, or set one on the server"
        }
        _ => "use Redis 7.0 or later, or a server that speaks as it does",
    }
}

/// A server that was reached and did not let us in.
pub fn not_let_in(store: &str, error: &ServerError) -> StoreError {
    match error.code() {
        "LOADING" | "BUSY" | "MASTERDOWN" => match signal(store, error) {
            Signal::Later(error) | Signal::NotMaster(error) => error,
            _ => undone(StoreFailure::Unreachable, store, "it is not ready", "wait"),
        },
        code => {
            let said = format!("it said {code} {}", error.details().unwrap_or_default());
            undone(StoreFailure::Misconfigured, store, said, setup_cure(error))
        }
    }
}

/// A connection that was not to be had.
pub fn no_connection(store: &str, error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        _ if super::tls::cure(error).is_some() => StoreFailure::Misconfigured,
        io::ErrorKind::PermissionDenied => StoreFailure::Misconfigured,
        _ => StoreFailure::Unreachable,
    };
    undone(kind, store, format!("no connection: {error}"), stream::cure(error))
}

/// A connection that ended before anything was asked.
pub fn ended(store: &str, end: &Ended) -> StoreError {
    let kind = if end.misconfigured { StoreFailure::Misconfigured } else { StoreFailure::Unreachable };
    undone(kind, store, format!("the connection was lost: {}", end.what), end.cure)
}

/// A connection that ended, or something on it that is no answer. Nobody knows what became of what was under way.
pub fn lost(store: &str, lost: &Lost) -> StoreError {
    let (what, cure) = match lost {
        Lost::Broken(error) => (format!("the connection was lost: {error}"), stream::cure(error)),
        Lost::Closed | Lost::Late => {
            ("the connection was closed".to_owned(), "see the server's log for why it hung up")
        }
        Lost::Garbage(what) => {
            (format!("it answered what no Redis would: {what}"), "point the URL at a Redis server's port")
        }
    };
    StoreError { kind: StoreFailure::Unreachable, store: store.to_owned(), what, cure: cure.to_owned(), undone: false }
}

/// No answer within the time a call has.
pub fn timed_out(store: &str, limit: Duration, sent: bool) -> StoreError {
    let what = if sent { "no answer" } else { "no connection" };
    StoreError {
        kind: StoreFailure::Timeout,
        store: store.to_owned(),
        what: format!("{what} within the {limit:?} a call has"),
        cure: "see whether the server is stuck or the network slow, or give calls more time: timeout".to_owned(),
        undone: !sent,
    }
}

/// No connection within the time one has.
pub fn no_greeting(store: &str, settings: &Settings) -> StoreError {
    let what = format!("no greeting within the {:?} a connection has", settings.connect_timeout);
    let cure = match settings.tls {
        Some(_) => "see whether the server is stuck, the network slow, or whether it does not speak TLS on this port",
        None => "see whether the server is stuck or the network slow, or give connections more time: connect_timeout",
    };
    undone(StoreFailure::Timeout, store, what, cure)
}

/// Nothing was said for as long as that where something was to be.
pub fn no_answer(store: &str, limit: Duration) -> StoreError {
    let (what, cure) = (format!("no answer for {limit:?}"), "see whether the server is stuck or the network slow");
    undone(StoreFailure::Timeout, store, what, cure)
}

/// Somebody else is the one to ask.
pub fn has_changed() -> StoreError {
    let (what, cure) = ("another server has taken over, or the cluster is not well", "wait until the failover is over");
    undone(StoreFailure::Unreachable, "redis", what, cure)
}

/// It is known to be out of reach.
pub fn known(last: &StoreError) -> StoreError {
    let kind = if last.kind == StoreFailure::Misconfigured { last.kind } else { StoreFailure::Unreachable };
    StoreError { kind, undone: true, ..last.clone() }
}

/// The store was closed.
pub fn closed(store: &str) -> StoreError {
    undone(StoreFailure::Unreachable, store, "the store was closed", "ask before it is closed")
}

/// An answer to something else.
pub fn nonsense(store: &str) -> StoreError {
    let (what, cure) = ("it gave an answer to another question", "point the URL at a Redis server's port");
    StoreError { undone: false, ..undone(StoreFailure::Unreachable, store, what, cure) }
}

/// What is to be written is none of ours.
pub fn no_frame() -> StoreError {
    undone(StoreFailure::Refused, "redis", "what is to be written is no frame", "give one that the codec made")
}
