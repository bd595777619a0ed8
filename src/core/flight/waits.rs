//! The wait-for graph: which load waits for which, and which blocked thread for which load.
//!
//! An edge is noted where a load's own code waits for another load, or where a thread blocks; callers who are no part of a
//! load wait for others, but nobody waits for them. A load on an event loop needs that loop's thread: if the thread is
//! blocked, the load waits for whatever the thread waits for. Caches share one graph, so that a circle through two of
//! them is found too.

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

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The code of a load.
    Load(Load),
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

/// See the module.
#[derive(Debug, Default)]
pub struct Waits(HashMap<Who, Vec<Awaited>>);

impl Waits {
    /// `who` begins to wait.
    pub fn begin(&mut self, who: Who, awaited: Awaited) {
        self.0.entry(who).or_default().push(awaited);
    }

    /// The code of all these loads begins to wait; or, if that would close a circle, [its path](Self::circle), and nobody waits.
    /// One step, so that of two who ask at once only one waits.
    pub fn begin_loads(&mut self, loads: &[Load], awaited: &Awaited) -> Result<(), Vec<String>> {
        if let Some(path) = loads.iter().find_map(|&load| self.circle(load, awaited)) {
            return Err(path);
        }
        loads.iter().for_each(|&load| self.begin(Who::Load(load), awaited.clone()));
        Ok(())
    }

    /// It waits no longer for that.
    pub fn end(&mut self, who: Who, load: Load) {
        let Some(edges) = self.0.get_mut(&who) else { return };
        if let Some(at) = edges.iter().position(|edge| edge.load == load) {
            edges.swap_remove(at);
        }
        if edges.is_empty() {
            self.0.remove(&who);
        }
    }

    /// A load was handed over: it runs on another thread from now on, or will.
    pub fn moved(&mut self, load: Load, thread: u64) {
        let edges = self.0.values_mut().flatten().filter(|edge| edge.load == load && !broken(Rule::WaitsMove));
        edges.for_each(|edge| edge.thread = thread);
    }

    /// If `load` were to wait for `awaited`: the names of the loads that would wait in a circle, from `awaited` to `load`.
    /// Circles through a thread are no matter of loads: the thread will find them.
    pub fn circle(&self, load: Load, awaited: &Awaited) -> Option<Vec<String>> {
        let (mut path, mut seen) = (vec![awaited.name.clone()], HashSet::from([awaited.load]));
        (awaited.load == load || self.leads_to(awaited.load, load, &mut path, &mut seen)).then_some(path)
    }

    /// True if `load` waits for one of `others`, or for what waits for it.
    pub fn is_waiting(&self, load: Load, others: &[Load]) -> bool {
        others.iter().any(|&other| self.leads_to(load, other, &mut Vec::new(), &mut HashSet::new()))
    }

    fn leads_to(&self, from: Load, to: Load, path: &mut Vec<String>, seen: &mut HashSet<Load>) -> bool {
        for edge in self.0.get(&Who::Load(from)).into_iter().flatten() {
            path.push(edge.name.clone());
            if edge.load == to || (seen.insert(edge.load) && self.leads_to(edge.load, to, path, seen)) {
                return true;
            }
            path.pop();
        }
        false
    }

    /// True if what is awaited can never come while `thread` is blocked.
    pub fn needs(&self, awaited: &Awaited, thread: u64) -> bool {
        let (mut open, mut seen) = (vec![(awaited.load, awaited.thread)], HashSet::new());
        while let Some((load, runs_on)) = open.pop() {
            if runs_on == thread && !broken(Rule::BlockedIsSeen) {
                return true;
            }
            if seen.insert(load) {
                let next = [Who::Load(load), Who::Thread(runs_on)].into_iter().filter_map(|who| self.0.get(&who));
                open.extend(next.flatten().map(|edge| (edge.load, edge.thread)));
            }
        }
        false
    }

    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(number: u32) -> Load {
        Load { cache: 1, flight: FlightId { slot: number, serial: 0 } }
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
        assert_eq!(waits.circle(load(3), &awaited(1, 1)), Some(vec!["1".into(), "2".into(), "3".into()]));
        assert_eq!(waits.circle(load(4), &awaited(1, 1)), None);
        assert_eq!(waits.circle(load(4), &awaited(4, 1)), Some(vec!["4".into()]));
        waits.end(Who::Load(load(2)), load(3));
        assert_eq!(waits.circle(load(3), &awaited(1, 1)), None);
    }

    #[test]
    fn who_does_the_work_of_several_loads_waits_for_all_of_them_or_for_none() {
        let mut waits = Waits::default();
        waits.begin(Who::Load(load(3)), awaited(2, 1));
        assert_eq!(waits.begin_loads(&[load(1), load(2)], &awaited(3, 1)), Err(vec!["3".into(), "2".into()]));
        waits.end(Who::Load(load(3)), load(2));
        assert!(waits.is_empty(), "nobody else was noted");
        assert_eq!(waits.begin_loads(&[load(1), load(2)], &awaited(3, 1)), Ok(()));
        assert!(waits.circle(load(3), &awaited(1, 1)).is_some() && waits.circle(load(3), &awaited(2, 1)).is_some());
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
        assert!(waits.circle(load(2), &awaited(1, 1)).is_some());
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
                let circle = waits.circle(load(from), &awaited(to, 1)).is_some();
                prop_assert_eq!(circle, reaches(to, from, &kept));
                if !circle {
                    waits.begin(Who::Load(load(from)), awaited(to, 1));
                    kept.push((from, to));
                }
            }
        }
    }
}
