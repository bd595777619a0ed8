//! The refresher alone, then with the memory tier it works on: one key at a time, and a crowd of them under simulated time.

use super::*;
use crate::core::draw::draws;
use crate::core::flight::{Ended, Input, Keep, Lasting, Life, Lookup, Newer, Place, Refresh, Wish};
use crate::core::memory::{Capacity, Discard, Eviction, GroupId, Memory, Reason, RegionId};
use crate::core::policy::Policy;
use crate::core::remote::ledger::Note;
use proptest::prelude::*;
use std::ops::RangeInclusive;

const HERE: Home = Home { thread: 1, event_loop: 1 };
const MINUTE: Millis = 60_000;

fn options(top: usize, count: u32) -> Options {
    let budget = Rate::new(count, Duration::from_secs(1), None).unwrap();
    Options { top, budget, idle: Duration::from_secs(600), ahead: 0.2, home: HERE }
}

/// A memory tier with a refresher, readers who load what they miss, and loads that take their time.
struct World {
    memory: Memory<u64, Millis, ()>,
    policy: Policy,
    group: GroupId,
    now: Millis,
    load_time: Millis,
    fails: bool,
    /// Loads under way: when they end and whose they are.
    loads: Vec<(Millis, u64, Lease)>,
    /// When the present value of a key ends, how many values it has had before, and how many of those the refresher
    /// replaced before they ended.
    windows: HashMap<u64, (Millis, u64, u64)>,
    /// When the refresher wants to be asked.
    turn: Millis,
    /// When the refresher began loads.
    begun: Vec<Millis>,
    misses: u64,
    stale: u64,
    reads: u64,
}

impl World {
    fn new(options: Options, policy: Policy) -> World {
        let mut memory = Memory::new(Capacity::entries(100_000), Eviction::Lru);
        let group = memory.entries.add_group(RegionId::default());
        memory.refresher = Some(Box::new(Refresher::new(options.check().unwrap())));
        World {
            memory,
            policy,
            group,
            now: 1_000_000,
            load_time: 0,
            fails: false,
            loads: Vec::new(),
            windows: HashMap::new(),
            turn: NEVER,
            begun: Vec::new(),
            misses: 0,
            stale: 0,
            reads: 0,
        }
    }

    fn minute() -> World {
        World::new(options(100, 10), Policy::ttl(Duration::from_secs(60)))
    }

    fn refresher(&self) -> &Refresher {
        self.memory.refresher.as_ref().unwrap()
    }

    fn counters(&self) -> Counters {
        self.refresher().counters()
    }

    fn wish<'a>(&self, policy: &'a Policy, life: Life) -> Wish<'a> {
        Wish { policy, group: self.group, place: self.place(life), anew: None }
    }

    fn place(&self, life: Life) -> Place {
        Place { home: Some(HERE), refresh: Refresh::Behind, life }
    }

    fn locate(&self, key: u64) -> (Option<Target>, Option<crate::core::flight::FlightId>) {
        let entry = self.memory.entries.find(key, |&other| other == key).map(|id| self.memory.entries.target(id));
        (entry, self.memory.flights.find(key, |&other| other == key))
    }

    /// One read of a key, as a driver does it: the hit path, and the way of a miss after it. True if it was a plain hit.
    fn read(&mut self, key: u64) -> bool {
        self.reads += 1;
        let now = self.now;
        if self.memory.entries.hit(key, |&other| other == key, |end| end <= now).is_some() {
            return true;
        }
        let (policy, located) = (self.policy, self.locate(key));
        let wish = self.wish(&policy, Life::Steady);
        match self.memory.look_up(&wish, (key, || key), located, now, || 0.5) {
            Lookup::Hit(id, newer) => {
                self.stale += u64::from(now >= self.memory.entries.span(id).fresh_until);
                let seen = self.memory.note_read(&wish, id, true, now);
                if seen.due {
                    self.turn = now;
                }
                if let Newer::Lead(lease) = newer {
                    self.load(key, lease);
                }
            }
            Lookup::Lead(lease) => {
                self.misses += 1;
                self.load(key, lease);
            }
            Lookup::Flying(..) => self.misses += 1,
            Lookup::Nowhere => unreachable!("there is a loop"),
        }
        false
    }

    fn load(&mut self, key: u64, lease: Lease) {
        if self.load_time == 0 {
            self.end(key, lease);
        } else {
            self.loads.push((self.now + self.load_time, key, lease));
        }
    }

    fn end(&mut self, key: u64, lease: Lease) {
        let (now, policy, mut gone) = (self.now, self.policy, Discard::default());
        let input = if self.fails { Input::Failed } else { Input::Loaded };
        let keep = Keep {
            value: || now,
            tag: 0,
            negative: false,
            lasting: Lasting::For(policy.ttl),
            weight: 1,
            adapted: None,
            note: Note::default(),
        };
        let ended = Ended { lease, input, keep: Some(keep), policy: &policy, group: self.group };
        let done = self.memory.finish(ended, now, || 0.5, &mut gone);
        if done.turn {
            self.turn = now;
        }
        if let Some(ends) = done.stored {
            let (before, lives, in_time) = self.windows.remove(&key).unwrap_or((NEVER, 0, 0));
            // A reader loads what has ended; nobody else loads what has not.
            let first = before == NEVER;
            let counted = (ends, lives + u64::from(!first), in_time + u64::from(!first && now < before));
            self.windows.insert(key, counted);
        }
    }

    /// Moves the time, and does what falls due on the way.
    fn until(&mut self, moment: Millis) {
        loop {
            let load = self.loads.iter().map(|&(ends, ..)| ends).min().unwrap_or(NEVER);
            let next = load.min(self.turn);
            if next > moment {
                break;
            }
            self.now = self.now.max(next);
            if load <= self.turn {
                let at = self.loads.iter().position(|&(ends, ..)| ends == load).unwrap();
                let (_, key, lease) = self.loads.swap_remove(at);
                self.end(key, lease);
            } else {
                self.take_turns();
            }
        }
        self.now = moment;
    }

    fn after(&mut self, time: Millis) {
        self.until(self.now + time);
    }

    fn take_turns(&mut self) {
        loop {
            match self.memory.refresher.as_mut().unwrap().turn(self.now) {
                Turn::Wait(until) => {
                    assert!(until > self.now, "it would be asked again at once, for ever");
                    return self.turn = until;
                }
                Turn::Load(key) => {
                    let (policy, located) = (self.policy, self.locate(key));
                    let wish = self.wish(&policy, Life::Steady);
                    if let Some(lease) = self.memory.refresh(&wish, (key, || key), located, self.now) {
                        self.begun.push(self.now);
                        self.load(key, lease);
                    }
                }
            }
        }
    }

    fn remove(&mut self, key: u64) {
        if let (Some(entry), _) = self.locate(key) {
            self.memory.entries.remove(entry.id, Reason::Removed, &mut Discard::default());
        }
    }

    /// Loads a key and reads it as often as it takes to have it tracked, once it is due.
    fn track(&mut self, key: u64) {
        self.read(key);
        self.after(50_000);
        self.read(key);
        self.after(2_000);
        self.read(key);
        assert!(self.refresher().tracks(key));
        self.after(0);
    }
}

#[test]
fn a_key_that_is_read_twice_in_the_last_part_of_its_life_is_refreshed_before_it_ends() {
    let mut world = World::minute();
    world.track(1);
    assert_eq!((world.counters().refreshed, world.begun.len()), (1, 1));
    world.after(20_000);
    world.read(1);
    assert_eq!((world.misses, world.counters().saved), (1, 1), "the first load was its only miss");
}

#[test]
fn all_hits_but_the_few_it_asks_for_are_plain() {
    let mut world = World::minute();
    world.read(1);
    world.after(47_999);
    assert!((0..100).all(|_| world.read(1)), "before the last part nobody asks");
    world.after(1);
    assert!(!world.read(1), "the first in the last part");
    assert!((0..100).all(|_| world.read(1)), "those that come with it are no second one");
    world.after(1_200);
    assert!(!world.read(1), "the second, a tenth later");
    world.after(0);
    assert_eq!(world.counters().refreshed, 1);
    assert!(!world.read(1), "the first of the new value");
    world.after(47_999);
    assert!((0..100).all(|_| world.read(1)));
}

#[test]
fn with_no_read_for_a_while_a_hot_key_stays_fresh_and_after_idle_it_is_dropped() {
    let mut world = World::minute();
    world.track(1);
    world.after(1_000);
    world.read(1);
    let before = world.misses;
    for _ in 0..10 {
        world.after(50_000);
        assert!(world.memory.entries.is_served(0, |end| end <= world.now), "fresh at any time");
    }
    assert!(world.refresher().tracks(1));
    world.after(10 * MINUTE);
    assert_eq!((world.counters().tracked, world.misses), (0, before));
    let refreshed = world.counters().refreshed;
    world.after(100 * MINUTE);
    assert_eq!(world.counters().refreshed, refreshed, "and nothing is loaded any more");
}

#[test]
fn a_key_with_a_life_longer_than_idle_is_kept_while_it_is_read() {
    let mut world = World::new(options(10, 10), Policy::ttl(Duration::from_secs(3_600)));
    world.read(1);
    world.after(50 * MINUTE);
    world.read(1);
    world.after(2 * MINUTE);
    world.read(1);
    world.after(0);
    assert_eq!(world.counters().refreshed, 1);
    for _ in 0..60 {
        world.after(4 * MINUTE);
        world.read(1);
    }
    assert!(world.refresher().tracks(1));
    assert_eq!(world.misses, 1);
    world.after(45 * MINUTE);
    assert_eq!(world.counters().tracked, 0, "left unread for more than idle");
}

#[test]
fn a_key_that_is_read_now_and_then_is_let_go_at_the_read_that_shows_it() {
    let mut world = World::minute();
    world.track(1);
    world.after(3 * MINUTE);
    world.read(1);
    assert!(!world.refresher().tracks(1), "it had just been tracked");
    let mut world = World::minute();
    world.track(1);
    world.after(1_000);
    world.read(1);
    world.after(3 * MINUTE);
    world.read(1);
    assert!(world.refresher().tracks(1), "a pause is survived");
    world.after(3 * MINUTE);
    world.read(1);
    assert!(!world.refresher().tracks(1), "two in a row are none");
}

#[test]
fn a_key_that_was_removed_or_written_by_hand_is_left_alone() {
    for by_hand in [false, true] {
        let mut world = World::minute();
        world.track(1);
        world.remove(1);
        if by_hand {
            let placement = crate::core::memory::Placement::new(world.group, world.now + 90_000, 0);
            let new = crate::core::memory::New { hash: 1, key: 1, value: 7, placement };
            world.memory.entries.insert(new, world.now, &mut Discard::default());
        }
        world.after(MINUTE);
        assert_eq!((world.counters().refreshed, world.counters().tracked), (1, 0), "{by_hand}");
    }
}

#[test]
fn a_key_removed_while_it_is_loaded_is_neither_stored_nor_tracked() {
    let mut world = World::minute();
    world.track(1);
    world.load_time = 5_000;
    world.after(48_000);
    assert_eq!(world.refresher().loads().count(), 1);
    let (_, flight) = world.locate(1);
    world.memory.flights.detach(flight.unwrap());
    world.remove(1);
    world.after(5_000);
    assert_eq!((world.counters().refreshed, world.counters().tracked), (1, 0));
    assert_eq!((world.locate(1).0, world.refresher().loads().count()), (None, 0));
}

#[test]
fn a_load_that_fails_is_tried_again_when_the_policy_says_and_spends_its_budget() {
    let policy = Policy { retry_after: Duration::from_secs(5), ..Policy::ttl(Duration::from_secs(60)) };
    let mut world = World::new(options(10, 10), policy);
    world.track(1);
    world.after(1_000);
    world.read(1);
    world.fails = true;
    world.after(46_999);
    assert_eq!(world.counters().failed, 0);
    world.after(1);
    assert_eq!(world.counters().failed, 1);
    world.after(4_999);
    assert_eq!(world.counters().failed, 1);
    world.fails = false;
    world.after(1);
    assert_eq!((world.counters().failed, world.counters().refreshed), (1, 2));
    assert_eq!(world.misses, 1);
}

#[test]
fn the_least_time_between_refreshes_holds() {
    let policy = Policy { min_refresh_interval: Duration::from_secs(55), ..Policy::ttl(Duration::from_secs(60)) };
    let mut world = World::new(options(10, 10), policy);
    world.track(1);
    assert_eq!(world.begun.len(), 0, "52 seconds after it was stored");
    world.after(3_000);
    assert_eq!(world.begun.len(), 1);
    world.after(54_999);
    assert_eq!(world.begun.len(), 1);
    world.after(1);
    assert_eq!(world.begun.len(), 2);
}

#[test]
fn what_takes_long_to_load_is_begun_in_time() {
    let mut world = World::minute();
    world.load_time = 20_000;
    world.read(1);
    world.after(20_000 + 19_000);
    assert!(world.read(1), "two load times are forty seconds, and half of a life is thirty");
    world.after(11_500);
    world.read(1);
    world.after(4_000);
    world.read(1);
    world.after(20_000);
    assert_eq!((world.counters().refreshed, world.misses), (1, 1));
    for _ in 0..10 {
        world.after(25_000);
        world.read(1);
    }
    assert_eq!(world.misses, 1);
}

#[test]
fn when_all_places_are_taken_the_coldest_key_leaves_for_a_hotter_one() {
    let mut world = World::new(options(2, 10), Policy::ttl(Duration::from_secs(60)));
    for _ in 0..20 {
        for second in 0..60 {
            world.read(1);
            if second % 2 == 0 {
                world.read(2);
            }
            if second % 20 == 0 {
                world.read(3);
            }
            world.after(1_000);
        }
    }
    let tracked: Vec<u64> = (1..=3).filter(|&key| world.refresher().tracks(key)).collect();
    assert_eq!(tracked, [1, 2]);
}

#[test]
fn readers_that_are_not_its_own_track_nothing() {
    let mut world = World::minute();
    world.read(1);
    for _ in 0..10 {
        world.after(5_000);
        let (policy, located) = (world.policy, world.locate(1));
        let id = located.0.unwrap().id;
        let elsewhere = Place { home: Some(Home { thread: 2, event_loop: 2 }), ..world.place(Life::Steady) };
        let wish = Wish { place: elsewhere, ..world.wish(&policy, Life::Steady) };
        assert!(!world.memory.note_read(&wish, id, true, world.now).tracked);
        let wish = world.wish(&policy, Life::Steady);
        assert!(!world.memory.note_read(&wish, id, false, world.now).tracked);
    }
    assert_eq!(world.counters().tracked, 0);
}

#[test]
fn values_without_an_end_are_none_of_its_business() {
    let mut world = World::new(options(10, 10), Policy::forever());
    world.read(1);
    world.after(1_000 * MINUTE);
    assert!(world.read(1));
    assert_eq!(world.counters(), Counters::default());
}

#[test]
fn what_cannot_be_is_refused_with_its_value_and_the_cure() {
    let error = |options: Options| options.check().unwrap_err().to_string();
    assert!(error(Options { top: 0, ..options(1, 1) }).contains("top: 0; give"));
    for ahead in [0.0, 1.0, -0.5, f64::NAN] {
        assert!(error(Options { ahead, ..options(1, 1) }).contains(&format!("ahead: {ahead}; give")));
    }
    assert!(error(Options { idle: Duration::ZERO, ..options(1, 1) }).contains("idle: 0 s; give"));
}

/// Reads of keys by Zipf's law, in Poisson's manner: `a_life` reads of the first key in each minute.
struct Crowd {
    world: World,
    dice: Box<dyn Iterator<Item = f64>>,
    shares: Vec<f64>,
    rate: f64,
}

impl Crowd {
    fn new(world: World, keys: usize, a_life: f64, seed: u64) -> Crowd {
        let weights: Vec<f64> = (1..=keys).map(|rank| 1.0 / rank as f64).collect();
        let sum: f64 = weights.iter().sum();
        let shares = weights.iter().scan(0.0, |below, weight| {
            *below += weight / sum;
            Some(*below)
        });
        let rate = a_life * sum / MINUTE as f64;
        Crowd { world, dice: Box::new(draws(seed)), shares: shares.collect(), rate }
    }

    fn go_on(&mut self, time: Millis) {
        let (mut at, end) = (self.world.now as f64, self.world.now + time);
        loop {
            at += -(1.0 - self.dice.next().unwrap()).ln() / self.rate;
            if at >= end as f64 {
                return self.world.until(end);
            }
            self.world.until(at as Millis);
            let draw = self.dice.next().unwrap();
            let key = self.shares.partition_point(|&share| share < draw) as u64 + 1;
            self.world.read(key);
        }
    }

    /// How many reads of a minute this key gets.
    fn reads(&self, key: u64) -> f64 {
        let below = if key > 1 { self.shares[key as usize - 2] } else { 0.0 };
        (self.shares[key as usize - 1] - below) * self.rate * MINUTE as f64
    }
}

impl Crowd {
    /// The share of lives of these keys' values that were refreshed before they ended.
    fn in_time(&self, keys: RangeInclusive<u64>) -> f64 {
        let lives = keys.filter_map(|key| self.world.windows.get(&key));
        let (all, in_time) = lives.fold((0, 0), |sum, &(_, all, in_time)| (sum.0 + all, sum.1 + in_time));
        in_time as f64 / all as f64
    }
}

/// What R009 asks, where keys 1 to 25 are hot, with 19 reads a life and more, and those from 501 on cold, with less than one.
#[test]
fn hot_keys_are_refreshed_in_nearly_all_of_their_lives_and_cold_ones_in_hardly_any() {
    for seed in [1, 2] {
        let world = World { load_time: 200, ..World::new(options(60, 10), Policy::ttl(Duration::from_secs(60))) };
        let mut crowd = Crowd::new(world, 2_000, 500.0, seed);
        crowd.go_on(10 * MINUTE);
        crowd.world.windows.clear();
        crowd.go_on(40 * MINUTE);
        let (hot, cold) = (crowd.in_time(1..=25), crowd.in_time(501..=2_000));
        assert!(crowd.reads(25) > 19.0 && crowd.reads(501) < 1.0);
        assert!(hot >= 0.99 && cold <= 0.01, "{seed}: {hot}, {cold}");
    }
}

#[test]
fn a_budget_that_is_too_small_goes_to_the_hottest_keys() {
    let budget = Rate::new(12, Duration::from_secs(60), Some(2)).unwrap();
    let world = World::new(Options { budget, ..options(60, 1) }, Policy::ttl(Duration::from_secs(60)));
    let mut crowd = Crowd::new(world, 200, 500.0, 4);
    crowd.go_on(10 * MINUTE);
    crowd.world.windows.clear();
    crowd.go_on(40 * MINUTE);
    let (hottest, others) = (crowd.in_time(1..=5), crowd.in_time(11..=40));
    assert!(hottest > 0.9 && others < 0.15, "{hottest}, {others}");
    assert!(crowd.world.counters().put_off > 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In no stretch of time begin more loads than the budget allows, whatever becomes of them.
    #[test]
    fn the_budget_is_never_exceeded(
        count in 1..20_u32, more in 0..10_u32, load_time in 0..3_000_u64, ttl in 200..20_000_u64, seed in any::<u64>(),
        fails in any::<bool>(),
    ) {
        let budget = Rate::new(count, Duration::from_secs(1), Some(1 + more)).unwrap();
        let policy = Policy { retry_after: Duration::from_millis(100), ..Policy::ttl(Duration::from_millis(ttl)) };
        let world = World { load_time, fails, ..World::new(Options { budget, ..options(50, 1) }, policy) };
        let mut crowd = Crowd::new(world, 100, 2_000.0, seed);
        if fails {
            // Something has to be there before it can fail to be refreshed.
            crowd.world.fails = false;
            crowd.go_on(MINUTE / 2);
            crowd.world.fails = true;
        }
        crowd.go_on(MINUTE);
        let begun = &crowd.world.begun;
        for (first, from) in begun.iter().enumerate() {
            for (last, until) in begun.iter().enumerate().skip(first) {
                let allowed = f64::from(1 + more) + (until - from) as f64 * f64::from(count) / 1000.0;
                prop_assert!((last - first + 1) as f64 <= allowed + 1e-6, "{} in {} ms", last - first + 1, until - from);
            }
        }
        let Counters { refreshed, failed, saved, tracked, .. } = crowd.world.counters();
        prop_assert!(tracked <= 50 && saved <= refreshed);
        let under_way = crowd.world.refresher().loads().count() as u64;
        prop_assert!(refreshed + failed + under_way <= begun.len() as u64);
    }
}
