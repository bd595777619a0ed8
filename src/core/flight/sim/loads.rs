//! How the simulated driver starts and ends loads, and what must be true of what they bring.

use super::super::{Due, Effect, Effects, Ended, FlightId, Input, Keep, Lasting, Lease, waits};
use super::oracle::{Fault, Promise, Verdict, check};
use super::plan::How;
use super::world::{Caller, Flying, Load, Outcome, Running, Task, World};
use crate::core::flight::Done;
use crate::core::memory::Discard;
use crate::core::policy::OnRefreshError;
use crate::core::remote::ledger::Note;

impl World {
    pub fn known(&self, flight: FlightId) -> Option<&Flying> {
        self.flying.iter().find(|flying| flying.id == flight)
    }

    /// A load begins, or is about to.
    pub fn led(&mut self, lease: Lease) {
        let now = self.now;
        self.flying.iter_mut().filter(|flying| flying.id == lease.flight).for_each(|flying| flying.led = now);
    }

    /// Calls the loader. One that answers at once has reported when this is done.
    pub fn start(&mut self, caller: usize, lease: Lease, uses: Option<usize>) -> Verdict {
        let Caller { key, policy, place, home, .. } = self.callers[caller];
        let value = self.oracle.value(key, self.moment, policy);
        let void = !self.flights().is_current(lease);
        let running = self.running.iter().map(|&load| &self.loads[load]);
        let twice = running.filter(|load| load.lease.flight == lease.flight && !load.void).count();
        check(twice == 0 || void, Promise::OneLoad, || format!("{key} is loaded twice for one flight"))?;
        self.tasks.remove(&lease.flight.to_bits());
        let (timer, ended, reported, cancelled) = (None, None, false, false);
        let mut load = Load { lease, place, home, key, policy, value, uses, timer, ended, reported, cancelled, void };
        let number = self.loads.len();
        if load.is_task() && self.at_once && self.dice.once_in(8) {
            load.ended = Some(self.dice.one_of(&[How::Value, How::Failed, How::NotFound]));
        } else if load.is_task() {
            load.timer = self.arm(place, Due::Load(lease));
            self.tasks.insert(lease.flight.to_bits(), Task { load: Some(number), home });
        }
        self.loads.push(load);
        self.running.push(number);
        if load.ended.is_some() { self.report(number, None) } else { Ok(()) }
    }

    /// A load is over. `loader` is who answers after that.
    pub fn report(&mut self, number: usize, loader: Option<usize>) -> Verdict {
        let Load { lease, place, key, policy, value, timer, void, .. } = self.loads[number];
        let how = self.loads[number].ended.unwrap_or(How::Aborted);
        if self.tasks.get(&lease.flight.to_bits()).is_some_and(|task| task.load == Some(number)) {
            self.tasks.remove(&lease.flight.to_bits());
        }
        self.cancel_timer(place, timer);
        self.loads[number].reported = true;
        self.running.retain(|&other| other != number);
        let kept_error = how == How::KeptError && !self.memory.has_old(lease, self.now);
        let negative = kept_error || how == How::NotFound;
        self.oracle.origin_mut(value).negative = negative;
        let (keeps, ttl) = match policy.negative_ttl {
            ttl if negative => (ttl.is_some(), ttl),
            _ => (how == How::Value, policy.ttl),
        };
        let input = match how {
            How::Aborted => Input::Aborted,
            _ if how.is_answer() || kept_error => Input::Loaded,
            _ => Input::Failed,
        };
        let keep = keeps.then_some(Keep {
            value: || value,
            tag: 0,
            negative,
            lasting: Lasting::For(ttl),
            weight: 1,
            adapted: None,
            note: Note::default(),
        });
        let group = self.group(key);
        let (refused, draw) = (self.memory.entries.stats_mut(group).refused, self.dice.share());
        let ended = Ended { lease, input, keep, policy: &policy, group };
        let Done { effects, counts, old, .. } = self.memory.finish(ended, self.now, || draw, &mut Discard::default());
        check(void != counts, Promise::LateLoadsAreVoid, || {
            format!("load {number} is void: {void}, and its end counts: {counts}")
        })?;
        self.counts(key).load_errors += u64::from(counts && input != Input::Loaded);
        let refused = self.memory.entries.stats_mut(group).refused > refused;
        self.check_stored(number, input, keeps, refused)?;
        self.check_failed(lease.flight, input, &effects)?;
        let outcome = if input == Input::Loaded { Outcome::Value(value) } else { Outcome::Error };
        self.run_settled(place, lease.flight, (effects, old), outcome, loader)
    }

    /// What a load brought is there, if it may be, and for as long as it may.
    fn check_stored(&mut self, number: usize, input: Input, keeps: bool, refused: bool) -> Verdict {
        let Load { lease, key, policy, value, void, .. } = self.loads[number];
        let Some(&Flying { attached, led, .. }) = self.known(lease.flight) else { return Ok(()) };
        let wanted = input == Input::Loaded && !void && attached;
        if let Some((id, stored)) = self.entry(key)
            && stored == value
        {
            let span = self.memory.entries.span(id);
            self.oracle.store(value, span, self.now)?;
            return self.oracle.check_life(value, &policy, (led, self.now), span);
        }
        if wanted && !keeps {
            self.oracle.invalidate(key, self.moment);
        }
        if wanted && refused {
            self.oracle.current[usize::from(key)] = None;
        }
        check(!wanted || !keeps || refused, Promise::LoadedIsStored, || format!("{value:?} is not there"))
    }

    /// A load that fails leaves an old value in use, or takes it along.
    fn check_failed(&self, flight: FlightId, input: Input, effects: &Effects<u8, u32>) -> Verdict {
        let failed = input == Input::Failed && !effects.is_empty();
        let Some(known) = self.known(flight).filter(|known| failed && known.attached) else { return Ok(()) };
        let of_use = known.old.filter(|&old| self.oracle.is_of_use(old, &known.policy, self.now));
        let relents = effects.iter().any(|effect| matches!(effect, Effect::Relent(_)));
        check(of_use.is_none() || relents, Promise::OldValueAnswers, || format!("{of_use:?} does not"))?;
        let forgets = effects.iter().any(|effect| matches!(effect, Effect::Forget(_)));
        let drops = known.forget.is_some() && known.policy.on_refresh_error == OnRefreshError::Drop;
        check(!drops || forgets, Promise::DroppedIsGone, || format!("{:?} does not go", known.forget))
    }

    /// Somebody was told to load: others see by this if its loop stands still.
    pub fn expect(&mut self, flight: FlightId, seat: u32) {
        let home = self.seat(seat).home;
        if !self.flights().expects(flight, home) {
            return;
        }
        self.waits.moved(waits::Load { cache: 0, flight }, home.thread);
        if home.event_loop != 0 {
            self.tasks.insert(flight.to_bits(), Task { load: None, home });
        } else {
            self.tasks.remove(&flight.to_bits());
        }
    }

    /// The load of a flight is cancelled, unless a later one runs by now.
    pub fn cancel_load(&mut self, flight: FlightId) -> Verdict {
        let load = self.tasks.get(&flight.to_bits()).and_then(|task| task.load);
        let Some(load) = load.filter(|&load| !self.flights().is_current(self.loads[load].lease)) else { return Ok(()) };
        self.tasks.remove(&flight.to_bits());
        let Load { place, timer, void, .. } = self.loads[load];
        self.cancel_timer(place, timer);
        self.loads[load].cancelled = true;
        check(void, Promise::LoadsEndWithTheirUse, || format!("{:?} is cancelled by mistake", self.loads[load]))
    }

    /// True for a loop that is closed or stands still.
    pub fn is_dead(&self, event_loop: u64) -> bool {
        let mut sites = self.sites.iter();
        event_loop != 0 && !sites.any(|site| site.home.event_loop == event_loop && site.running == Running::Runs)
    }

    /// Ends a flight whose load is stranded on a dead loop; true if it was.
    pub fn supersede_if_stranded(&mut self, caller: usize, flight: FlightId) -> Result<bool, Fault> {
        let Caller { place, home, .. } = self.callers[caller];
        self.supersede_from(place, home.event_loop, flight)
    }

    pub fn supersede_from(&mut self, place: usize, here: u64, flight: FlightId) -> Result<bool, Fault> {
        let task = self.tasks.get(&flight.to_bits());
        if task.is_none_or(|task| task.home.event_loop == here || !self.is_dead(task.home.event_loop)) {
            return Ok(false);
        }
        let effects = self.memory.flights.supersede(flight);
        self.tasks.remove(&flight.to_bits());
        self.void(flight);
        self.run(place, flight, effects, Outcome::Again, None)?;
        Ok(true)
    }

    /// What the flight's load brings counts no more, wherever it is.
    pub fn void(&mut self, flight: FlightId) {
        let loads = self.loads.iter_mut().filter(|load| load.lease.flight == flight && !load.reported);
        loads.for_each(|load| load.void = true);
    }
}
