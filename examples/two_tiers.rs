//! Memory over Redis, shared by processes: `cargo run --features redis --example two_tiers redis://127.0.0.1:6379/0`.
//!
//! Run it twice within a minute: the second run loads nothing. A Python program with a cache of the same name reads and writes the same
//! entries. Without a URL it says what it needs; without its server it works on, from memory.

#[cfg(feature = "redis")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use samovar::{Cache, Memory, Policy, Redis, minutes};
    use serde::{Deserialize, Serialize};
    use std::convert::Infallible;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Rate {
        code: String,
        per_euro: f64,
    }

    let Some(url) = std::env::args().nth(1).or_else(|| std::env::var("REDIS_URL").ok()) else {
        println!("give it the URL of a Redis, such as redis://127.0.0.1:6379/0, or set REDIS_URL");
        return Ok(());
    };
    let rates: Cache<String, Rate> =
        Cache::builder().name("rates").memory(Memory::entries(10_000)).remote(Redis::open(&url)?).build();

    for code in ["USD", "GBP", "USD"] {
        let load = move |_| async move {
            println!("  asking the bank for {code}");
            Ok::<_, Infallible>(Rate { code: code.into(), per_euro: 1.0 + code.len() as f64 / 10.0 })
        };
        let rate = rates.get_or_load(code, Policy::ttl(minutes(1)), load).await?;
        println!("one euro is {} {}", rate.per_euro, rate.code);
    }
    let stats = rates.stats();
    println!("{} from memory, {} from Redis, {} loaded", stats.hits, stats.remote_hits, stats.loads);

    let yen = Rate { code: "JPY".into(), per_euro: 160.5 };
    println!("a rate written by hand: {:?}", rates.set("JPY".into(), yen, Policy::ttl(minutes(1))).await?);
    println!("and read again: {:?}", rates.fetch("JPY").await?);
    println!("and deleted: {:?}", rates.delete("JPY").await?);
    Ok(())
}

#[cfg(not(feature = "redis"))]
fn main() {
    println!("this example needs the feature `redis`: cargo run --features redis --example two_tiers URL");
}
