//! Waits for a moment of the cache's clock: by the runtime's timer while that clock runs, and until somebody moves it while it
//! stands still.

use crate::core::clock::{Clock, Millis, NEVER, Watch};
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// See the module. Needs a runtime with its time enabled, unless the clock is frozen.
pub(crate) struct Alarm {
    clock: Clock,
    at: Millis,
    watch: Watch,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// `None` for what is never due. Boxed, since few need one.
    pub fn at(clock: &Clock, at: Millis) -> Option<Box<Self>> {
        (at < NEVER).then(|| Box::new(Alarm { clock: clock.clone(), at, watch: clock.watch(), sleep: None }))
    }

    /// Until the moment has come; for ever, if it never does.
    pub async fn ring(clock: &Clock, at: Millis) {
        match Alarm::at(clock, at) {
            Some(mut alarm) => poll_fn(|context| alarm.poll(context)).await,
            None => pending().await,
        }
    }

    /// Ready when the moment has come.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Before the time is asked for, so that no move of the clock is missed.
        self.watch.wake(context.waker());
        loop {
            let left = self.at.saturating_sub(self.clock.now());
            if left == 0 {
                return Poll::Ready(());
            }
            if self.clock.is_frozen() {
                self.sleep = None;
                return Poll::Pending;
            }
            let sleeping = self.sleep.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(left))));
            if sleeping.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            // The runtime's time need not be the clock's.
            self.sleep = None;
        }
    }
}
