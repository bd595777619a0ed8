//! How somebody is answered: from memory if that is trusted, else by what the store says of it, else by a load.

use super::node::{Caller, Held, Kept, Request, Run, Work};
use super::store::TTL;
use super::world::{Heard, PATIENCE_MS, World};
use crate::core::broken::{Rule, broken};
use crate::core::coherence::Told;
use crate::core::coherence::heed::{self, Asked};
use crate::core::coherence::registers::{Began, Verdict};
use crate::core::remote::fill::{self, End, Fill, Next};
use crate::core::remote::{Found, Frame, Sharing, Token, Version, Wanted};

impl World {
    pub fn read(&mut self, at: usize, key: u8) {
        let (now, node) = (self.now, &self.nodes[at]);
        if node.paused {
            return;
        }
        let own = node.floor[usize::from(key)];
        let mut need = own;
        for &Heard { rank, how, when, by } in &self.told[usize::from(key)] {
            if when + PATIENCE_MS <= now && by != Some(node.origin) {
                need.raise(rank, how);
            }
        }
        self.waiting += 1;
        self.look_up(at, Caller { key, own, need, joined: 0 });
    }

    pub fn look_up(&mut self, at: usize, caller: Caller) {
        let (now, key, node) = (self.now, caller.key, &mut self.nodes[at]);
        let caller = Caller { joined: node.registers.sequence(), ..caller };
        let good = node.entry(key).filter(|kept| now < kept.until && node.judge(key, kept.began) == Verdict::Good);
        let Some(kept) = good else {
            *node.entry(key) = None;
            return self.wait(at, caller);
        };
        if node.trust.covers(kept.span, now) {
            return self.answer(caller, kept.value, caller.need.any);
        }
        let id = self.begin(at, key, Work::Look(caller, kept.version));
        self.send(at, id, Request::Read);
    }

    /// There is nothing: somebody loads it already, or this caller does.
    pub fn wait(&mut self, at: usize, caller: Caller) {
        let (now, node) = (self.now, &mut self.nodes[at]);
        let trust = node.trust;
        for run in node.runs.iter_mut().filter(|run| run.key == caller.key && run.attached) {
            let Work::Fill { callers, .. } = &mut run.work else { continue };
            if trust.lets_wait(run.mark, now) {
                return callers.push(caller);
            }
            run.attached = false;
        }
        self.fill(at, caller.key, vec![caller], Wanted::Newer(None));
    }

    pub fn fill(&mut self, at: usize, key: u8, callers: Vec<Caller>, wanted: Wanted) {
        let token = Token::new(u128::from(self.serial(at)));
        let (fill, next) = Fill::begin(token, wanted, Sharing::Process);
        let node = &mut self.nodes[at];
        // Who loads for an earlier one of them comes too late.
        node.runs.iter_mut().filter(|run| run.key == key).for_each(|run| run.attached = false);
        let id = self.begin(at, key, Work::Fill { fill: fill.into(), callers, began: Began::default(), loading: None });
        self.next(at, id, next);
    }

    pub fn next(&mut self, at: usize, id: u64, next: Next<Held>) {
        match next {
            Next::Claim { token, wanted } => self.send(at, id, Request::Claim(token, wanted)),
            Next::Write { claim, value, newer_than } => self.send(at, id, Request::Fill((claim, newer_than), value)),
            Next::Release(token) => self.send(at, id, Request::Release(token)),
            Next::Read | Next::Await(..) => unreachable!("nobody begins so here"),
            Next::Load => {
                let node = &mut self.nodes[at];
                let here = Some(node.registers.sequence());
                let Some(Run { key, work: Work::Fill { began, loading, .. }, .. }) = node.run(id) else { return };
                began.here = here;
                *loading = self.truth[usize::from(*key)].last().copied();
            }
            Next::End(end) => self.end(at, id, end),
        }
    }

    pub fn step(&mut self, at: usize, id: u64, input: fill::Input<Held>) {
        let now = self.now;
        let Some(Run { work: Work::Fill { fill, .. }, .. }) = self.nodes[at].run(id) else { return };
        if let Some(next) = fill.step(input, now) {
            self.next(at, id, next);
        }
    }

    /// What the clock answers is learnt; true if what the store has can be judged now.
    pub fn learn(&mut self, at: usize, told: Option<Told>) -> bool {
        let (now, node) = (self.now, &mut self.nodes[at]);
        if let Some(told) = &told {
            node.registers.learn(told);
        }
        told.is_some() || node.trust.holds(now) || broken(Rule::RegistersAreAsked)
    }

    /// True if a frame may be served.
    pub fn is_good(&self, at: usize, id: u64, frame: &Frame<Held>) -> bool {
        let node = &self.nodes[at];
        let Some(run) = node.runs.iter().find(|run| run.id == id) else { return false };
        frame.value.is_some_and(|held| self.judge_frame(at, run, held) == Verdict::Good)
    }

    pub fn judge_frame(&self, at: usize, run: &Run, held: Held) -> Verdict {
        let node = &self.nodes[at];
        match (node.judge(run.key, run.found(held)), node.believes(run.key)) {
            _ if broken(Rule::FramesAreJudged) => Verdict::Good,
            (verdict, true) => verdict,
            (_, false) => Verdict::Gone,
        }
    }

    pub fn claimed(&mut self, at: usize, id: u64, told: Option<Told>, found: Found<Frame<Held>>) {
        let stamp = told.as_ref().map(|told| told.stamp);
        let judged = self.learn(at, told);
        let unstamped = stamp.is_none() && !broken(Rule::UnstampedIsNotShared);
        match &found {
            Found::Fresh(frame) if judged && !self.is_good(at, id, frame) => return self.again(at, id, frame.version),
            Found::Fresh(_) if judged => {}
            Found::Claimed(..) if !unstamped => {}
            // What nobody can judge, neither here nor elsewhere, is not shared.
            _ => return self.step(at, id, fill::Input::Unknown),
        }
        if let Some(Run { work: Work::Fill { began, .. }, .. }) = self.nodes[at].run(id) {
            began.store = stamp;
        }
        self.step(at, id, fill::Input::Claimed(found));
    }

    /// The store has something that was invalidated: who waits is to have something newer.
    pub fn again(&mut self, at: usize, id: u64, version: Version) {
        let Some(Run { key, work: Work::Fill { callers, .. }, attached, .. }) = self.nodes[at].take_run(id) else {
            return;
        };
        let wanted = Wanted::Newer(Some(version));
        if attached {
            return self.fill(at, key, callers, wanted);
        }
        callers.into_iter().for_each(|caller| self.look_up(at, caller));
    }

    /// A fill is over: into memory what may go there, and the callers are answered.
    pub fn end(&mut self, at: usize, id: u64, end: End<Held>) {
        let now = self.now;
        let broken_off = match &end {
            End::Lost(frame) | End::Found(frame) => Some(*frame).filter(|frame| !self.is_good(at, id, frame)),
            _ => None,
        };
        if let Some(frame) = broken_off {
            return self.again(at, id, frame.version);
        }
        let node = &mut self.nodes[at];
        let Some(mut run) = node.take_run(id) else { return };
        let Run { key, mark, attached, .. } = run;
        let Work::Fill { callers, began, .. } = &mut run.work else { return };
        let (callers, began) = (std::mem::take(callers), *began);
        let (held, version, began, left) = match end {
            End::Found(Frame { value: Some(held), version, .. })
            | End::Lost(Frame { value: Some(held), version, .. }) => {
                let left =
                    if let End::Found(frame) | End::Lost(frame) = &end { self.store.left(frame, now) } else { 0 };
                (held, Some(version), run.found(held), left)
            }
            End::Loaded(Some(held), Some(version)) => (held, Some(version), began, TTL),
            End::Loaded(Some(held), None) => (held, None, Began { store: None, ..began }, TTL),
            End::Forgone(Some(held)) => (held, None, began, 0),
            End::Old(Frame { value: Some(held), .. }) => {
                let gone = self.judge_frame(at, &run, held) == Verdict::Gone;
                return callers.into_iter().for_each(|caller| match gone {
                    true => self.waiting -= 1,
                    false => self.answer(caller, held.value, caller.need.gone),
                });
            }
            _ => return self.waiting -= callers.len(),
        };
        let verdict = node.judge(key, began);
        let span = if broken(Rule::LoadsKeepTheirSpan) { node.trust.span() } else { mark.span };
        if attached && left > 0 && verdict == Verdict::Good {
            node.put(key, Some(Kept { value: held.value, version, began, span, until: now + left }));
        }
        for caller in callers {
            let joined = began.here.is_none_or(|here| heed::answers(verdict, here, caller.joined));
            if joined { self.answer(caller, held.value, caller.need.any) } else { self.look_up(at, caller) }
        }
    }

    /// Something in memory was in doubt, and the store was asked; `None`: it did not answer.
    pub fn looked(&mut self, at: usize, id: u64, answer: Option<Option<Frame<Held>>>) {
        let (now, node) = (self.now, &mut self.nodes[at]);
        let Some(run) = node.take_run(id) else { return };
        let Run { key, work: Work::Look(caller, version), mark, .. } = &run else { return };
        let (key, caller, version, mark) = (*key, *caller, *version, *mark);
        let kept =
            node.entry(key).filter(|kept| now < kept.until && kept.version == version && node.is_unchanged(&run));
        let Some(kept) = kept.filter(|kept| node.judge(key, kept.began) == Verdict::Good) else {
            return self.look_up(at, caller);
        };
        match heed::asked(version, answer) {
            Asked::Keep => {
                *node.entry(key) = Some(Kept { span: mark.span, ..kept });
                self.answer(caller, kept.value, caller.need.any);
            }
            Asked::Take(frame) => {
                let Some(held) = frame.value else { return };
                let (version, began) = (Some(frame.version), run.found(held));
                let until = now + self.store.left(&frame, now);
                node.put(key, Some(Kept { value: held.value, version, began, span: mark.span, until }));
                self.answer(caller, held.value, caller.need.any);
            }
            Asked::Drop => {
                node.put(key, None);
                self.look_up(at, caller);
            }
            Asked::Serve => {
                node.doubts += 1;
                self.answer(caller, kept.value, caller.own.any);
            }
        }
    }

    pub fn answer(&mut self, caller: Caller, value: u32, need: usize) {
        self.waiting -= 1;
        self.answers += 1;
        let rank = self.rank(caller.key, value);
        if rank < need {
            let story =
                format!("{value} of {} is {rank}, and has to be {need}: {caller:?} at {}", caller.key, self.now);
            self.fault.get_or_insert(story);
        }
    }
}
