//! The runtime on which connections live: one worker thread a process, started when it is first needed.
//!
//! Storage and connections belong to the process and not to a loop or a runtime of the user's, so any number of those share them,
//! come and go. The thread never takes a language's interpreter, nor touches the memory tier.

use super::process::PerProcess;
use std::io;
use tokio::runtime::{Builder, Handle, Runtime};

static OWN: PerProcess<Quiet> = PerProcess::new();

/// A runtime that may be dropped anywhere: one made in vain goes without waiting for its thread.
struct Quiet(Option<Runtime>, Handle);

impl Drop for Quiet {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// This process's runtime. After a fork the child starts its own, and leaves the parent's alone.
///
/// # Errors
///
/// The system's, if it gives no thread.
pub fn handle() -> io::Result<&'static Handle> {
    OWN.get_or_make(start).map(|quiet| &quiet.1)
}

fn start() -> io::Result<Quiet> {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).max_blocking_threads(4).thread_name("samovar-io").enable_all().build()?;
    let handle = runtime.handle().clone();
    Ok(Quiet(Some(runtime), handle))
}
