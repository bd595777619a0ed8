//! How a loader is protected from its users, and they from it: four machines that decide, each in a file of its own.
//!
//! - [`Retry`]: whether a failed attempt is followed by another, and after which pause.
//! - [`Breaker`]: whether a loader that keeps failing is called at all.
//! - [`Rate`]: how many calls may start in a time.
//! - [`Concurrency`]: how many calls may run at once.
//!
//! They hold no lock, never sleep and ask for neither time nor dice: `now` is an argument, read under the lock that guards
//! the machine, and so is every draw. A caller who is refused is told how long, and waits, or not, by itself.
//!
//! One call under all four asks them in the order above, from outside to inside, as Resilience4j does. Every attempt
//! asks the breaker anew, and counts in it. An open breaker uses up no rate. Nobody holds a permit of the concurrency
//! limit while pausing or waiting for something else.

mod breaker;
mod concurrency;
mod rate;
mod retry;

pub use breaker::{Breaker, BreakerConfig, BreakerState, Counts, Outcome, Permit};
pub use concurrency::{Concurrency, Entered, Left, Ticket};
pub use rate::{Rate, Slot, parse_rate};
pub use retry::Retry;
