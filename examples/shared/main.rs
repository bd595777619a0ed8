//! The Rust half of two programs that share entries in one Redis: the other is `app.py`.
//!
//! `cargo run --features redis --example shared redis://127.0.0.1:6379/0 1 2` shows products 1 and 2. Whichever program is asked for a
//! product first loads it, and for five minutes both have it. The names must agree: that of the cache, and the key's.

#[cfg(feature = "redis")]
mod shop {
    use samovar::{Cache, Policy, Redis, minutes};
    use serde::{Deserialize, Serialize};
    use std::error::Error;
    use std::io;

    const PRODUCTS: &str = include_str!("products.csv");

    /// What both programs know of a product. What Python has written, an object with these fields, is read as one.
    #[derive(Clone, Serialize, Deserialize)]
    struct Product {
        name: String,
        cents: u32,
        colours: Vec<String>,
        kilograms: Option<f64>,
        loaded_by: String,
    }

    /// Reads a product from the file both programs have for a database.
    fn load(number: u32) -> io::Result<Product> {
        let wrong = |line: &str| io::Error::other(format!("this is no product: {line:?}"));
        for line in PRODUCTS.lines() {
            let [id, name, cents, colours, kilograms] = line.split(',').collect::<Vec<_>>()[..] else {
                return Err(wrong(line));
            };
            if id.parse() == Ok(number) {
                return Ok(Product {
                    name: name.into(),
                    cents: cents.parse().map_err(|_| wrong(line))?,
                    colours: colours.split_whitespace().map(String::from).collect(),
                    kilograms: kilograms.parse().ok(),
                    loaded_by: "Rust".into(),
                });
            }
        }
        Err(io::Error::other(format!("there is no product {number} in products.csv")))
    }

    /// One line, the same in both programs.
    fn shown(number: u32, product: &Product) -> String {
        let Product { name, cents, colours, kilograms, loaded_by } = product;
        let colours = if colours.is_empty() { "none".into() } else { colours.join("+") };
        let weight = kilograms.map_or("unknown".into(), |weight| format!("{weight} kg"));
        format!("product {number}: {name}, {cents} cents, colours {colours}, weight {weight}, loaded by {loaded_by}")
    }

    /// Shows these products.
    pub async fn show(url: &str, numbers: &[String]) -> Result<(), Box<dyn Error>> {
        let products: Cache<String, Product> = Cache::builder().name("shop").remote(Redis::open(url)?).build();
        for number in numbers {
            let number = number.parse()?;
            let key = format!("product:{number}");
            let product = products.get_or_load(&key, Policy::ttl(minutes(5)), move |_| async move { load(number) });
            println!("{}", shown(number, &product.await?));
        }
        Ok(())
    }
}

#[cfg(feature = "redis")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [url, numbers @ ..] if !numbers.is_empty() => shop::show(url, numbers).await,
        _ => Err("give the URL of a Redis and numbers of products: redis://127.0.0.1:6379/0 1 2".into()),
    }
}

#[cfg(not(feature = "redis"))]
fn main() {
    println!("this example needs the feature `redis`: cargo run --features redis --example shared URL NUMBERS");
}
