//! The bus over Redis: who listens to a cache is told what others do to it. `docs/bus.md` says what goes over the wire.
//!
//! A connection to each server that writes, for all caches of a store handle together, and only while somebody listens; no value
//! passes it, and nobody who asks for one waits for it. [`session`] decides, [`line`](mod@line) is a connection; here they are opened, timed and lost.

mod line;
mod session;

use super::Inner;
use super::link::greeting;
use super::node::Node;
use super::topology::Topology;
use super::trouble;
use crate::core::coherence::Origin;
use crate::error::{StoreError, StoreFailure};
use crate::io::store::ear::{Ear, Listening};
use futures_util::future::try_join_all;
use line::{Came, Line};
use parking_lot::Mutex;
use session::{Layout, Listener, Out, Session};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until};

/// The longest pause before a connection that was lost is opened anew, and the same where the server does not let us in.
const PAUSE: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const REFUSED: Duration = Duration::from_secs(5);

/// See the module.
pub struct Bus {
    me: Weak<Bus>,
    state: Mutex<State>,
    /// Held while ears are told, so that they are told in order. Nobody who is told has to take it.
    turn: Mutex<()>,
    /// There is something to do.
    wake: Notify,
}

struct State {
    session: Session,
    lines: Vec<Line>,
    /// The how manieth lines these are: what an older one still says is of no interest.
    round: u64,
    /// Why they are lost.
    failed: Option<StoreError>,
    runs: bool,
    closed: bool,
}

/// Ends the listening of one, in the process that began it: a forked child has nothing of it but a copy.
struct Guard {
    bus: Weak<Bus>,
    id: u64,
    process: u32,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.process == std::process::id()
            && let Some(bus) = self.bus.upgrade()
        {
            bus.remove(self.id);
        }
    }
}

impl Bus {
    /// Over what this names. Nothing is opened yet.
    pub fn new(topology: &Topology, prefix: &[u8], database: u32) -> Arc<Self> {
        let layout = match topology {
            Topology::Single(_) => Layout::Single,
            Topology::Sentinel(_) => Layout::Sentinel,
            Topology::Cluster(..) => Layout::Cluster,
        };
        let session = Session::new(layout, prefix.to_vec(), database);
        let state = State { session, lines: Vec::new(), round: 0, failed: None, runs: false, closed: false };
        Arc::new_cyclic(|me| Bus {
            me: me.clone(),
            state: Mutex::new(state),
            turn: Mutex::new(()),
            wake: Notify::new(),
        })
    }

    /// Lets somebody hear.
    pub fn listen(
        &self,
        inner: &Arc<Inner>,
        cache: &[u8],
        origin: Origin,
        external: bool,
        ear: Arc<dyn Ear>,
    ) -> Listening {
        let (id, begin) = {
            let mut state = self.state.lock();
            let listener = Listener { cache: cache.to_vec(), origin, external, ear };
            let id = state.session.add(listener, Instant::now());
            let begin = !state.closed && !std::mem::replace(&mut state.runs, true);
            (id, begin)
        };
        self.wake.notify_one();
        if begin {
            inner.runtime.spawn(keep(Arc::clone(inner)));
        }
        Listening::until_dropped(Guard { bus: self.me.clone(), id, process: std::process::id() })
    }

    fn remove(&self, id: u64) {
        let mut out = Out::default();
        let gone = {
            let state = &mut *self.state.lock();
            let gone = state.session.remove(id, Instant::now(), &mut out);
            state.say(&mut out);
            gone
        };
        self.wake.notify_one();
        drop(gone);
    }

    /// Ends it; who listens is told by whoever keeps it.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// How often something may have been missed, and how often the server refused.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.session.lost, state.session.unheard)
    }

    /// Why nothing is heard, if that is known.
    pub fn why(&self) -> Option<StoreError> {
        self.state.lock().session.why.clone()
    }

    /// Has something decided, and says what comes of it.
    fn act<T>(&self, decide: impl FnOnce(&mut State, &mut Out) -> T) -> T {
        let _turn = self.turn.lock();
        let mut out = Out::default();
        let result = {
            let state = &mut *self.state.lock();
            let result = decide(state, &mut out);
            state.say(&mut out);
            result
        };
        out.news.into_iter().for_each(|(ear, news)| ear.hear(news));
        result
    }

    /// Something came on a line.
    fn hear(&self, round: u64, line: usize, came: Came) {
        let sooner = self.act(|state, out| {
            if state.round != round || state.failed.is_some() {
                return false;
            }
            let (now, due) = (Instant::now(), state.session.due());
            if let Err(error) = state.session.hear(line, came, now, out) {
                state.fail(error, now, out);
            }
            state.failed.is_some() || state.session.due() < due
        });
        if sooner {
            self.wake.notify_one();
        }
    }
}

impl State {
    fn say(&mut self, out: &mut Out) {
        for (line, words) in out.words.drain(..) {
            if let Some(line) = self.lines.get(line) {
                line.say(words);
            }
        }
    }

    fn fail(&mut self, error: StoreError, now: Instant, out: &mut Out) {
        self.session.end(Some(error.clone()), now, out);
        self.failed = Some(error);
    }

    fn is_over(&self) -> bool {
        self.closed || self.session.is_empty()
    }
}

/// Keeps the lines up while somebody listens.
async fn keep(inner: Arc<Inner>) {
    let bus = &inner.bus;
    let mut failures = 0;
    loop {
        let lost = match connect(&inner).await {
            Ok(nodes) => attend(&inner, &nodes).await,
            Err(error) => Some((error, false)),
        };
        let over = bus.act(|state, out| {
            state.lines.clear();
            let why = lost.as_ref().map(|(error, _)| error.clone());
            state.session.end(why, Instant::now(), out);
            let over = state.is_over();
            state.runs &= !over;
            over
        });
        if over {
            return;
        }
        inner.topology.look_again();
        let Some((error, worked)) = lost else { continue };
        failures = if worked { 0 } else { failures + 1 };
        let most = if error.kind == StoreFailure::Misconfigured { REFUSED } else { PAUSE };
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(12)).min(most);
        tokio::select! {
            () = sleep(pause.mul_f64(0.5 + super::draw() / 2.0)) => {}
            // Somebody may have left, or all be closed.
            () = until_over(bus) => {}
        }
    }
}

async fn until_over(bus: &Bus) {
    while !bus.state.lock().is_over() {
        bus.wake.notified().await;
    }
}

/// Opens a line to each server, and begins a session.
async fn connect(inner: &Arc<Inner>) -> Result<Vec<Arc<Node>>, StoreError> {
    let settings = &inner.settings;
    let nodes = inner.topology.masters(tokio::time::Instant::now() + settings.connect_timeout).await?;
    let ends = try_join_all(nodes.iter().map(|node| line::open(&node.address, settings))).await?;
    let words = greeting(settings, true);
    let (words, count) = (words.get_packed_pipeline(), words.len());
    inner.bus.act(|state, out| {
        state.round += 1;
        state.failed = None;
        let round = state.round;
        let start = |(line, (ends, node)): (usize, (line::Ends, &Arc<Node>))| {
            let bus = Arc::downgrade(&inner.bus);
            let hear = move |came| {
                if let Some(bus) = bus.upgrade() {
                    bus.hear(round, line, came);
                }
            };
            Line::start(ends, node.name.clone(), hear)
        };
        state.lines = ends.into_iter().zip(&nodes).enumerate().map(start).collect();
        state.session.begin(nodes.len(), (&words, count), Instant::now(), out);
    });
    Ok(nodes)
}

/// Sees to a session until it fails, and says why and whether it had worked; `None` if there is nobody to see to it for.
async fn attend(inner: &Arc<Inner>, nodes: &[Arc<Node>]) -> Option<(StoreError, bool)> {
    let (bus, begin) = (&inner.bus, Instant::now());
    loop {
        let (failed, due) = bus.act(|state, out| {
            let now = Instant::now();
            if state.is_over() {
                return (None, None);
            }
            if state.failed.is_none() && state.session.is_late(now) {
                state.fail(trouble::no_answer(&nodes[0].name, session::TIME_OUT), now, out);
            }
            if state.failed.is_none() && !is_as_it_was(inner, nodes) {
                state.fail(trouble::has_changed(), now, out);
            }
            if state.failed.is_none() {
                state.session.join(&|clock| route(inner, nodes, clock), now, out);
                state.session.beat(now, out);
            }
            (state.failed.clone(), state.session.due())
        });
        if let Some(failed) = failed {
            return Some((failed, begin.elapsed() > session::HEARTBEAT));
        }
        let due = due?;
        tokio::select! {
            () = sleep_until(due.into()) => {}
            () = bus.wake.notified() => {}
        }
    }
}

/// On which line a clock is.
fn route(inner: &Inner, nodes: &[Arc<Node>], clock: &[u8]) -> Option<usize> {
    let node = inner.topology.known(clock)?;
    nodes.iter().position(|other| Arc::ptr_eq(other, &node))
}

/// False if others are known by now to be the servers that write.
fn is_as_it_was(inner: &Inner, nodes: &[Arc<Node>]) -> bool {
    let same =
        |found: &[Arc<Node>]| found.len() == nodes.len() && found.iter().zip(nodes).all(|(a, b)| Arc::ptr_eq(a, b));
    match &inner.topology {
        Topology::Single(_) => true,
        Topology::Sentinel(finder) => finder.found().is_some_and(|found| same(&[found])),
        Topology::Cluster(_, finder) => finder.found().is_some_and(|found| same(&found.masters)),
    }
}
