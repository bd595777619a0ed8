//! The wait-for graph: which load waits for which, for which permit, and which blocked thread for what.
//!
//! An edge is noted where a load's own code waits for another load, or where a thread blocks; callers who are no part of a
//! load wait for others, but nobody waits for them. A load on an event loop needs that loop's thread: if the thread is
//! blocked, the load waits for whatever the thread waits for. Caches share one graph, so that a circle through two of
//! them is found too.
//!
//! Whoever waits for loads needs all of them; whoever waits for a permit needs one of those who hold one to end (Holt 1972:
//! a deadlock among shared resources is no mere cycle). So what is asked is not whether there is a way around, but who can
//! still come to an end.

use super::FlightId;
use crate::core::broken::{Rule, broken};
use std::collections::{HashMap, HashSet};

/// A load of one of the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Load {
    /// Which cache, by whatever number tells them apart.
    pub cache: u64,
    /// Its flight.
    pub flight: FlightId,
}

/// A call that holds a permit, or waits for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Of which limit, by whatever number tells them apart.
    pub limit: u64,
    /// Which of the limit's calls.
    pub call: u64,
}

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The code of a load.
    Load(Load),
    /// The code of a call that holds a permit.
    Hold(Hold),
    /// A blocked thread.
    Thread(u64),
}

/// A load that is waited for, the thread it needs, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The load.
    pub load: Load,
    /// The thread that runs it, or its event loop.
    pub thread: u64,
    /// For messages.
    pub name: String,
}

/// Who asks for a permit.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Whose code it is that waits; the thread as well, if that blocks.
    pub who: Vec<Who>,
    /// The thread on which it goes on.
    pub thread: u64,
    /// For messages.
    pub name: String,
}

/// What is waited for.
#[derive(Debug)]
enum What {
    Load(Awaited),
    Permit(Hold),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Waits {
    edges: HashMap<Who, Vec<What>>,
    /// The calls that hold the permits of a limit, and their threads.
    held: HashMap<u64, HashMap<u64, u64>>,
    asking: HashMap<Hold, Asker>,
}

impl Waits {
    /// `who` begins to wait.
    pub fn begin(&mut self, who: Who, awaited: Awaited) {
        self.edges.entry(who).or_default().push(What::Load(awaited));
    }

    /// The code of all these loads begins to wait; or, if that would close a circle, [its path](Self::circle), and nobody waits.
    /// One step, so that of two who ask at once only one waits.
    pub fn begin_loads(&mut self, loads: &[Load], awaited: &Awaited) -> Result<(), Vec<String>> {
        let who: Vec<Who> = loads.iter().copied().map(Who::Load).collect();
        if let Some(path) = self.circle(&who, awaited) {
            return Err(path);
        }
        who.into_iter().for_each(|who| self.begin(who, awaited.clone()));
        Ok(())
    }

    /// It waits no longer for that.
    pub fn end(&mut self, who: Who, load: Load) {
        self.drop_edge(who, |what| matches!(what, What::Load(awaited) if awaited.load == load));
    }

    fn drop_edge(&mut self, who: Who, is_it: impl FnMut(&What) -> bool) {
        let Some(edges) = self.edges.get_mut(&who) else { return };
        if let Some(at) = edges.iter().position(is_it) {
            edges.swap_remove(at);
        }
        if edges.is_empty() {
            self.edges.remove(&who);
        }
    }

    /// A load was handed over: it runs on another thread from now on, or will.
    pub fn moved(&mut self, load: Load, thread: u64) {
        for what in self.edges.values_mut().flatten() {
            if let What::Load(edge) = what
                && edge.load == load
                && !broken(Rule::WaitsMove)
            {
                edge.thread = thread;
            }
        }
    }

    /// A call has a permit at once, and goes on on this thread.
    pub fn hold(&mut self, hold: Hold, thread: u64) {
        self.held.entry(hold.limit).or_default().insert(hold.call, thread);
    }

    /// True if whoever asks for a permit of this limit would never get it: none of those who hold one can end before.
    pub fn is_in_vain(&self, limit: u64, asker: &Asker) -> bool {
        let blocked: HashSet<Who> = asker.who.iter().copied().collect();
        let threads = blocked.iter().any(|who| matches!(who, Who::Thread(_)));
        let Some(held) = self.held.get(&limit).filter(|held| !held.is_empty()) else { return false };
        let from = held.keys().map(|&call| Who::Hold(Hold { limit, call }));
        let threads_of = held.values().copied().map(Who::Thread).filter(|_| threads);
        let ends = self.ends(from.chain(threads_of), &blocked, threads);
        !self.permit_comes(limit, &ends, threads)
    }

    /// A call waits for a permit.
    pub fn ask(&mut self, hold: Hold, asker: Asker) {
        asker.who.iter().for_each(|&who| self.edges.entry(who).or_default().push(What::Permit(hold)));
        self.asking.insert(hold, asker);
    }

    /// A call that waited was handed a permit.
    pub fn granted(&mut self, hold: Hold) {
        if let Some(asker) = self.stop_asking(hold) {
            self.hold(hold, asker.thread);
        }
    }

    /// A call has left, whether it held a permit or waited for one.
    pub fn left(&mut self, hold: Hold) {
        self.stop_asking(hold);
        if let Some(held) = self.held.get_mut(&hold.limit) {
            held.remove(&hold.call);
            if held.is_empty() {
                self.held.remove(&hold.limit);
            }
        }
    }

    fn stop_asking(&mut self, hold: Hold) -> Option<Asker> {
        let asker = self.asking.remove(&hold)?;
        for &who in &asker.who {
            self.drop_edge(who, |what| matches!(what, What::Permit(asked) if *asked == hold));
        }
        Some(asker)
    }

    /// A limit is gone, with whoever holds its permits or waits for them.
    pub fn forget(&mut self, limit: u64) {
        self.held.remove(&limit);
        let asking: Vec<Hold> = self.asking.keys().filter(|hold| hold.limit == limit).copied().collect();
        asking.into_iter().for_each(|hold| drop(self.stop_asking(hold)));
    }

    /// If the code of these were to wait for `awaited`, and never could: the names of the loads that would wait in a circle,
    /// from `awaited` to them. Circles through a thread are no matter of loads: the thread will find them.
    pub fn circle(&self, who: &[Who], awaited: &Awaited) -> Option<Vec<String>> {
        let (blocked, from) = (who.iter().copied().collect(), Who::Load(awaited.load));
        let ends = self.ends([from], &blocked, false);
        if ends.contains(&from) {
            return None;
        }
        let mut path = vec![awaited.name.clone()];
        if !blocked.contains(&from) {
            self.leads_back(from, (&blocked, &ends), &mut path, &mut HashSet::from([from]));
        }
        Some(path)
    }

    /// True if what is awaited can never come while `thread` is blocked.
    pub fn needs(&self, awaited: &Awaited, thread: u64) -> bool {
        let blocked = HashSet::from([Who::Thread(thread)]);
        let both = [Who::Load(awaited.load), Who::Thread(awaited.thread)];
        let ends = self.ends(both, &blocked, true);
        !both.iter().all(|who| ends.contains(who)) && !broken(Rule::BlockedIsSeen)
    }

    /// Of all that these need, directly or not: who can come to an end if those who are blocked cannot. Who waits for nothing
    /// can. With or without the threads that things run on.
    fn ends(&self, from: impl IntoIterator<Item = Who>, blocked: &HashSet<Who>, threads: bool) -> HashSet<Who> {
        let mut seen: HashSet<Who> = HashSet::new();
        let mut order: Vec<Who> = from.into_iter().filter(|&who| seen.insert(who)).collect();
        let mut at = 0;
        while at < order.len() {
            let next = self.needed_by(order[at], threads);
            order.extend(next.into_iter().filter(|&who| seen.insert(who)));
            at += 1;
        }
        let mut ends: HashSet<Who> = HashSet::new();
        // Those who are needed stand behind those who need them, mostly: two rounds do, where there is no circle.
        let mut open: Vec<Who> = order.into_iter().rev().filter(|who| !blocked.contains(who)).collect();
        loop {
            let before = open.len();
            open.retain(|&who| {
                let mut edges = self.edges.get(&who).into_iter().flatten();
                let can = edges.all(|what| is_told_to_lead(who, what) || self.comes(what, &ends, threads));
                can.then(|| ends.insert(who)).is_none()
            });
            if open.len() == before {
                return ends;
            }
        }
    }

    fn needed_by(&self, who: Who, threads: bool) -> Vec<Who> {
        let mut needed = Vec::new();
        for what in self.edges.get(&who).into_iter().flatten().filter(|what| !is_told_to_lead(who, what)) {
            match what {
                What::Load(Awaited { load, thread, .. }) => {
                    needed.push(Who::Load(*load));
                    needed.extend(threads.then_some(Who::Thread(*thread)));
                }
                What::Permit(Hold { limit, .. }) => {
                    for (&call, &thread) in self.held.get(limit).into_iter().flatten() {
                        needed.push(Who::Hold(Hold { limit: *limit, call }));
                        needed.extend(threads.then_some(Who::Thread(thread)));
                    }
                }
            }
        }
        needed
    }

    fn comes(&self, what: &What, ends: &HashSet<Who>, threads: bool) -> bool {
        match what {
            What::Load(Awaited { load, thread, .. }) => {
                ends.contains(&Who::Load(*load)) && (!threads || ends.contains(&Who::Thread(*thread)))
            }
            What::Permit(Hold { limit, .. }) => self.permit_comes(*limit, ends, threads),
        }
    }

    /// One who ends is enough: permits go to those who wait in their order, and each of them can end in turn.
    fn permit_comes(&self, limit: u64, ends: &HashSet<Who>, threads: bool) -> bool {
        let Some(held) = self.held.get(&limit).filter(|_| !broken(Rule::PermitsAreSeen)) else { return true };
        held.iter().any(|(&call, thread)| {
            ends.contains(&Who::Hold(Hold { limit, call })) && (!threads || ends.contains(&Who::Thread(*thread)))
        })
    }

    /// Finds the way from somebody who cannot end to one of those who are blocked.
    fn leads_back(
        &self,
        from: Who,
        (blocked, ends): (&HashSet<Who>, &HashSet<Who>),
        path: &mut Vec<String>,
        seen: &mut HashSet<Who>,
    ) -> bool {
        for what in self.edges.get(&from).into_iter().flatten() {
            let (name, next) = match what {
                What::Load(awaited) => (awaited.name.clone(), vec![Who::Load(awaited.load)]),
                What::Permit(hold) => {
                    let name = self.asking.get(hold).map_or("", |asker| &asker.name);
                    let held = self.held.get(&hold.limit).into_iter().flatten();
                    let calls = held.map(|(&call, _)| Who::Hold(Hold { limit: hold.limit, call }));
                    (format!("a permit of {name}"), calls.collect())
                }
            };
            path.push(name);
            for next in next {
                let stuck = !ends.contains(&next) && seen.insert(next);
                if blocked.contains(&next) || (stuck && self.leads_back(next, (blocked, ends), path, seen)) {
                    return true;
                }
            }
            path.pop();
        }
        false
    }

    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }
}

/// A thread that waits for a load which it is to run itself, as it will be told, does not wait.
fn is_told_to_lead(who: Who, what: &What) -> bool {
    matches!((who, what), (Who::Thread(waits), What::Load(Awaited { thread, .. })) if waits == *thread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(number: u32) -> Load {
        Load { cache: 1, flight: FlightId { slot: number, serial: 0 } }
    }

    fn who(number: u32) -> Who {
        Who::Load(load(number))
    }

    fn awaited(number: u32, thread: u64) -> Awaited {
        Awaited { load: load(number), thread, name: number.to_string() }
    }

    #[test]
    fn crossed_loads_are_a_circle_with_a_path() {
        let mut waits = Waits::default();
        waits.begin(Who::Load(load(1)), awaited(2, 1));
        waits.begin(Who::Load(load(2)), awaited(5, 1));
        waits.begin(Who::Load(load(2)), awaited(3, 1));
        assert_eq!(waits.circle(&[who(3)], &awaited(1, 1)), Some(vec!["1".into(), "2".into(), "3".into()]));
        assert_eq!(waits.circle(&[who(4)], &awaited(1, 1)), None);
        assert_eq!(waits.circle(&[who(4)], &awaited(4, 1)), Some(vec!["4".into()]));
        waits.end(Who::Load(load(2)), load(3));
        assert_eq!(waits.circle(&[who(3)], &awaited(1, 1)), None);
    }

    #[test]
    fn who_does_the_work_of_several_loads_waits_for_all_of_them_or_for_none() {
        let mut waits = Waits::default();
        waits.begin(Who::Load(load(3)), awaited(2, 1));
        assert_eq!(waits.begin_loads(&[load(1), load(2)], &awaited(3, 1)), Err(vec!["3".into(), "2".into()]));
        waits.end(Who::Load(load(3)), load(2));
        assert!(waits.is_empty(), "nobody else was noted");
        assert_eq!(waits.begin_loads(&[load(1), load(2)], &awaited(3, 1)), Ok(()));
        assert!(waits.circle(&[who(3)], &awaited(1, 1)).is_some() && waits.circle(&[who(3)], &awaited(2, 1)).is_some());
    }

    #[test]
    fn a_thread_needs_itself_through_loads_and_other_blocked_threads() {
        let mut waits = Waits::default();
        assert!(waits.needs(&awaited(1, 7), 7), "its own loop's load");
        // Load 1 on thread 8 waits for load 2 on thread 7.
        waits.begin(Who::Load(load(1)), awaited(2, 7));
        assert!(waits.needs(&awaited(1, 8), 7) && !waits.needs(&awaited(1, 8), 9));
        // Load 3 on thread 9, which is blocked and waits for load 1.
        waits.begin(Who::Thread(9), awaited(1, 8));
        assert!(waits.needs(&awaited(3, 9), 7));
        waits.end(Who::Thread(9), load(1));
        assert!(!waits.needs(&awaited(3, 9), 7));
    }

    #[test]
    fn a_load_that_was_handed_over_needs_the_thread_of_whoever_has_it() {
        let mut waits = Waits::default();
        waits.begin(Who::Thread(7), awaited(1, 8));
        assert!(waits.needs(&awaited(2, 7), 8) && !waits.needs(&awaited(2, 7), 9));
        waits.moved(load(1), 9);
        assert!(!waits.needs(&awaited(2, 7), 8) && waits.needs(&awaited(2, 7), 9));
        waits.end(Who::Thread(7), load(1));
        assert!(waits.is_empty());
    }

    #[test]
    fn who_waits_for_one_load_twice_stops_waiting_twice() {
        let mut waits = Waits::default();
        waits.begin(Who::Load(load(1)), awaited(2, 1));
        waits.begin(Who::Load(load(1)), awaited(2, 1));
        waits.end(Who::Load(load(1)), load(2));
        assert!(waits.circle(&[who(2)], &awaited(1, 1)).is_some());
        waits.end(Who::Load(load(1)), load(2));
        assert!(waits.is_empty());
    }

    proptest! {
        /// Loads that wait only where no circle would be closed never wait in one.
        #[test]
        fn nobody_waits_in_a_circle_who_asks_first(edges in prop::collection::vec((0..8_u32, 0..8_u32), 0..60)) {
            let mut waits = Waits::default();
            let mut kept: Vec<(u32, u32)> = Vec::new();
            for (from, to) in edges {
                let reaches = |start: u32, goal: u32, kept: &[(u32, u32)]| {
                    let (mut open, mut seen) = (vec![start], vec![start]);
                    while let Some(at) = open.pop() {
                        let next = kept.iter().filter(|(from, _)| *from == at).map(|(_, to)| *to);
                        let fresh: Vec<u32> = next.filter(|to| !seen.contains(to)).collect();
                        seen.extend(&fresh);
                        open.extend(fresh);
                    }
                    seen.contains(&goal)
                };
                let circle = waits.circle(&[who(from)], &awaited(to, 1)).is_some();
                prop_assert_eq!(circle, reaches(to, from, &kept));
                if !circle {
                    waits.begin(Who::Load(load(from)), awaited(to, 1));
                    kept.push((from, to));
                }
            }
        }
    }
}
