//! Loads that wait for each other: in a circle, across caches, and for a runtime that is gone. The names are those of
//! `test_circles.py`.
#![cfg(feature = "tokio")]

mod origin;

use origin::{Answer, FRESH, Numbers, Origin, World, all, soon, turns};
use samovar::{Cache, Error, LoadFailed};
use std::io;
use std::sync::{Arc, Barrier};
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;

/// Loads each of which asks for the next, once all of them have begun.
fn crossed(caches: &[Numbers]) -> Vec<JoinHandle<Answer>> {
    let begun = Arc::new(tokio::sync::Barrier::new(caches.len()));
    let load = |number: usize| {
        let (begun, next) = (Arc::clone(&begun), (number + 1) % caches.len());
        let (own, next_cache) = (caches[number].clone(), caches[next].clone());
        tokio::spawn(async move {
            let asks = move |_| async move {
                begun.wait().await;
                let key = next.to_string();
                let far = next_cache.get_or_load(&key, FRESH, |_| async { Ok::<_, io::Error>(1) });
                Ok::<_, io::Error>(1 + far.await.map_err(io::Error::other)?)
            };
            own.get_or_load(&number.to_string(), FRESH, asks).await
        })
    };
    (0..caches.len()).map(load).collect()
}

/// The path in an error that has travelled from load to load.
fn path_of(failed: &LoadFailed<io::Error>) -> usize {
    let mut failed = failed;
    loop {
        failed = match failed {
            LoadFailed::Cache(Error::LoadCycle { path }) => return path.len(),
            LoadFailed::Loader(error) => {
                error.get_ref().and_then(|inner| inner.downcast_ref()).expect("a load's own error")
            }
            other => panic!("{other}"),
        }
    }
}

fn caches(count: usize) -> Vec<Numbers> {
    let shared: Numbers = Cache::builder().name("shared").build();
    let other = |number: usize| Cache::builder().name(format!("other {number}")).build();
    (0..count).map(|number| if number % 2 == 1 { shared.clone() } else { other(number) }).collect()
}

#[tokio::test]
async fn crossed_loads_of_several_callers_and_caches_are_told_of_their_circle() {
    for count in [2, 3, 7] {
        let caches = caches(count);
        let answers = all(crossed(&caches)).await;
        // One of them finds the circle; its error is what the others' loads end with.
        for answer in answers {
            assert_eq!(path_of(&answer.unwrap_err()), count);
        }
        caches.iter().for_each(|cache| cache.validate().unwrap());
    }
}

/// Who asks first and who last is up to the threads; somebody always finds the circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn loads_that_cross_on_several_threads_never_wait_for_ever() {
    for round in 0..200 {
        let caches = caches(2 + round % 3);
        for answer in all(crossed(&caches)).await {
            // A load whose flight was over before another asked for it was no part of a circle any more.
            if let Err(failed) = answer {
                assert_eq!(path_of(&failed), caches.len());
            }
        }
    }
}

#[tokio::test]
async fn two_that_ask_for_a_third_are_no_circle() {
    let world = World::new();
    world.origin.close();
    let asking = [10, 20, 30].map(|number: u64| {
        let (cache, inner, load) = (world.cache.clone(), world.cache.clone(), world.origin.load());
        tokio::spawn(async move {
            let asks = move |_| async move {
                let third = inner.get_or_load("third", FRESH, load).await.map_err(io::Error::other)?;
                Ok::<_, io::Error>(number + third)
            };
            cache.get_or_load(&number.to_string(), FRESH, asks).await
        })
    });
    turns().await;
    world.origin.open();
    let answers: Vec<u64> = all(asking.into()).await.into_iter().map(Result::unwrap).collect();
    assert_eq!((answers, world.origin.calls()), (vec![11, 21, 31], 1));
}

#[tokio::test]
async fn a_caller_that_was_cancelled_waits_for_nobody_any_more() {
    let (world, gate) = (World::new(), Origin::default());
    world.origin.close();
    gate.close();
    // "k" asks for "first" once it is let through.
    let (cache, inner, origin) = (world.cache.clone(), world.cache.clone(), world.origin.clone());
    let k = tokio::spawn(async move {
        let load = move |_| async move {
            let number = origin.call().await?;
            let first = inner.get_or_load("first", FRESH, |_| async { Ok::<_, io::Error>(0) }).await;
            first.map(|first| number + first).map_err(io::Error::other)
        };
        cache.get_or_load("k", FRESH, load).await
    });
    turns().await;
    // "first" asks for "k", and gives up.
    let (cache, inner, behind) = (world.cache.clone(), world.cache.clone(), gate.clone());
    let first = tokio::spawn(async move {
        let load = move |_| async move {
            let asking = inner.get_or_load("k", FRESH, |_| async { Ok::<_, io::Error>(0) });
            let waited = tokio::time::timeout(Duration::ZERO, asking).await;
            assert!(waited.is_err(), "the future that waits is dropped");
            behind.call().await
        };
        cache.get_or_load("first", FRESH, load).await
    });
    while gate.calls() == 0 {
        tokio::task::yield_now().await;
    }
    world.origin.open();
    turns().await;
    gate.open();
    let answers: Vec<u64> = all(vec![k, first]).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [2, 1], "had it still been waiting, this would have been a circle");
}

#[test]
fn the_lead_is_not_handed_to_a_waiter_whose_loop_is_gone() {
    let world = World::new();
    world.origin.close();
    let runtime = || Builder::new_current_thread().enable_time().build().unwrap();
    let (leading, gone) = (runtime(), runtime());
    let asking = |on: &tokio::runtime::Runtime| {
        let _inside = on.enter();
        world.asking(FRESH)
    };
    let leader = asking(&leading);
    leading.block_on(turns());
    let waiter = asking(&gone);
    gone.block_on(turns());
    assert_eq!((world.origin.calls(), world.waiting()), (1, Some(2)));
    drop(gone);
    let ended = Barrier::new(2);
    std::thread::scope(|threads| {
        let last = threads.spawn(|| {
            runtime().block_on(async {
                let last = world.asking(FRESH);
                turns().await;
                assert_eq!(world.waiting(), Some(2));
                ended.wait();
                soon(last).await.unwrap()
            })
        });
        ended.wait();
        drop(leading);
        while world.origin.calls() < 2 {
            std::thread::yield_now();
        }
        world.origin.open();
        assert_eq!(last.join().unwrap().unwrap(), 2);
    });
    assert!(leader.is_finished() && waiter.is_finished());
}
