//! A lease that is filled by a blocked thread: the same steps as on a loop, and many at a time.

use super::*;

/// A lease that is filled by a blocked thread, step by step.
pub struct Blocked<'a> {
    request: &'a Request,
    behind: &'a Behind,
    lease: Lease,
    /// Until it has ended.
    filling: Option<Filling>,
    stands: Stands,
    _until_settled: Option<Arc<Underway>>,
}

/// How far it has come.
enum Stands {
    Next(Next<()>),
    Asks(Asked, Action),
    /// For another process's load, until then.
    Waits(Instant),
    Loads,
    Ended(Judged, Ending),
}

impl<'a> Blocked<'a> {
    /// Of a lease that was just taken; `None` if its entry is of this process alone.
    pub fn begin(py: Python<'_>, state: &State, request: &'a Request, lease: Lease) -> Option<Self> {
        let behind = request.behind.as_ref()?;
        let (filling, stands) = match Filling::begin(py, state, request, (lease, true)) {
            Ok(begun) => {
                let (filling, next) = begun?;
                (Some(filling), Stands::Next(next))
            }
            Err(error) => (None, Stands::Ended(failed(py, error), Ending::Loaded)),
        };
        let _until_settled = filling.as_ref().map(|filling| Arc::clone(&filling.underway));
        Some(Blocked { request, behind, lease, filling, stands, _until_settled })
    }

    /// True if its loader is to be called.
    pub fn loads(&self) -> bool {
        matches!(self.stands, Stands::Loads)
    }

    /// It has been, and has ended so.
    pub fn loaded(&mut self, py: Python<'_>, state: &State, called: PyResult<Object>) {
        if let Some(filling) = &mut self.filling {
            let judged = blocking::judge(py, state, self.request, self.lease, called);
            self.stands = Stands::Next(filling.loaded(self.request, judged));
        }
    }

    /// Tells everybody how it has ended, and gives what the caller on this thread gets.
    pub fn conclude(self, py: Python<'_>, state: &State) -> PyResult<Object> {
        let ended = match self.stands {
            Stands::Ended(judged, ending) => (judged, ending),
            _ => (failed(py, PyRuntimeError::new_err("a load that has not ended")), Ending::Loaded),
        };
        blocking::answer_with(py, state, self.request, self.lease, ended)
    }

    /// Goes on to where it asks, loads or has ended.
    fn advance(&mut self, py: Python<'_>, state: &State) {
        let Stands::Next(next) = &self.stands else { return };
        let Some(mut filling) = self.filling.take() else { return };
        self.stands = match filling.doing(py, self.request, self.behind, next.clone()) {
            Ok(Do::Ask(asked, action)) => Stands::Asks(asked, action),
            Ok(Do::Wait(pause)) => Stands::Waits(Instant::now() + pause),
            Ok(Do::Load) => Stands::Loads,
            Ok(Do::End(end)) => {
                let ended = filling.end(py, state, self.request, self.behind, end);
                let (judged, ending) = ended.unwrap_or_else(|error| (failed(py, error), Ending::Loaded));
                self.stands = Stands::Ended(judged, ending);
                return;
            }
            Err(error) => Stands::Ended(failed(py, error), Ending::Loaded),
        };
        self.filling = Some(filling);
    }

    fn told(&mut self, py: Python<'_>, asked: Asked, answer: PyResult<Answer>) {
        let Some(filling) = &mut self.filling else { return };
        let told = answer.and_then(|answer| filling.told(py, self.request, self.behind, (asked, answer)));
        self.stands = match told {
            Ok(Told::Next(next)) => Stands::Next(next),
            Ok(Told::Again(asked, action)) => Stands::Asks(asked, action),
            Err(error) => {
                filling.abandon(self.behind);
                Stands::Ended(failed(py, error), Ending::Loaded)
            }
        };
    }
}

/// Lets leases of one cache go on to where each waits, loads or has ended; what they ask at a time is one round trip.
pub fn advance(py: Python<'_>, state: &State, all: &mut [Blocked<'_>]) {
    loop {
        let (mut asking, mut requests) = (Vec::new(), Vec::new());
        for (at, one) in all.iter_mut().enumerate() {
            one.advance(py, state);
            if let (Stands::Asks(asked, action), Some(filling)) = (&one.stands, &one.filling) {
                asking.push((at, *asked));
                requests.push(store::Request { key: filling.key.clone().into(), action: action.clone() });
            }
        }
        let Some((request, behind)) = asking.first().map(|&(at, _)| (all[at].request, all[at].behind)) else { return };
        let needs = |one: &Blocked<'_>, asked| one.filling.as_ref().is_some_and(|filling| filling.asks_clock(asked));
        let clock = asking.iter().any(|&(at, asked)| needs(&all[at], asked));
        if clock {
            requests.push(behind.remote.ask_clock(&request.tier.memory.lock()));
        }
        let mut answers = match bridge::ask_blocking(py, &behind.remote.store, requests) {
            Ok(mut answers) => {
                let stamp =
                    if clock { answers.pop().and_then(|answer| stamp_of(request, behind, answer)) } else { None };
                for filling in all.iter_mut().filter_map(|one| one.filling.as_mut()) {
                    filling.stamp = filling.stamp.or(stamp);
                }
                Ok(answers.into_iter())
            }
            Err(interrupt) => Err(interrupt),
        };
        for (at, asked) in asking {
            let answer = match &mut answers {
                Ok(answers) => answers.next().ok_or_else(|| PyRuntimeError::new_err("a store that does not answer")),
                Err(interrupt) => Err(interrupt.clone_ref(py)),
            };
            all[at].told(py, asked, answer);
        }
    }
}

/// Waits until the first of those goes on that wait for other processes' loads; false if none does. Whoever loads does so before it
/// waits: others may be waiting for that.
pub fn rest(py: Python<'_>, all: &mut [Blocked<'_>]) -> bool {
    let waits = |one: &Blocked<'_>| if let Stands::Waits(until) = one.stands { Some(until) } else { None };
    let Some(first) = all.iter().filter_map(waits).min() else { return false };
    let join = |wakes: Answers| -> Vec<_> {
        let waiting = all.iter().filter(|one| waits(one).is_some());
        let join = |one: &Blocked<'_>| {
            let key = &one.filling.as_ref()?.key;
            Some(one.behind.remote.waiters.join(key, wakes.clone()))
        };
        waiting.filter_map(join).collect()
    };
    let rested = bridge::rest_blocking(py, first.saturating_duration_since(Instant::now()), join);
    // Those who would go on a little later go on too: it is one round trip.
    for one in all.iter_mut().filter(|one| waits(one).is_some()) {
        let awaited = rested.as_ref().map_err(|interrupt| interrupt.clone_ref(py));
        one.told(py, Asked::Time, awaited.map(|()| Ok(Reply::Done(true))));
    }
    true
}
