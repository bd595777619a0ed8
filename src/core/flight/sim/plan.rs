//! What a history is made of: how the keys are kept, and the steps that happen. All of it is drawn from one seed.
//!
//! A step carries its own dice and means something in any state, if only "nothing": so a history stays one when steps are
//! left out of it.

use super::super::Life;
use crate::core::clock::Millis;
use crate::core::history::Dice;
use crate::core::memory::Eviction;
use crate::core::policy::{OnRefreshError, Policy};
use std::time::Duration;

/// Keys in play; two of them share a hash.
pub const KEYS: usize = 5;
/// Groups that can be cleared.
pub const SPACES: usize = 2;
/// Where callers ask from: event loops, then plain threads.
pub const LOOPS: usize = 2;
/// Loops and threads.
pub const PLACES: usize = 4;

/// How one key is kept, and who asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    pub policy: Policy,
    /// Its group.
    pub space: usize,
    /// How long a load lives that a caller on a loop waits for.
    pub life: Life,
    /// True if refreshes have a function of their own, so that they may outlive a caller whose load may not.
    pub refresher: bool,
}

/// The world before the first step.
#[derive(Clone, Debug)]
pub struct Setup {
    pub keys: Vec<Keeping>,
    pub capacity: u32,
    pub eviction: Eviction,
}

impl Setup {
    pub fn drawn(dice: &mut Dice) -> Self {
        let capacity = dice.one_of(&[2, 3, 100]);
        let eviction = dice.one_of(&[Eviction::Lru, Eviction::Lru, Eviction::S3Fifo, Eviction::Ttl, Eviction::TinyLfu]);
        let count = dice.one_of(&[1, 2, KEYS]);
        let keys = (0..count).map(|_| keeping(dice)).collect();
        Setup { keys, capacity, eviction }
    }
}

fn keeping(dice: &mut Dice) -> Keeping {
    let life = dice.one_of(&[Life::Shared, Life::Shared, Life::Bound]);
    Keeping { policy: policy(dice), space: dice.below(SPACES), life, refresher: dice.once_in(2) }
}

/// A policy that makes sense.
pub fn policy(dice: &mut Dice) -> Policy {
    let ms = Duration::from_millis;
    let (none, some) = (None, Some);
    let (soft_timeout, timeout) = dice.one_of(&[
        (none, none),
        (none, some(ms(300))),
        (some(ms(40)), none),
        (some(ms(40)), some(ms(300))),
        (some(ms(200)), some(ms(2_000))),
    ]);
    let any = Policy {
        ttl: dice.one_of(&[some(ms(1_000)), some(ms(10_000)), none]),
        stale_while_revalidate: dice.one_of(&[ms(0), ms(500), ms(5_000)]),
        stale_if_error: dice.one_of(&[ms(0), ms(3_000), ms(20_000)]),
        retry_after: dice.one_of(&[ms(0), ms(700), ms(4_000), ms(30_000)]),
        on_refresh_error: dice.one_of(&[OnRefreshError::Keep, OnRefreshError::Drop]),
        soft_timeout,
        timeout,
        early: dice.one_of(&[0.0, 0.0, 1.0, 5.0]),
        jitter: dice.one_of(&[0.0, 0.05, 1.0]),
        negative_ttl: dice.one_of(&[none, some(ms(800))]),
        min_refresh_interval: dice.one_of(&[ms(0), ms(0), ms(1_500)]),
        ..Policy::forever()
    };
    // What is of use after its time is where most rules are.
    let useful = Policy { stale_if_error: ms(20_000), on_refresh_error: OnRefreshError::Keep, ..any };
    dice.one_of(&[any, Policy { ttl: some(ms(1_000)), ..useful }])
}

/// How a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With a value.
    Value,
    /// With a value that is not to be stored.
    Unkept,
    /// It says that there is nothing.
    NotFound,
    /// With an error that is kept as an answer, if no old value answers.
    KeptError,
    /// With an error.
    Failed,
    /// Somebody else ends it.
    Aborted,
}

impl How {
    /// True if callers get it as an answer.
    pub fn is_answer(self) -> bool {
        matches!(self, How::Value | How::Unkept | How::NotFound)
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Somebody asks for a key. `anew`: and wants a new value; `blocked`: by a call that blocks the loop it is made on.
    Ask { place: usize, key: u8, anew: bool, blocked: bool },
    /// Somebody takes a fresh value, or nothing.
    Get { key: u8 },
    /// The next thing that has to be done on a loop or thread, as far as the next point where others may come between.
    Go { place: usize },
    /// Everything that has to be done now.
    Settle,
    /// A load that runs ends; it will be reported.
    End(How),
    /// A caller is cancelled, or interrupted.
    Cancel,
    /// The key is kept in another way from now on.
    Swap { key: u8 },
    /// An explicit write.
    Write { key: u8 },
    /// An explicit new life for the value that is there.
    Touch { key: u8 },
    /// An invalidation.
    Delete { key: u8 },
    /// An invalidation of all keys of a group.
    Clear { space: usize },
    /// The sweeper comes.
    Sweep,
    /// An entry leaves to make room.
    Evict { key: u8 },
    /// Time passes.
    Wait(Millis),
    /// Time passes to about the next border in the life of a value, or the next alarm.
    WaitFor { key: u8 },
    /// A loop stands still between two callbacks.
    Stop { place: usize },
    /// It goes on.
    Resume { place: usize },
    /// A loop is closed as `asyncio.run` does it: all tasks are cancelled first.
    Close { place: usize },
    /// A loop is closed and nobody is told.
    Crash { place: usize },
}

/// Something happens. The dice decide what the act leaves open.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub act: Act,
    pub dice: Dice,
}

/// How often things happen when nothing in particular is the matter: one in so many.
const USUALLY: [(usize, Kind); 19] = [
    (250, Kind::Ask),
    (20, Kind::Get),
    (350, Kind::Go),
    (30, Kind::Settle),
    (130, Kind::End),
    (40, Kind::Cancel),
    (5, Kind::Swap),
    (15, Kind::Write),
    (5, Kind::Touch),
    (20, Kind::Delete),
    (8, Kind::Clear),
    (12, Kind::Sweep),
    (10, Kind::Evict),
    (60, Kind::Wait),
    (60, Kind::WaitFor),
    (6, Kind::Stop),
    (8, Kind::Resume),
    (2, Kind::Close),
    (2, Kind::Crash),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ask,
    Get,
    Go,
    Settle,
    End,
    Cancel,
    Swap,
    Write,
    Touch,
    Delete,
    Clear,
    Sweep,
    Evict,
    Wait,
    WaitFor,
    Stop,
    Resume,
    Close,
    Crash,
}

/// What one history has much of, and what it lacks: rare things meet more often than if all were equally rare (Groce et
/// al., "Swarm testing", 2012).
#[derive(Debug)]
struct Mood {
    weights: Vec<(usize, Kind)>,
    total: usize,
    /// How its loads end.
    ends: &'static [How],
    /// Whether calls block loops.
    blocks: bool,
}

impl Mood {
    fn drawn(dice: &mut Dice) -> Self {
        use How::{Aborted, Failed, KeptError, NotFound, Unkept, Value};
        let ends: &[&[How]] = &[
            &[Value, Value, Value, Value, Value, Unkept, NotFound, KeptError, Failed, Failed, Failed, Aborted],
            &[Value, Failed, Failed, Failed, Failed, Aborted],
            &[Value, Value, Aborted],
        ];
        let ends = dice.one_of(ends);
        let weights = USUALLY.map(|(weight, kind)| {
            let always = matches!(kind, Kind::Ask | Kind::Go | Kind::End | Kind::Wait);
            (weight * if always { 1 } else { dice.one_of(&[0, 1, 1, 5]) }, kind)
        });
        Mood {
            weights: weights.to_vec(),
            total: weights.iter().map(|(weight, _)| weight).sum(),
            ends,
            blocks: dice.once_in(2),
        }
    }

    fn kind(&self, dice: &mut Dice) -> Kind {
        let mut at = dice.below(self.total);
        let mut weights = self.weights.iter();
        let found = weights.find(|(weight, _)| {
            let here = at < *weight;
            at = at.wrapping_sub(*weight);
            here
        });
        found.map_or(Kind::Settle, |(_, kind)| *kind)
    }
}

/// A random history.
pub fn history(dice: &mut Dice, setup: &Setup, steps: usize) -> Vec<Step> {
    let mood = Mood::drawn(dice);
    (0..steps).map(|_| Step { act: act(&mood, setup, dice), dice: dice.another() }).collect()
}

fn act(mood: &Mood, setup: &Setup, dice: &mut Dice) -> Act {
    let (place, event_loop) = (dice.below(PLACES), dice.below(LOOPS));
    let key = dice.below(setup.keys.len()) as u8;
    match mood.kind(dice) {
        Kind::Ask => Act::Ask { place, key, anew: dice.once_in(15), blocked: mood.blocks && dice.once_in(4) },
        Kind::Get => Act::Get { key },
        Kind::Go => Act::Go { place },
        Kind::Settle => Act::Settle,
        Kind::End => Act::End(dice.one_of(mood.ends)),
        Kind::Cancel => Act::Cancel,
        Kind::Swap => Act::Swap { key },
        Kind::Write => Act::Write { key },
        Kind::Touch => Act::Touch { key },
        Kind::Delete => Act::Delete { key },
        Kind::Clear => Act::Clear { space: dice.below(SPACES) },
        Kind::Sweep => Act::Sweep,
        Kind::Evict => Act::Evict { key },
        Kind::Wait => Act::Wait(wait(dice)),
        Kind::WaitFor => Act::WaitFor { key },
        Kind::Stop => Act::Stop { place: event_loop },
        Kind::Resume => Act::Resume { place: event_loop },
        Kind::Close => Act::Close { place: event_loop },
        Kind::Crash => Act::Crash { place: event_loop },
    }
}

fn wait(dice: &mut Dice) -> Millis {
    let limits = [20, 20, 60, 60, 500, 500, 2_000, 2_000, 10_000, 10_000, 3_600_000];
    let limit = dice.one_of(&limits);
    1 + dice.below(limit) as Millis
}
