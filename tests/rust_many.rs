//! Many keys by one call: each is a key of its own, and what several ask for is loaded once. What holds from Python too has
//! the names of `test_many.py` and `test_many_batches.py`.
#![cfg(feature = "tokio")]

mod origin;

use origin::{FRESH, HOUR, MINUTE, Origin, SECOND, soon, turns};
use samovar::{Cache, Clock, Error, LoadContext, LoadFailed, Policy, Standing};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::runtime::Builder;
use tokio::task::JoinHandle;

type Answer = Result<HashMap<u64, u64>, LoadFailed<io::Error>>;

/// A table below a hundred: a row is the call's number and the key.
#[derive(Clone)]
struct Table {
    cache: Cache<u64, u64>,
    clock: Clock,
    origin: Origin,
    asked: Arc<Mutex<Vec<Vec<u64>>>>,
}

impl Table {
    fn new() -> Self {
        let clock = Clock::system();
        clock.freeze();
        let cache = Cache::builder().name("table").clock(clock.clone()).build();
        Table { cache, clock, origin: Origin::default(), asked: Arc::default() }
    }

    async fn load(self, _: LoadContext, mut keys: Vec<u64>) -> io::Result<HashMap<u64, u64>> {
        keys.sort_unstable();
        self.asked.lock().unwrap().push(keys.clone());
        let call = self.origin.call().await?;
        Ok(keys.into_iter().filter(|key| *key < 100).map(|key| (key, call * 1_000 + key)).collect())
    }

    async fn ask(&self, keys: &[u64], policy: Policy) -> Answer {
        let table = self.clone();
        let load = move |ctx, keys| table.clone().load(ctx, keys);
        self.cache.get_or_load_many(keys.iter().copied(), policy, load).await
    }

    fn asking(&self, keys: &'static [u64], policy: Policy) -> JoinHandle<Answer> {
        let table = self.clone();
        tokio::spawn(async move { table.ask(keys, policy).await })
    }

    fn asked(&self) -> Vec<Vec<u64>> {
        self.asked.lock().unwrap().clone()
    }

    fn check(&self) {
        self.cache.validate().unwrap();
        assert!((0..200).all(|key| self.cache.explain(&key, &FRESH).waiting.is_none()), "a load is left behind");
    }
}

fn rows<const N: usize>(rows: [u64; N]) -> HashMap<u64, u64> {
    rows.into_iter().map(|row| (row % 1_000, row)).collect()
}

#[tokio::test]
async fn only_the_missing_ids_reach_the_function() {
    let table = Table::new();
    assert_eq!(table.ask(&[1, 2], FRESH).await.unwrap(), rows([1_001, 1_002]));
    assert_eq!(table.ask(&[1, 2, 3], FRESH).await.unwrap(), rows([1_001, 1_002, 2_003]));
    assert_eq!((table.asked(), table.cache.get(&3)), (vec![vec![1, 2], vec![3]], Some(2_003)));
    table.check();
}

#[tokio::test]
async fn no_ids_are_answered_with_nothing_and_nobody_is_called() {
    let table = Table::new();
    assert_eq!((table.ask(&[], FRESH).await.unwrap(), table.asked().len()), (HashMap::new(), 0));
}

#[tokio::test]
async fn an_id_that_is_asked_for_twice_is_loaded_once_and_counts_once() {
    let table = Table::new();
    assert_eq!(table.ask(&[1, 1, 1], FRESH).await.unwrap(), rows([1_001]));
    assert_eq!((table.asked(), table.cache.stats().misses), (vec![vec![1]], 1));
    table.check();
}

#[tokio::test]
async fn an_id_that_is_absent_is_left_out_and_remembered_for_its_own_time() {
    let (table, policy) = (Table::new(), Policy { negative_ttl: Some(MINUTE), ..Policy::ttl(HOUR) });
    for _ in 0..2 {
        assert_eq!(table.ask(&[1, 100], policy).await.unwrap(), rows([1_001]));
    }
    assert_eq!((table.asked().len(), table.cache.peek(&100).unwrap().state), (1, Standing::Missing));
    table.clock.advance(MINUTE);
    assert_eq!((table.ask(&[1, 100], policy).await.unwrap(), table.asked().len()), (rows([1_001]), 2));
    let forgetful = Table::new();
    for _ in 0..2 {
        assert_eq!(forgetful.ask(&[100], FRESH).await.unwrap(), HashMap::new());
    }
    assert_eq!(forgetful.asked().len(), 2);
    table.check();
}

#[tokio::test]
async fn ids_that_were_not_asked_for_are_ignored_and_counted() {
    let table = Table::new();
    let load = |_, _| async { Ok::<_, io::Error>(HashMap::from([(1, 1), (2, 2), (3, 3)])) };
    assert_eq!(table.cache.get_or_load_many([1], FRESH, load).await.unwrap(), HashMap::from([(1, 1)]));
    assert_eq!((table.cache.len(), table.cache.stats().unasked), (1, 2));
}

#[tokio::test]
async fn a_raise_fails_that_calls_ids_and_stores_nothing() {
    let table = Table::new();
    table.ask(&[1], FRESH).await.unwrap();
    table.origin.fail(Some("down"));
    assert_eq!(origin::error_of(table.ask(&[1, 2, 3], FRESH).await), "down");
    assert_eq!((table.cache.len(), table.cache.stats().load_errors), (1, 2));
    table.check();
}

#[tokio::test]
async fn nobody_asks_for_what_is_on_its_way() {
    let table = Table::new();
    table.origin.close();
    let (first, second) = (table.asking(&[1, 2], FRESH), table.asking(&[2, 3], FRESH));
    turns().await;
    let single = table.cache.get_or_load(&3, FRESH, |_| async { Err(io::Error::other("somebody loads it")) });
    table.origin.open();
    let (single, first, second) = tokio::join!(single, first, second);
    assert_eq!(first.unwrap().unwrap(), rows([1_001, 1_002]));
    assert_eq!((second.unwrap().unwrap(), single.unwrap()), (rows([1_002, 2_003]), 2_003));
    assert_eq!(table.asked(), [vec![1, 2], vec![3]]);
    table.check();
}

#[tokio::test]
async fn stale_ids_are_answered_at_once_and_refreshed_in_one_call() {
    let (table, policy) = (Table::new(), Policy { stale_while_revalidate: HOUR, ..FRESH });
    table.ask(&[1, 2], policy).await.unwrap();
    table.clock.advance(MINUTE);
    assert_eq!(table.ask(&[1, 2], policy).await.unwrap(), rows([1_001, 1_002]));
    turns().await;
    assert_eq!(table.ask(&[1, 2], policy).await.unwrap(), rows([2_001, 2_002]));
    assert_eq!(table.asked(), [vec![1, 2], vec![1, 2]]);
    table.check();
}

#[tokio::test]
async fn old_values_answer_for_the_ids_that_have_one_when_a_call_fails() {
    let (table, policy) = (Table::new(), Policy { stale_if_error: HOUR, ..FRESH });
    table.ask(&[1, 2], policy).await.unwrap();
    table.clock.advance(MINUTE);
    table.origin.fail(Some("down"));
    assert_eq!(table.ask(&[1, 2], policy).await.unwrap(), rows([1_001, 1_002]));
    table.clock.advance(MINUTE);
    assert_eq!(origin::error_of(table.ask(&[1, 3], policy).await), "down", "there is no old value of 3");
    table.check();
}

#[tokio::test]
async fn a_cancelled_caller_leaves_the_call_to_the_others() {
    let table = Table::new();
    table.origin.close();
    let leader = table.asking(&[1, 2], FRESH);
    turns().await;
    let other = table.asking(&[2], FRESH);
    turns().await;
    leader.abort();
    turns().await;
    assert_eq!(table.origin.cancelled(), 0);
    table.origin.open();
    assert_eq!(soon(other).await.unwrap().unwrap(), rows([1_002]));
    assert_eq!((table.asked().len(), table.cache.get(&1)), (1, None), "nobody waited for it any more");
    table.check();
}

#[tokio::test]
async fn a_call_is_cancelled_when_nobody_waits_for_any_of_its_ids() {
    let table = Table::new();
    table.origin.close();
    let (leader, other) = (table.asking(&[1, 2], FRESH), table.asking(&[2], FRESH));
    turns().await;
    leader.abort();
    other.abort();
    turns().await;
    assert_eq!((table.origin.calls(), table.origin.cancelled()), (1, 1));
    table.check();
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cancelled_and_each_id_answered() {
    let (table, policy) = (Table::new(), Policy { timeout: Some(SECOND), ..FRESH });
    table.origin.close();
    let asking = [table.asking(&[1, 2], policy), table.asking(&[2, 1], policy)];
    turns().await;
    table.clock.advance(SECOND);
    for asking in asking {
        let answer = soon(asking).await.unwrap();
        assert!(matches!(answer, Err(LoadFailed::Cache(Error::LoadTimeout { .. }))), "{answer:?}");
    }
    turns().await;
    assert_eq!(table.origin.cancelled(), 1);
    table.check();
}

#[tokio::test]
async fn what_is_invalidated_during_a_call_is_answered_and_not_stored() {
    let table = Table::new();
    table.origin.close();
    let asking = table.asking(&[1, 2], FRESH);
    turns().await;
    table.cache.invalidate(&1);
    table.origin.open();
    assert_eq!(asking.await.unwrap().unwrap(), rows([1_001, 1_002]));
    assert_eq!(table.cache.get_many(&[1, 2]), [None, Some(1_002)]);
    table.check();
}

#[tokio::test]
async fn a_function_that_asks_for_its_own_ids_loads_them_directly() {
    let table = Table::new();
    let within = table.clone();
    let load = move |_, keys: Vec<u64>| {
        let table = within.clone();
        async move { table.ask(&keys, FRESH).await.map_err(io::Error::other) }
    };
    let answer = soon(table.cache.get_or_load_many([1, 2], FRESH, load)).await;
    assert_eq!((answer.unwrap(), table.asked()), (rows([1_001, 1_002]), vec![vec![1, 2]]));
    table.check();
}

#[tokio::test]
async fn ids_of_one_call_that_wait_for_a_load_which_waits_for_one_of_them_raise() {
    let (table, gate) = (Table::new(), Origin::default());
    gate.close();
    let (outer, begun) = (table.cache.clone(), gate.clone());
    let single = tokio::spawn(async move {
        let inner = outer.clone();
        let load = move |_| async move {
            begun.call().await?;
            inner.get_or_load(&1, FRESH, |_| async { Ok::<_, io::Error>(0) }).await.map_err(io::Error::other)
        };
        outer.get_or_load(&7, FRESH, load).await
    });
    turns().await;
    let within = table.cache.clone();
    let load = move |_, keys: Vec<u64>| {
        let (cache, gate) = (within.clone(), gate.clone());
        async move {
            gate.open();
            let far = cache.get_or_load(&7, FRESH, |_| async { Ok::<_, io::Error>(0) }).await;
            let far = far.map_err(io::Error::other)?;
            Ok(keys.into_iter().map(|key| (key, far)).collect())
        }
    };
    let answer: Answer = soon(table.cache.get_or_load_many([1, 2], FRESH, load)).await;
    assert!(answer.unwrap_err().to_string().contains("wait for each other"));
    assert!(soon(single).await.unwrap().unwrap_err().to_string().contains("wait for each other"));
    table.check();
}

#[test]
fn a_call_of_a_runtime_that_is_gone_is_made_on_another() {
    let table = Table::new();
    table.origin.close();
    let runtime = || Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    let starter = {
        let _inside = first.enter();
        table.asking(&[1, 2], FRESH)
    };
    first.block_on(turns());
    runtime().block_on(async {
        let waiting = table.asking(&[1, 2, 3], FRESH);
        turns().await;
        first.shutdown_background();
        table.origin.open();
        assert_eq!(soon(waiting).await.unwrap().unwrap().len(), 3);
    });
    assert!(starter.is_finished());
    let mut asked = table.asked();
    asked.sort_unstable();
    assert_eq!(asked, [vec![1], vec![1, 2], vec![2], vec![3]], "what is handed over is asked for key by key");
    table.check();
}

#[tokio::test]
async fn a_loader_of_many_that_panics_fails_its_ids_and_nobody_else() {
    let table = Table::new();
    let panics = |_, _| async { std::panic::resume_unwind(Box::new("out of beans")) };
    let answer: Answer = table.cache.get_or_load_many([1, 2], FRESH, panics).await;
    assert!(answer.unwrap_err().to_string().contains("out of beans"));
    assert_eq!(table.ask(&[1, 2], FRESH).await.unwrap(), rows([1_001, 1_002]));
    table.check();
}
