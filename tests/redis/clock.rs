//! The clock of a cache as a server keeps it: what the scripts make of it, whatever is there.

use crate::contract::{NOTHING, fresh};
use crate::server::{Server, servers};
use crate::{open_patient, patient, store};
use samovar::core::coherence::cell::{Cell, REGISTERS};
use samovar::core::coherence::{How, Known, Moved, Name, Origin, Told};
use samovar::core::remote::Version;
use samovar::io::store::{Action, Reply, Tell};
use samovar::{Redis, RedisOptions};
use std::sync::Arc;
use std::time::Duration;

const CACHE: &[u8] = b"shop";
const SOMEBODY: Origin = Origin(7);
const MINUTE: Duration = Duration::from_secs(60);

fn tag(text: impl ToString) -> Name {
    Name::new("", &text.to_string())
}

async fn told(redis: &Redis, known: Known) -> Told {
    store(redis).registers(CACHE, known).await.unwrap()
}

async fn shift(redis: &Redis, names: Vec<Name>, how: How) -> u64 {
    store(redis).move_registers(CACHE, names, how, SOMEBODY).await.unwrap()
}

async fn put(redis: &Redis, key: &str) -> Version {
    let tell = Some(Arc::new(Tell { cache: CACHE.to_vec(), origin: SOMEBODY }));
    let action = Action::Put { frame: fresh("x"), keep: Some(MINUTE), tell };
    let Ok(Reply::Written(version)) = store(redis).ask_one(key, action).await else { panic!("it is written") };
    version
}

#[tokio::test]
async fn a_server_keeps_a_clock_as_the_machine_does() {
    servers!();
    let server = Server::start(&[]);
    let redis = Redis::with(&server.url(), RedisOptions { prefix: "eu:".into(), ..patient() }).unwrap();
    let (first, mut model) = (told(&redis, NOTHING).await, Cell::default());
    assert_eq!(model.next(first.birth), first.stamp);
    let mut known = NOTHING;
    for round in 0..500_u64 {
        // Any order of them will do.
        match round * round % 7 {
            0 | 4 => {
                let names = vec![tag(round % 11), Name::new("a:b", &(round % 5).to_string())];
                let how = if round % 3 == 0 { How::Stale } else { How::Gone };
                let at = shift(&redis, names.clone(), how).await;
                assert_eq!(model.moved(&names, how, at), at, "what is later is no earlier");
                model.number();
            }
            1 => {
                let version = put(&redis, &format!("shop::{round}")).await;
                assert_eq!(model.next(version.0), version.0);
                model.number();
            }
            _ => {
                let mut seen = told(&redis, known).await;
                let mut expected = model.told(known, seen.stamp);
                let sort = |told: Option<&mut samovar::core::coherence::Snapshot>| {
                    told.into_iter().for_each(|all| all.registers.sort_by(|(one, _), (other, _)| one.cmp(other)));
                };
                sort(seen.all.as_mut());
                sort(expected.all.as_mut());
                assert_eq!(seen, expected);
                known = Known { birth: seen.birth, moves: seen.moves };
            }
        }
    }
}

#[tokio::test]
async fn a_write_stands_in_the_order_of_stamps() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    let mut last = put(&redis, "shop::first").await.0;
    let first = told(&redis, NOTHING).await;
    assert!(first.birth < last, "a clock that is born by a write leaves it good");
    for round in 0..50 {
        for next in [
            told(&redis, NOTHING).await.stamp,
            put(&redis, &format!("shop::{}", round % 3)).await.0,
            shift(&redis, vec![tag("a")], How::Gone).await,
        ] {
            assert!(next > last);
            last = next;
        }
    }
}

#[tokio::test]
async fn stamps_grow_though_the_time_of_the_server_jumps_back() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    let birth = told(&redis, NOTHING).await.birth;
    // As if the server's clock had been a day ahead when it gave its last stamp.
    let ahead = birth + 86_400_000_000;
    server.command(&["HSET", "shop", "s", &ahead.to_string()]);
    assert_eq!(told(&redis, NOTHING).await.stamp, ahead + 1);
    assert_eq!(shift(&redis, vec![tag("a")], How::Gone).await, ahead + 2);
    assert_eq!(put(&redis, "shop::k").await, Version(ahead + 3));
    let again = told(&redis, NOTHING).await;
    assert_eq!((again.stamp, again.birth), (ahead + 4, birth));
}

#[tokio::test]
async fn a_clock_that_cannot_be_read_is_born_anew() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    let damages: [&[&str]; 9] = [
        &["SET", "shop", "a string"],
        &["DEL", "shop"],
        &["HDEL", "shop", "n"],
        &["HSET", "shop", "b", "no number"],
        &["HSET", "shop", "f", "-1"],
        &["HSET", "shop", "m", "nan"],
        &["HSET", "shop", "s", "inf"],
        &["HSET", "shop", "s", "9007199254740991"],
        &["HSET", "shop", "s", "1e300"],
    ];
    for damage in damages {
        let before = shift(&redis, vec![tag("a")], How::Gone).await;
        if damage[0] == "SET" {
            server.command(&["DEL", "shop"]);
        }
        server.command(damage);
        let after = told(&redis, NOTHING).await;
        let all = after.all.unwrap();
        assert!(after.birth > before && all.floor == after.birth && all.registers.is_empty(), "{damage:?}");
        assert_eq!((after.messages, after.moves), (0, 0));
        server.command(damage);
        let at = shift(&redis, vec![tag("a")], How::Gone).await;
        let after = told(&redis, NOTHING).await;
        assert!(after.birth < at, "{damage:?}");
        assert_eq!((after.messages, after.moves), (1, 1));
        server.command(damage);
        let version = put(&redis, "shop::k").await;
        let after = told(&redis, NOTHING).await;
        assert!(after.birth < version.0, "{damage:?}");
        assert_eq!((after.messages, after.moves), (1, 0));
    }
}

#[tokio::test]
async fn a_register_that_cannot_be_read_may_have_been_moved_just_now() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    for (field, held) in [("rnothing between", "1:2"), ("r\0a", "x"), ("r\0a", "1:-2"), ("r\0a", "")] {
        server.command(&["DEL", "shop"]);
        shift(&redis, vec![tag("b")], How::Gone).await;
        server.command(&["HSET", "shop", field, held]);
        let seen = told(&redis, NOTHING).await;
        assert_eq!(seen.all.unwrap().floor, seen.stamp - 1);
    }
    // Moved again, it can be.
    let gone = shift(&redis, vec![tag("a")], How::Gone).await;
    let all = told(&redis, NOTHING).await.all.unwrap();
    assert!(all.floor < gone && all.registers.contains(&(tag("a"), Moved { gone, stale: 0 })));
}

#[tokio::test]
async fn of_too_many_registers_the_older_half_goes_and_the_floor_says_so() {
    servers!();
    let server = Server::start(&[]);
    let redis = open_patient(&server.url());
    let mut moves = Vec::new();
    for begin in (0..REGISTERS).step_by(1000) {
        let names: Vec<Name> = (begin..begin + 1000).map(tag).collect();
        moves.push((shift(&redis, names.clone(), How::Gone).await, names));
    }
    let full = told(&redis, NOTHING).await.all.unwrap();
    assert_eq!(full.registers.len(), REGISTERS);
    let last = shift(&redis, vec![tag("last")], How::Stale).await;
    let all = told(&redis, NOTHING).await.all.unwrap();
    assert!(all.registers.len() <= REGISTERS / 2 + 1 && all.registers.len() > REGISTERS / 3);
    assert!(all.registers.contains(&(tag("last"), Moved { gone: 0, stale: last })));
    for (at, names) in moves {
        let kept = all.registers.contains(&(names[0].clone(), Moved { gone: at, stale: 0 }));
        assert_eq!(kept, at > all.floor);
    }
}
