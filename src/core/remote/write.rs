//! How a key is written or invalidated by hand: the store first, then the memory, then the others are told, then the caller.
//!
//! The memory first would leave this very process stale: between the two, somebody here would take the old value from the store.
//! What the store did not confirm counts as an invalidation: the memory lets the key go, and the store is told to later on.

use super::Version;
use crate::core::broken::{Rule, broken};

/// Of something of which only this is known, that it has come between.
pub const NEWEST: Version = Version(u64::MAX);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What<V> {
    /// A value.
    Value(V),
    /// A tombstone: what is there is no more, nor is what is being loaded.
    Tombstone,
}

/// What the driver does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect<V> {
    /// Write it to the store, whatever is there, and with that take any claim away. Its answer is an [`Input`].
    WriteTier(What<V>),
    /// Put it into memory in the place of what [it replaces](Version::replaces), and detach the key's flight.
    PutMemory(V, Option<Version>),
    /// Remove from memory what a tombstone of this version replaces, or whatever is there; and detach the key's flight.
    DropMemory(Option<Version>),
    /// Tell the others that what is older than this is no more.
    Publish(Version),
    /// Write a tombstone as soon as the store can be reached, as an invalidation of its own.
    Recover,
    /// Tell the caller.
    Done(Outcome),
}

/// How far a write has come when its caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The store has it.
    Applied,
    /// The store will be told as soon as it can be reached.
    Queued,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The store wrote it, under this version.
    Written(Version),
    /// The store was certainly not asked: it cannot be reached.
    Unreachable,
    /// Nobody knows what the store did.
    Unknown,
    /// This process has learnt that something else was written under the key.
    Overtaken(Version),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write<V> {
    what: What<V>,
    /// The newest version that this process has heard of since it began.
    heard: Option<Version>,
}

impl<V: Clone> Write<V> {
    /// It begins.
    pub fn begin(what: What<V>) -> (Self, Vec<Effect<V>>) {
        let write = Write { what: what.clone(), heard: None };
        let early = broken(Rule::StoreFirst).then(|| write.memory(None));
        (write, early.into_iter().chain([Effect::WriteTier(what)]).collect())
    }

    /// What came of it, and what is to be done then.
    pub fn step(&mut self, input: Input) -> Vec<Effect<V>> {
        match input {
            Input::Overtaken(version) => {
                self.heard = self.heard.max(Some(version));
                Vec::new()
            }
            Input::Written(version) => {
                let memory = self.memory(Some(version));
                let memory = Some(memory).filter(|_| !broken(Rule::StoreFirst));
                let told = [Effect::Publish(version), Effect::Done(Outcome::Applied)];
                memory.into_iter().chain(told).collect()
            }
            Input::Unknown if broken(Rule::UnknownInvalidates) => vec![Effect::Done(Outcome::Queued)],
            Input::Unknown => vec![Effect::DropMemory(None), Effect::Recover, Effect::Done(Outcome::Queued)],
            Input::Unreachable => vec![self.memory(None), Effect::Recover, Effect::Done(Outcome::Queued)],
        }
    }

    /// What becomes of the memory. A value that something newer has followed already does not come in.
    fn memory(&self, version: Option<Version>) -> Effect<V> {
        match &self.what {
            What::Value(value) if self.heard.is_none() || version > self.heard || broken(Rule::OvertakenIsDropped) => {
                Effect::PutMemory(value.clone(), version)
            }
            _ => Effect::DropMemory(version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Effect::{Done, DropMemory, Publish, PutMemory, Recover, WriteTier};
    use super::*;

    const VERSION: Version = Version(5);

    #[test]
    fn the_store_comes_first_then_the_memory_then_the_others_then_the_caller() {
        let (mut write, first) = Write::begin(What::Value(1));
        assert_eq!(first, [WriteTier(What::Value(1))]);
        let then = [PutMemory(1, Some(VERSION)), Publish(VERSION), Done(Outcome::Applied)];
        assert_eq!(write.step(Input::Written(VERSION)), then);
        let (mut write, _) = Write::<u32>::begin(What::Tombstone);
        let then = [DropMemory(Some(VERSION)), Publish(VERSION), Done(Outcome::Applied)];
        assert_eq!(write.step(Input::Written(VERSION)), then);
    }

    #[test]
    fn what_nobody_knows_the_outcome_of_is_an_invalidation_that_the_store_will_be_told_of() {
        let (mut write, _) = Write::begin(What::Value(1));
        assert_eq!(write.step(Input::Unknown), [DropMemory(None), Recover, Done(Outcome::Queued)]);
    }

    #[test]
    fn without_the_store_the_memory_alone_has_the_value() {
        let (mut write, _) = Write::begin(What::Value(1));
        assert_eq!(write.step(Input::Unreachable), [PutMemory(1, None), Recover, Done(Outcome::Queued)]);
    }

    #[test]
    fn a_value_that_something_newer_has_followed_does_not_come_into_memory() {
        for (heard, first) in [(4, PutMemory(1, Some(VERSION))), (6, DropMemory(Some(VERSION)))] {
            let (mut write, _) = Write::begin(What::Value(1));
            assert_eq!(write.step(Input::Overtaken(Version(heard))), []);
            assert_eq!(write.step(Input::Written(VERSION))[0], first);
        }
        let (mut write, _) = Write::begin(What::Value(1));
        write.step(Input::Overtaken(VERSION));
        assert_eq!(write.step(Input::Unreachable)[0], DropMemory(None), "who was heard of is newer than who was not");
    }
}
