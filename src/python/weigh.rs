//! The default weigher: about how many bytes of memory a value keeps alive, by looking at 64 objects at most.
//!
//! Trees of builtin containers are followed, level by level. A level that fits the budget is counted whole. Of a larger
//! one evenly spread members are looked at and stand for the rest; what they hold is the next level. Nothing of Python
//! is called, allocated or kept, so a weigher cannot fail and no class notices it.
//!
//! **Error on builtin trees.** Exact while a level has no more than three quarters of the looks left: 47 keys, values
//! or items in a flat container. Beyond, estimated without a bias that matters: 100 MB of many shapes weighed 1 to 2 %
//! less than the process grew by. One value alone: a list of records of one kind is within 10 %, of nested or very
//! unequal ones mostly within 15 to 25 %, and a tree of five levels can be off by its own weight or more, which 64
//! looks cannot help.
//!
//! **Sharing.** An object met twice counts once. Of one with four references or more that sampling reached, only its
//! share counts, so a key of all records of a list counts once. A container that lies in two or three places of one
//! large value may count as often.
//!
//! **Other objects** count as their struct and one level of attributes, in `__dict__` or `__slots__`. Builtin
//! containers in these are followed, the attributes of further objects in these are not: a dataclass of builtin fields
//! is weighed as well as a dict, a tree of dataclasses too low by what lies below its first. Not seen is what a class
//! keeps elsewhere: buffers (numpy, `array`, `deque`, `Decimal`, `io`), the links of an `OrderedDict`, the table of a
//! subclass of `set`. Modules, classes and functions are never followed and weigh nothing, like interned strings and
//! small ints.

use super::layout::{self, Members};
use pyo3::ffi;
use pyo3::prelude::*;
use std::f64::consts::SQRT_2;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Looking at an object that is in no processor cache costs 80 ns: 64 of them keep a weighing below some 6 µs.
const BUDGET: usize = 64;
/// The least a value weighs: what the smallest object takes.
const LEAST: u64 = 16;
/// From so many references on, one object is taken to be in many places of a large value. Local variables of the
/// caller hold one or two.
const SHARED: u32 = 4;
/// Places looked at in a level; empty places of sets and dicts cost nothing else.
const PLACES: usize = 4 * BUDGET;
/// Neighbours of an empty place that are tried instead.
const TRIES: usize = 16;
/// So many samples that are alike say enough about a level.
const ALIKE: usize = 8;
/// Spreads any number of points evenly over 0..1.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// About how many bytes `object` keeps alive; at least 16.
///
/// # Safety
/// `object` is valid and the interpreter is held.
pub unsafe fn weigh(object: *mut ffi::PyObject) -> u64 {
    // SAFETY: the caller's promise is ours.
    unsafe { weighed(object).0 }
}

/// The weight, and how many objects were looked at.
///
/// # Safety
/// As for [`weigh`].
unsafe fn weighed(object: *mut ffi::PyObject) -> (u64, usize) {
    let mut walk = Walk::new(object);
    // SAFETY: the caller's promise is ours, and as long as we hold the interpreter nothing in the value changes.
    unsafe {
        if layout::references(object).is_none() {
            return (LEAST, 1);
        }
        let size = layout::measure(object, true, &mut |members| walk.runs.push(Run::root(members)));
        if walk.runs.is_empty() {
            return (size.max(LEAST), 1);
        }
        walk.seen.push(object);
        walk.levels();
        ((size + walk.total as u64).max(LEAST), walk.visits)
    }
}

/// What Samovar takes `value` to weigh, in bytes; for tests.
#[pyfunction]
pub fn _weigh(value: &Bound<'_, PyAny>) -> u64 {
    // SAFETY: a valid object, and `Bound` says that the interpreter is held.
    unsafe { weigh(value.as_ptr()) }
}

/// How many objects are looked at to weigh `value`; for tests.
#[pyfunction]
pub fn _weigh_visits(value: &Bound<'_, PyAny>) -> usize {
    // SAFETY: as in `_weigh`.
    unsafe { weighed(value.as_ptr()).1 }
}

/// Up to 64 things on the stack, without the cost of clearing them first.
struct Few<T: Copy> {
    items: [MaybeUninit<T>; BUDGET],
    len: usize,
}

impl<T: Copy> Few<T> {
    fn new() -> Self {
        Few { items: [const { MaybeUninit::uninit() }; BUDGET], len: 0 }
    }

    /// What does not fit is left out.
    #[inline]
    fn push(&mut self, item: T) {
        if self.len < BUDGET {
            self.items[self.len].write(item);
            self.len += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T: Copy> std::ops::Deref for Few<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` items were written.
        unsafe { std::slice::from_raw_parts(self.items.as_ptr().cast(), self.len) }
    }
}

impl<T: Copy> std::ops::DerefMut for Few<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.items.as_mut_ptr().cast(), self.len) }
    }
}

/// Members to be looked at.
#[derive(Clone, Copy)]
struct Run {
    members: Members,
    /// How many such runs of members this one stands for.
    scale: f64,
    /// True among the attributes of an object, where further attributes are not followed.
    inside: bool,
}

impl Run {
    fn root(members: Members) -> Run {
        Run { members, scale: 1.0, inside: members.attributes }
    }

    fn objects(&self) -> usize {
        self.members.live * self.members.unit()
    }
}

/// A member that was looked at: its size, references and runs, which of the level's runs it was found in.
#[derive(Clone, Copy)]
struct Sample {
    from: usize,
    size: u64,
    references: u32,
    objects: usize,
    runs: (usize, usize),
}

/// How far a run was sampled. Its places are visited in steps of about 0.618 of their number: at any time those visited
/// are spread evenly, and none comes twice.
#[derive(Clone, Copy)]
struct Cursor {
    start: usize,
    step: usize,
    taken: usize,
    /// Places that held something.
    hits: usize,
}

/// One weighing.
struct Walk {
    /// Where sampling begins, 0..1: different for each object, so that errors of many weighings cancel out.
    phase: f64,
    /// Objects looked at.
    visits: usize,
    /// How many of them hold no others, and what these weigh.
    leaves: u32,
    leaf_bytes: u64,
    /// The estimate, without the value itself.
    total: f64,
    /// Objects that could be met again. Those with a single reference cannot.
    seen: Few<*mut ffi::PyObject>,
    /// All runs of members that were met, in the order of their levels.
    runs: Few<Run>,
}

impl Walk {
    fn new(object: *mut ffi::PyObject) -> Self {
        let phase = (object as usize >> 4) as f64 * GOLDEN;
        Walk {
            phase: phase.fract(),
            visits: 1,
            leaves: 0,
            leaf_bytes: 0,
            total: 0.0,
            seen: Few::new(),
            runs: Few::new(),
        }
    }

    fn left(&self) -> usize {
        BUDGET.saturating_sub(self.visits)
    }

    /// Visits one level after the other.
    ///
    /// # Safety
    /// The interpreter is held and the runs are those of objects that are alive, now and until this returns.
    unsafe fn levels(&mut self) {
        let mut level = 0..self.runs.len;
        while !level.is_empty() {
            let objects: usize = self.runs[level.clone()].iter().map(Run::objects).sum();
            let places: usize = self.runs[level.clone()].iter().map(|run| run.members.slots).sum();
            // SAFETY: the caller's promise is ours.
            unsafe {
                if objects <= self.left() * 3 / 4 && places <= PLACES {
                    self.count(level.clone());
                } else {
                    self.sample(level.clone());
                }
            }
            level = level.end..self.runs.len;
        }
    }

    /// Looks at an object: its size and references, and its members among the runs. `None` if it weighs nothing more.
    ///
    /// # Safety
    /// As for [`levels`](Self::levels), and `object` is a member of such an object.
    #[inline]
    unsafe fn look(&mut self, object: *mut ffi::PyObject, inside: bool, scale: f64) -> Option<(u64, u32)> {
        if self.seen.contains(&object) {
            return None;
        }
        self.visits += 1;
        // SAFETY: a member of an object that is alive.
        let references = unsafe { layout::references(object) };
        if references != Some(1) {
            self.seen.push(object);
        }
        let references = references?;
        let before = self.runs.len;
        // SAFETY: as above.
        let size = unsafe {
            layout::measure(object, !inside, &mut |members| {
                self.runs.push(Run { members, scale, inside: inside || members.attributes });
            })
        };
        if self.runs.len == before {
            self.leaves += 1;
            self.leaf_bytes += size;
        }
        Some((size, references))
    }

    /// Looks at all members of a level.
    ///
    /// # Safety
    /// As for [`levels`](Self::levels).
    unsafe fn count(&mut self, level: Range<usize>) {
        for at in level {
            let Run { members, scale, inside } = self.runs[at];
            for slot in 0..members.slots {
                // SAFETY: one of its places, and nothing has changed since it was measured.
                let Some(objects) = (unsafe { members.get(slot) }) else { continue };
                for &object in &objects[..members.unit()] {
                    let runs = self.runs.len;
                    // SAFETY: a member of a living object.
                    let Some((size, references)) = (unsafe { self.look(object, inside, scale) }) else { continue };
                    let scale = share(scale, references);
                    self.total += size as f64 * scale;
                    self.runs[runs..].iter_mut().for_each(|run| run.scale = scale);
                }
            }
        }
    }

    /// Looks at some members of a level, with half of the budget. The other half is for what they hold: if they
    /// hold nothing, it is spent here.
    ///
    /// # Safety
    /// As for [`levels`](Self::levels).
    #[inline(never)]
    unsafe fn sample(&mut self, level: Range<usize>) {
        let mut goal = self.visits + self.left().div_ceil(2);
        let few = level.len() * 12 <= self.left();
        // Of many runs each drawn one must tell something: else those with empty places, as sets are, count less.
        let tries = if few { 1 } else { TRIES };
        let mut draw = Draw::new(&self.runs[level.clone()], few, self.phase);
        let mut samples: Few<Sample> = Few::new();
        for turn in 0..PLACES {
            if self.visits >= goal && self.runs.len == level.end {
                // Decided once: to go on until members are found would find heavy ones too often.
                goal = BUDGET;
            }
            if self.left() < 2 || self.visits >= goal || (samples.len >= ALIKE && alike(&samples)) {
                break;
            }
            let Some((from, slot)) = draw.next(turn, &self.runs[level.clone()]) else { break };
            let Run { members, inside, .. } = self.runs[level.start + from];
            let mut near = (slot..slot + tries).map(|at| at % members.slots);
            // SAFETY: places of a run, and nothing has changed since it was measured.
            let Some(objects) = near.find_map(|at| unsafe { members.get(at) }) else { continue };
            draw.cursors[from].hits += 1;
            for &object in &objects[..members.unit()] {
                let before = self.runs.len;
                // SAFETY: a member of a living object.
                let Some((size, references)) = (unsafe { self.look(object, inside, 1.0) }) else { continue };
                let objects = self.runs[before..].iter().map(Run::objects).sum();
                samples.push(Sample { from, size, references, objects, runs: (before, self.runs.len) });
            }
        }
        self.settle(level, &draw, &samples);
    }

    /// Lets each sample stand for its part of the level. Where nothing was seen, members are taken to be leaves like
    /// those met so far.
    fn settle(&mut self, level: Range<usize>, draw: &Draw, samples: &[Sample]) {
        let mean = self.leaf_bytes as f64 / f64::from(self.leaves.max(1));
        let mut factors = [None; BUDGET];
        draw.factors(&self.runs[level.clone()], &mut factors);
        for (run, factor) in self.runs[level].iter().zip(&factors) {
            if factor.is_none() {
                self.total += run.scale * run.objects() as f64 * mean;
            }
        }
        for sample in samples {
            let scale = share(factors[sample.from].unwrap_or(1.0), sample.references);
            self.total += sample.size as f64 * scale;
            self.runs[sample.runs.0..sample.runs.1].iter_mut().for_each(|run| run.scale = scale);
        }
    }
}

/// True if one sample is like the other, as the dicts in a list of records are.
fn alike(samples: &[Sample]) -> bool {
    samples[0].objects > 0
        && samples.windows(2).all(|two| two[0].size == two[1].size && two[0].objects == two[1].objects)
}

/// For how many objects one stands that was met once in `scale` places and has so many references.
fn share(scale: f64, references: u32) -> f64 {
    if references < SHARED || scale <= 1.0 { scale } else { (scale / f64::from(references)).max(1.0) }
}

/// Which member of a level comes next.
///
/// A few runs take turns. Of many, runs are drawn by the root of their size: by size itself, one list of a million
/// small ints would hide all lists of long strings beside it.
struct Draw {
    few: bool,
    phase: f64,
    cursors: Few<Cursor>,
    /// The sum of what the runs up to this one are drawn by.
    sums: Few<f64>,
}

impl Draw {
    fn new(runs: &[Run], few: bool, phase: f64) -> Draw {
        let mut draw = Draw { few, phase, cursors: Few::new(), sums: Few::new() };
        let (mut sum, mut last) = (0.0, (1, 1));
        for (at, Run { members, scale, .. }) in runs.iter().enumerate() {
            if last.0 != members.slots {
                last = (members.slots, step(members.slots));
            }
            let turned = if few { at as f64 * GOLDEN } else { 0.0 };
            let start = ((phase + turned).fract() * members.slots as f64) as usize;
            draw.cursors.push(Cursor { start, step: last.1, taken: 0, hits: 0 });
            sum += scale * (members.live as f64).sqrt();
            draw.sums.push(sum);
        }
        draw
    }

    /// A run and a place in it; `None` if no place is left.
    fn next(&mut self, turn: usize, runs: &[Run]) -> Option<(usize, usize)> {
        let places = |at: usize| runs[at].members.slots;
        if self.few {
            let mut turns = (turn..turn + runs.len()).map(|at| at % runs.len());
            let from = turns.find(|&at| self.cursors[at].taken < places(at))?;
            let cursor = &mut self.cursors[from];
            cursor.taken += 1;
            return Some((from, (cursor.start + (cursor.taken - 1) * cursor.step) % places(from)));
        }
        let drawn = (self.phase + turn as f64 * SQRT_2).fract() * self.sums.last()?;
        let from = self.sums.partition_point(|&sum| sum <= drawn).min(runs.len() - 1);
        let cursor = &self.cursors[from];
        Some((from, (cursor.start + turn * cursor.step) % places(from)))
    }

    /// For how many members of the level a member of each run stands; `None` if none was seen.
    fn factors(&self, runs: &[Run], factors: &mut [Option<f64>; BUDGET]) {
        let root = |run: &Run| (run.members.live as f64).sqrt();
        let all: f64 = runs.iter().map(|run| run.scale * run.members.live as f64).sum();
        let drawn: f64 = runs.iter().zip(&*self.cursors).map(|(run, cursor)| root(run) * cursor.hits as f64).sum();
        for ((run, cursor), factor) in runs.iter().zip(&*self.cursors).zip(factors) {
            *factor = if !self.few {
                (drawn > 0.0).then(|| all * root(run) / drawn)
            } else if cursor.taken == run.members.slots {
                Some(run.scale)
            } else {
                (cursor.hits > 0).then(|| run.scale * run.members.live as f64 / cursor.hits as f64)
            };
        }
    }
}

/// The step that visits all of so many places, spread evenly at any time.
fn step(places: usize) -> usize {
    let near = ((places as f64 * GOLDEN) as usize).max(1);
    (near..).find(|&step| gcd(step, places) == 1).unwrap_or(1)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
