//! Every history of a small world, for tests: whatever can happen next does, in every order.
//!
//! Two histories that lead to the same state go on as one, but both are counted. What a state is compared by is for the
//! world to say: all that can matter later.

use std::collections::HashMap;
use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hasher};

/// A world with choices.
pub trait World: Sized {
    /// Something that can happen next.
    type Choice: Copy + Debug;

    /// All that can happen next; nothing at the end of a history.
    fn choices(&self) -> Vec<Self::Choice>;

    /// The world after this: an error breaks a promise.
    fn take(&mut self, choice: Self::Choice) -> Result<(), String>;

    /// At the end of a history.
    fn end(&mut self) -> Result<(), String>;

    /// Another world like this one, which came about by `path`.
    fn another(&self, path: &[Self::Choice]) -> Self;

    /// What tells this state from others.
    fn state(&self) -> u64;
}

/// What all histories came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histories {
    /// How many there are.
    pub all: u128,
    /// How many of them break a promise.
    pub broken: u128,
    /// Different states they went through.
    pub states: usize,
    /// The first that was found to break one.
    pub example: Option<String>,
}

/// Explores all histories from here.
pub fn explore<W: World>(start: W) -> Histories {
    let mut explorer = Explorer { seen: HashMap::new(), path: Vec::new(), example: None };
    let (all, broken) = explorer.from(start);
    Histories { all, broken, states: explorer.seen.len(), example: explorer.example }
}

struct Explorer<C> {
    seen: HashMap<u64, (u128, u128)>,
    path: Vec<C>,
    example: Option<String>,
}

impl<C: Copy + Debug> Explorer<C> {
    /// How many histories go on from here, and how many of them break a promise.
    fn from<W: World<Choice = C>>(&mut self, mut world: W) -> (u128, u128) {
        let state = world.state();
        if let Some(&known) = self.seen.get(&state) {
            return known;
        }
        let choices = world.choices();
        let mut counts = (0, 0);
        if choices.is_empty() {
            counts = (1, u128::from(!self.holds(world.end())));
        }
        let last = choices.len().saturating_sub(1);
        let mut world = Some(world);
        for (at, &choice) in choices.iter().enumerate() {
            let here = world.take_if(|_| at == last);
            let Some(mut next) = here.or_else(|| world.as_ref().map(|world| world.another(&self.path))) else { break };
            self.path.push(choice);
            let taken = next.take(choice);
            let (all, broken) = if self.holds(taken) { self.from(next) } else { (1, 1) };
            self.path.pop();
            counts = (counts.0 + all, counts.1 + broken);
        }
        self.seen.insert(state, counts);
        counts
    }

    fn holds(&mut self, verdict: Result<(), String>) -> bool {
        if let Err(story) = &verdict {
            self.example.get_or_insert_with(|| format!("{story}\nafter {:#?}", self.path));
        }
        verdict.is_ok()
    }
}

/// What is written into it comes to one number.
pub struct Sum(DefaultHasher);

impl Sum {
    /// Of all that is written here.
    pub fn of(write: impl FnOnce(&mut Sum) -> fmt::Result) -> u64 {
        let mut sum = Sum(DefaultHasher::new());
        write(&mut sum).expect("a sum takes everything");
        sum.0.finish()
    }
}

impl Write for Sum {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
