//! What every store promises, whatever it is made of. Each behaviour uses keys of its own.

use samovar::core::coherence::{How, Known, Moved, Name, Origin, Told};
use samovar::core::remote::cell::{Framed, Under};
use samovar::core::remote::{Filled, Found, Token, Version, Wanted};
use samovar::io::store::stored::Stored;
use samovar::io::store::{Action, Cursor, Reply, Request, Store};
use samovar::{StoreError, StoreFailure};
use std::collections::HashSet;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const ANY: Wanted = Wanted::Newer(None);
pub const LIFE: Duration = Duration::from_secs(10);
pub const MINUTE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(60);

type Behaviour = for<'a> fn(&'a dyn Store, &'a str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        const BEHAVIOURS: &[(&str, Behaviour)] = &[$((stringify!($name), |store, key| Box::pin($name(store, key)))),*];
    };
}

behaviours! {
    what_is_put_is_read_and_nothing_else_is,
    versions_grow_whatever_happens,
    a_claim_is_left_and_adopted,
    the_first_fill_wins_and_others_learn_of_it,
    whatever_happens_to_a_key_takes_its_claim_away,
    an_old_frame_stands_behind_a_claim,
    a_refresh_claims_what_is_not_newer,
    a_claim_ends_unless_it_is_renewed,
    a_released_claim_is_free_and_leaves_the_frame,
    who_wants_it_anew_takes_the_key_from_who_loads_it,
    a_fill_takes_the_place_of_exactly_the_version_seen,
    who_writes_by_hand_may_want_nothing_or_something_there,
    what_has_a_life_ends_with_it_and_what_has_none_stays,
    a_claim_outlives_the_frame_behind_it,
    many_are_asked_at_once_and_answered_each,
    a_scan_finds_what_begins_so_and_nothing_else,
    what_is_no_frame_is_refused,
    what_was_asked_and_found_is_counted,
    a_clock_is_born_with_all_that_was_before_gone,
    stamps_and_moves_are_in_one_order,
    what_is_known_of_a_clock_is_not_told_again,
    a_register_keeps_both_of_its_stamps,
    names_are_told_apart_whatever_is_in_them,
}

/// Holds a store to all of it.
pub async fn holds(store: &dyn Store) {
    for (name, behaviour) in BEHAVIOURS {
        println!("{name}");
        behaviour(store, name).await;
    }
}

/// Microseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

fn frame(body: &str, fresh_until: u64) -> Vec<u8> {
    let expires = fresh_until + MINUTE.as_micros() as u64;
    [&[1, 0, 0, 0], &fresh_until.to_be_bytes()[..], &expires.to_be_bytes(), body.as_bytes()].concat()
}

/// A frame with this body, fresh for a minute.
pub fn fresh(body: &str) -> Vec<u8> {
    frame(body, now() + MINUTE.as_micros() as u64)
}

/// One that is not fresh any more, and still of use.
pub fn stale(body: &str) -> Vec<u8> {
    frame(body, now() - LIFE.as_micros() as u64)
}

pub fn token(number: u128) -> Token {
    Token::new(number)
}

/// A key of a behaviour's own.
fn of(name: &str, key: &str) -> Vec<u8> {
    format!("{name}:{key}").into_bytes()
}

fn body(stored: &Stored) -> &str {
    std::str::from_utf8(&stored.frame()[20..]).unwrap()
}

/// The body of what is there.
async fn read(store: &dyn Store, key: &[u8]) -> Option<String> {
    store.read(key).await.unwrap().as_ref().map(|stored| body(stored).to_owned())
}

async fn claim(store: &dyn Store, key: &[u8], number: u128, wanted: Wanted) -> Found<Stored> {
    store.claim(key, token(number), wanted, LIFE).await.unwrap()
}

/// The token under which the key is claimed now, and the body of the old frame.
async fn claimed(store: &dyn Store, key: &[u8], number: u128, wanted: Wanted) -> (u128, Option<String>) {
    match claim(store, key, number, wanted).await {
        Found::Claimed(token, old) => (token.bits(), old.map(|old| body(&old).to_owned())),
        found => panic!("{found:?}"),
    }
}

async fn fill(store: &dyn Store, key: &[u8], under: u128, text: &str) -> Filled<Stored> {
    store.fill(key, (Under::Claim(token(under)), None), fresh(text), Some(MINUTE)).await.unwrap()
}

fn written(filled: Filled<Stored>) -> Version {
    if let Filled::Written(version) = filled { version } else { panic!("{filled:?}") }
}

fn lost(filled: Filled<Stored>) -> String {
    if let Filled::Lost(stored) = filled { body(&stored).to_owned() } else { panic!("{filled:?}") }
}

/// Waits for something that comes soon by itself.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what} never came");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// All keys that begin so.
async fn all(store: &dyn Store, prefix: &[u8]) -> HashSet<Vec<u8>> {
    let (mut found, mut from) = (HashSet::new(), Some(Cursor::default()));
    while let Some(at) = from {
        let (page, next) = store.scan(prefix, at).await.unwrap();
        found.extend(page);
        from = next;
    }
    found
}

async fn what_is_put_is_read_and_nothing_else_is(store: &dyn Store, name: &str) {
    assert_eq!(read(store, &of(name, "absent")).await, None);
    let large = "x".repeat(300_000);
    for (key, text) in [("plain", "value"), ("empty", ""), ("large", &large), ("ключ\0\r\n{}", "odd")] {
        let (key, version) = (of(name, key), store.put(of(name, key), fresh(text), Some(MINUTE)).await.unwrap());
        for _ in 0..2 {
            let stored = store.read(&key[..]).await.unwrap().unwrap();
            assert_eq!((body(&stored), stored.version()), (text, version));
            assert!(stored.fresh_until() > now() && stored.expires() > stored.fresh_until());
        }
    }
    let key = of(name, "plain");
    assert!(store.delete(&key[..]).await.unwrap() && !store.delete(&key[..]).await.unwrap());
    assert_eq!(read(store, &key).await, None);
}

async fn versions_grow_whatever_happens(store: &dyn Store, name: &str) {
    let key = of(name, "k");
    let mut versions = Vec::new();
    for _ in 0..3 {
        versions.push(store.put(&key[..], fresh("a"), None).await.unwrap());
        versions.push(store.invalidate(&key[..], MINUTE).await.unwrap());
        claim(store, &key, 1, ANY).await;
        versions.push(written(fill(store, &key, 1, "b").await));
        store.delete(&key[..]).await.unwrap();
    }
    assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
}

async fn a_claim_is_left_and_adopted(store: &dyn Store, name: &str) {
    let key = of(name, "k");
    for (asked, live) in [(1, 1), (2, 1), (1, 1)] {
        assert_eq!(claimed(store, &key, asked, ANY).await, (live, None));
    }
    assert_eq!(read(store, &key).await, None, "a claim is no value");
    store.invalidate(&key[..], MINUTE).await.unwrap();
    assert_eq!(claimed(store, &key, 3, ANY).await, (3, None), "nor is a tombstone one");
    assert_eq!(read(store, &key).await, None);
}

async fn the_first_fill_wins_and_others_learn_of_it(store: &dyn Store, name: &str) {
    let key = of(name, "k");
    claim(store, &key, 1, ANY).await;
    let version = written(fill(store, &key, 1, "first").await);
    assert_eq!(lost(fill(store, &key, 1, "second").await), "first");
    assert_eq!(lost(fill(store, &key, 2, "third").await), "first");
    let Found::Fresh(stored) = claim(store, &key, 2, ANY).await else { panic!("it is there") };
    assert_eq!((body(&stored), stored.version()), ("first", version));
}

async fn whatever_happens_to_a_key_takes_its_claim_away(store: &dyn Store, name: &str) {
    let gone = |key: &'static str| async move {
        let key = of(name, key);
        assert_eq!(fill(store, &key, 1, "late").await, Filled::Gone);
        assert_eq!(read(store, &key).await, None);
    };
    for key in ["invalidated", "deleted", "written", "released"] {
        claim(store, &of(name, key), 1, ANY).await;
    }
    store.invalidate(of(name, "invalidated"), MINUTE).await.unwrap();
    gone("invalidated").await;
    store.delete(of(name, "deleted")).await.unwrap();
    gone("deleted").await;
    store.release(of(name, "released"), token(1)).await.unwrap();
    gone("released").await;
    gone("never claimed").await;
    store.put(of(name, "written"), fresh("newer"), None).await.unwrap();
    assert_eq!(lost(fill(store, &of(name, "written"), 1, "late").await), "newer");
}

async fn an_old_frame_stands_behind_a_claim(store: &dyn Store, name: &str) {
    let key = of(name, "k");
    store.put(&key[..], stale("old"), Some(MINUTE)).await.unwrap();
    assert_eq!(claimed(store, &key, 1, ANY).await, (1, Some("old".into())));
    assert_eq!(claimed(store, &key, 2, ANY).await, (1, Some("old".into())));
    assert_eq!(read(store, &key).await.as_deref(), Some("old"));
    assert_eq!(fill(store, &key, 2, "wrong").await, Filled::Gone, "what is there is not fresh");
    written(fill(store, &key, 1, "new").await);
    assert_eq!(read(store, &key).await.as_deref(), Some("new"));
}

async fn a_refresh_claims_what_is_not_newer(store: &dyn Store, name: &str) {
    let key = of(name, "k");
    let first = store.put(&key[..], fresh("first"), None).await.unwrap();
    let newer = Wanted::Newer(Some(first));
    assert_eq!(claimed(store, &key, 1, newer).await, (1, Some("first".into())));
    assert!(matches!(claim(store, &key, 2, ANY).await, Found::Fresh(_)), "it is fresh for who knows none");
    let frame = fresh("mine");
    let kept = store.fill(&key[..], (Under::Claim(token(2)), Some(first)), frame, None).await.unwrap();
    assert_eq!(kept, Filled::Gone, "what was there before was not first");
    let second = written(fill(store, &key, 1, "second").await);
    assert!(second > first);
    let Found::Fresh(stored) = claim(store, &key, 2, newer).await else { panic!("it is newer") };
    assert_eq!(body(&stored), "second");
}

async fn a_claim_ends_unless_it_is_renewed(store: &dyn Store, name: &str) {
    let (left, kept) = (of(name, "left"), of(name, "kept"));
    for key in [&left, &kept] {
        store.put(&key[..], stale("old"), Some(MINUTE)).await.unwrap();
        store.claim(&key[..], token(1), ANY, SHORT).await.unwrap();
    }
    assert!(!store.renew(&kept[..], token(2), LIFE).await.unwrap(), "not somebody else's");
    assert!(store.renew(&kept[..], token(1), LIFE).await.unwrap());
    until("the end of a claim", || async { claimed(store, &left, 2, ANY).await.0 == 2 }).await;
    assert_eq!(claimed(store, &kept, 2, ANY).await, (1, Some("old".into())));
    assert!(!store.renew(&left[..], token(1), LIFE).await.unwrap());
    assert!(!store.renew(of(name, "absent"), token(1), LIFE).await.unwrap());
    written(fill(store, &kept, 1, "new").await);
    assert!(!store.renew(&kept[..], token(1), LIFE).await.unwrap(), "it was used");
}

async fn a_released_claim_is_free_and_leaves_the_frame(store: &dyn Store, name: &str) {
    let (empty, full) = (of(name, "empty"), of(name, "full"));
    store.put(&full[..], stale("old"), Some(MINUTE)).await.unwrap();
    for key in [&empty, &full] {
        claim(store, key, 1, ANY).await;
        assert!(!store.release(&key[..], token(2)).await.unwrap());
        assert!(store.release(&key[..], token(1)).await.unwrap());
        assert!(!store.release(&key[..], token(1)).await.unwrap());
    }
    assert_eq!(read(store, &full).await.as_deref(), Some("old"));
    assert_eq!(claimed(store, &full, 2, ANY).await, (2, Some("old".into())));
    assert_eq!(claimed(store, &empty, 2, ANY).await, (2, None));
}

async fn who_wants_it_anew_takes_the_key_from_who_loads_it(store: &dyn Store, name: &str) {
    let key = of(name, "k");
    claim(store, &key, 1, ANY).await;
    assert_eq!(claimed(store, &key, 2, Wanted::Anew).await, (2, None));
    assert_eq!(fill(store, &key, 1, "older").await, Filled::Gone);
    written(fill(store, &key, 2, "newer").await);
    assert_eq!(claimed(store, &key, 3, Wanted::Anew).await, (3, Some("newer".into())), "though it is fresh");
    assert!(matches!(claim(store, &key, 4, ANY).await, Found::Fresh(_)), "others are content with it");
    written(fill(store, &key, 3, "newest").await);
}

async fn a_fill_takes_the_place_of_exactly_the_version_seen(store: &dyn Store, name: &str) {
    let key = of(name, "k");
    let put = store.put(&key[..], fresh("one"), None).await.unwrap();
    let swap = |version, text| store.fill(key.clone(), (Under::Version(version), None), fresh(text), None);
    assert_eq!(lost(swap(Version(put.0 - 1), "wrong").await.unwrap()), "one");
    let second = written(swap(put, "two").await.unwrap());
    assert_eq!(lost(swap(put, "three").await.unwrap()), "two");
    let buried = store.invalidate(&key[..], MINUTE).await.unwrap();
    assert_eq!(swap(second, "four").await.unwrap(), Filled::Gone);
    written(swap(buried, "five").await.unwrap());
    store.delete(&key[..]).await.unwrap();
    assert_eq!(swap(buried, "six").await.unwrap(), Filled::Gone, "nothing is no version");
    claim(store, &key, 1, ANY).await;
    assert_eq!(swap(Version(0), "seven").await.unwrap(), Filled::Gone, "nor is a claim");
}

async fn who_writes_by_hand_may_want_nothing_or_something_there(store: &dyn Store, name: &str) {
    let key = of(name, "k");
    let write = |under, text| store.fill(key.clone(), (under, None), fresh(text), None);
    assert_eq!(write(Under::Something, "one").await.unwrap(), Filled::Gone);
    written(write(Under::Nothing, "two").await.unwrap());
    assert_eq!(lost(write(Under::Nothing, "three").await.unwrap()), "two");
    written(write(Under::Something, "four").await.unwrap());
    for buried in [true, false] {
        match buried {
            true => store.invalidate(&key[..], MINUTE).await.unwrap(),
            false => store.put(&key[..], stale("old"), None).await.unwrap(),
        };
        claim(store, &key, 1, ANY).await;
        assert_eq!(write(Under::Something, "five").await.unwrap(), Filled::Gone);
        written(write(Under::Nothing, "six").await.unwrap());
        assert_eq!(lost(fill(store, &key, 1, "late").await), "six", "it took the claim away");
    }
}

async fn what_has_a_life_ends_with_it_and_what_has_none_stays(store: &dyn Store, name: &str) {
    store.put(of(name, "stays"), fresh("stays"), None).await.unwrap();
    store.put(of(name, "ends"), fresh("ends"), Some(SHORT)).await.unwrap();
    let buried = store.invalidate(of(name, "buried"), SHORT).await.unwrap();
    until("the end of a life", || async { read(store, &of(name, "ends")).await.is_none() }).await;
    let swap = || store.fill(of(name, "buried"), (Under::Version(buried), None), fresh("late"), None);
    until("the end of a tombstone", || async { all(store, &of(name, "buried")).await.is_empty() }).await;
    assert_eq!(swap().await.unwrap(), Filled::Gone);
    assert_eq!(read(store, &of(name, "stays")).await.as_deref(), Some("stays"));
}

async fn a_claim_outlives_the_frame_behind_it(store: &dyn Store, name: &str) {
    let (key, clock) = (of(name, "k"), of(name, "clock"));
    store.put(&key[..], stale("old"), Some(SHORT)).await.unwrap();
    claim(store, &key, 1, ANY).await;
    store.put(&clock[..], fresh("tick"), Some(2 * SHORT)).await.unwrap();
    until("the end of a life", || async { read(store, &clock).await.is_none() }).await;
    written(fill(store, &key, 1, "new").await);
}

async fn many_are_asked_at_once_and_answered_each(store: &dyn Store, name: &str) {
    let keys: Vec<_> = (0..300).map(|number| of(name, &number.to_string())).collect();
    let values = keys.iter().enumerate().map(|(at, key)| (key.clone(), fresh(&at.to_string()), Some(MINUTE)));
    let versions: HashSet<_> = store.set_many(values).await.into_iter().map(Result::unwrap).collect();
    assert!(!versions.is_empty());
    let deleted = store.delete_many(keys.iter().step_by(3).cloned()).await;
    assert!(deleted.len() == 100 && deleted.into_iter().all(|deleted| deleted == Ok(true)));
    let found = store.get_many(keys.clone()).await;
    for (at, found) in found.into_iter().enumerate() {
        let found = found.unwrap().map(|stored| body(&stored).to_owned());
        assert_eq!(found, (at % 3 > 0).then(|| at.to_string()));
    }
    let all = vec![
        Request { key: keys[1].clone().into(), action: Action::Read },
        Request { key: keys[3].clone().into(), action: Action::Claim { token: token(1), wanted: ANY, life: LIFE } },
        Request { key: keys[4].clone().into(), action: Action::Invalidate { keep: MINUTE, by: None, tell: None } },
        Request { key: keys[5].clone().into(), action: Action::Release { token: token(1) } },
    ];
    let answers: Vec<_> = store.ask(all).await.into_iter().map(Result::unwrap).collect();
    assert!(matches!(
        &answers[..],
        [Reply::Read(Some(_)), Reply::Claimed(Found::Claimed(_, None)), Reply::Buried(_, true), Reply::Done(false)]
    ));
    assert_eq!(store.ask(Vec::new()).await, []);
}

async fn a_scan_finds_what_begins_so_and_nothing_else(store: &dyn Store, name: &str) {
    let (inside, outside) = ("[a*]?\\:", "[a*]?\\");
    let keys: HashSet<_> = (0..50).map(|number| of(name, &format!("{inside}{number}"))).collect();
    store.set_many(keys.iter().map(|key| (key.clone(), fresh("x"), None))).await;
    for other in [outside, "a?\\:", "[a*]?:", "aa?\\:1"] {
        store.put(of(name, other), fresh("x"), None).await.unwrap();
    }
    assert_eq!(all(store, &of(name, inside)).await, keys);
}

async fn what_is_no_frame_is_refused(store: &dyn Store, name: &str) {
    let error = store.put(of(name, "k"), vec![1; 19], None).await.unwrap_err();
    assert!(error.kind == StoreFailure::Refused && error.undone, "{error}");
    assert_eq!(read(store, &of(name, "k")).await, None);
}

async fn what_was_asked_and_found_is_counted(store: &dyn Store, name: &str) {
    let (key, before) = (of(name, "k"), store.tally());
    store.put(&key[..], fresh("x"), None).await.unwrap();
    read(store, &key).await;
    read(store, &of(name, "absent")).await;
    claim(store, &key, 1, ANY).await;
    store.delete(&key[..]).await.unwrap();
    let after = store.tally();
    let counts = [(before.writes, after.writes), (before.reads, after.reads), (before.claims, after.claims)];
    assert_eq!(counts.map(|(before, after)| after - before), [1, 2, 1]);
    assert_eq!((after.found - before.found, after.others - before.others), (2, 1));
    assert_eq!((after.timeouts, after.unreachable), (before.timeouts, before.unreachable));
}

/// The escaped name of a cache of a behaviour's own.
fn cache_of(name: &str) -> Vec<u8> {
    format!("cache of {name}").into_bytes()
}

pub const NOTHING: Known = Known { birth: 0, moves: 0 };
pub const SOMEBODY: Origin = Origin(7);

async fn told(store: &dyn Store, cache: &[u8], known: Known) -> Told {
    store.registers(cache, known).await.unwrap()
}

async fn moved(store: &dyn Store, cache: &[u8], tags: &[&str], how: How) -> u64 {
    let names = tags.iter().map(|tag| Name::new("", tag)).collect();
    store.move_registers(cache, names, how, SOMEBODY).await.unwrap()
}

async fn a_clock_is_born_with_all_that_was_before_gone(store: &dyn Store, name: &str) {
    let cache = cache_of(name);
    let first = told(store, &cache, NOTHING).await;
    let all = first.all.clone().unwrap();
    assert!(all.registers.is_empty() && all.floor == first.birth && first.birth < first.stamp);
    assert_eq!((first.messages, first.moves), (0, 0));
    store.delete(&cache[..]).await.unwrap();
    let again = told(store, &cache, Known { birth: first.birth, moves: 0 }).await;
    assert!(again.birth > first.birth, "it is another one");
    assert!(again.all.unwrap().floor >= first.stamp, "what was stamped before is gone");
}

async fn stamps_and_moves_are_in_one_order(store: &dyn Store, name: &str) {
    let cache = cache_of(name);
    let mut stamps = Vec::new();
    for _ in 0..3 {
        stamps.push(told(store, &cache, NOTHING).await.stamp);
        stamps.push(moved(store, &cache, &["a"], How::Gone).await);
        stamps.push(moved(store, &cache, &["b"], How::Stale).await);
    }
    assert!(stamps.is_sorted_by(|one, next| one < next), "{stamps:?}");
    assert_eq!(told(store, &cache, NOTHING).await.moves, 6);
}

async fn what_is_known_of_a_clock_is_not_told_again(store: &dyn Store, name: &str) {
    let cache = cache_of(name);
    moved(store, &cache, &["a"], How::Gone).await;
    let first = told(store, &cache, NOTHING).await;
    let known = Known { birth: first.birth, moves: first.moves };
    assert!(first.moves == 1 && first.all.is_some());
    let again = told(store, &cache, known).await;
    assert!(again.all.is_none() && again.stamp > first.stamp, "{again:?}");
    moved(store, &cache, &["a"], How::Gone).await;
    assert!(told(store, &cache, known).await.all.is_some());
    assert!(told(store, &cache, Known { birth: first.birth - 1, moves: 2 }).await.all.is_some());
}

async fn a_register_keeps_both_of_its_stamps(store: &dyn Store, name: &str) {
    let cache = cache_of(name);
    let gone = moved(store, &cache, &["a", "b"], How::Gone).await;
    let stale = moved(store, &cache, &["a"], How::Stale).await;
    let mut all = told(store, &cache, NOTHING).await.all.unwrap().registers;
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let expected = [(Name::new("", "a"), Moved { gone, stale }), (Name::new("", "b"), Moved { gone, stale: 0 })];
    assert_eq!(all, expected);
}

async fn names_are_told_apart_whatever_is_in_them(store: &dyn Store, name: &str) {
    let cache = cache_of(name);
    let parts = ["", "a", "a:b", "*", "a\0", "\r\n", "тег", "{a}", "b", "f", "s", "n", "m"];
    let mut names: Vec<_> = parts.iter().flat_map(|path| parts.iter().map(|tag| Name::new(path, tag))).collect();
    let at = store.move_registers(&cache[..], names.clone(), How::Gone, SOMEBODY).await.unwrap();
    let all = told(store, &cache, NOTHING).await.all.unwrap();
    let mut found: Vec<_> = all.registers.iter().map(|(name, _)| name.clone()).collect();
    found.sort();
    names.sort();
    assert_eq!(found, names);
    assert!(all.floor < at && all.registers.iter().all(|(_, moved)| *moved == Moved { gone: at, stale: 0 }));
}

/// An error, as a test of errors wants it.
#[allow(dead_code, reason = "not every store can be made to fail")]
pub fn failure<T: std::fmt::Debug>(result: Result<T, StoreError>, kind: StoreFailure, says: &str) {
    let error = result.expect_err("it cannot have worked");
    assert!(error.kind == kind && error.to_string().contains(says), "{:?}: {error}; not {kind:?}: {says}", error.kind);
}
