//! A cache in front of something slow, without Python: `cargo run --example first_cache`.
//!
//! A hundred tasks ask for ten primes at once; each is computed once. Then the clock moves past the ttl.

#[cfg(feature = "tokio")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use samovar::{Cache, Clock, Memory, Policy, minutes};

    let clock = Clock::system();
    let primes: Cache<u64, u64> =
        Cache::builder().name("primes").memory(Memory::entries(10_000)).clock(clock.clone()).build();

    let asking: Vec<_> = (0..100_u64)
        .map(|caller| {
            let (primes, nth) = (primes.clone(), 500 + 100 * (caller % 10));
            tokio::spawn(
                async move { primes.get_or_load(&nth, Policy::ttl(minutes(5)), move |_| nth_prime(nth)).await },
            )
        })
        .collect();
    for answer in asking {
        answer.await??;
    }
    let stats = primes.stats();
    println!("{} asked, {} computed", stats.hits + stats.misses, stats.loads);

    println!("the 1000th prime is {:?}", primes.get(&1000));
    // A test, or an example, need not wait for five minutes to pass.
    clock.freeze();
    clock.advance(minutes(5));
    println!("five minutes later it is {:?}", primes.get(&1000));
    Ok(())
}

/// Slow on purpose, and honest about it: it computes.
#[cfg(feature = "tokio")]
async fn nth_prime(nth: u64) -> Result<u64, std::num::TryFromIntError> {
    let nth = usize::try_from(nth)?;
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    Ok((2..).filter(is_prime).nth(nth - 1).unwrap_or_default())
}

#[cfg(not(feature = "tokio"))]
fn main() {
    println!("this example needs the feature `tokio`");
}
