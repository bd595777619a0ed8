//! Turns at a key: one holder at a time, the others in the order they asked.
//!
//! Who waits is a type parameter; nobody is woken here. Whoever gives a turn up is told who has it next, and wakes them.

use hashbrown::HashMap;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub struct Turns<W> {
    /// The line behind each key that is held.
    held: HashMap<String, VecDeque<(u64, W)>>,
    tickets: u64,
}

impl<W> Default for Turns<W> {
    fn default() -> Self {
        Turns { held: HashMap::new(), tickets: 0 }
    }
}

impl<W> Turns<W> {
    /// Takes the turn if nobody has it; true if so.
    pub fn take(&mut self, key: &str) -> bool {
        let free = !self.held.contains_key(key);
        if free {
            self.held.insert(key.to_owned(), VecDeque::new());
        }
        free
    }

    /// Joins the line of a key, or gives the waiter back to have the turn at once. The ticket is for [`leave`](Self::leave).
    pub fn join(&mut self, key: &str, waiter: W) -> Result<u64, W> {
        let Some(line) = self.held.get_mut(key) else {
            self.held.insert(key.to_owned(), VecDeque::new());
            return Err(waiter);
        };
        self.tickets += 1;
        line.push_back((self.tickets, waiter));
        Ok(self.tickets)
    }

    /// Goes out of the line; `None` if it was not in it any more, so has the turn.
    pub fn leave(&mut self, key: &str, ticket: u64) -> Option<W> {
        let line = self.held.get_mut(key)?;
        let at = line.iter().position(|(waiting, _)| *waiting == ticket)?;
        line.remove(at).map(|(_, waiter)| waiter)
    }

    /// Gives the turn up, to the one who is returned if there is one.
    pub fn pass(&mut self, key: &str) -> Option<W> {
        let next = self.held.get_mut(key)?.pop_front();
        if next.is_none() {
            self.held.remove(key);
        }
        next.map(|(_, waiter)| waiter)
    }

    /// Calls `visit` with everybody who waits, until it says false.
    pub fn visit(&self, mut visit: impl FnMut(&W) -> bool) -> bool {
        self.held.values().flatten().all(|(_, waiter)| visit(waiter))
    }

    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// True if no key is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn turns_are_taken_in_the_order_of_asking() {
        let mut turns = Turns::default();
        assert!(turns.take("a") && turns.take("b"));
        assert!(!turns.take("a"));
        let second = turns.join("a", 2);
        assert!(second.is_ok() && turns.join("a", 3).is_ok());
        assert_eq!(turns.pass("a"), Some(2));
        assert_eq!(turns.pass("a"), Some(3));
        assert_eq!(turns.pass("a"), None);
        assert_eq!(turns.len(), 1);
        assert_eq!(turns.join("a", 4), Err(4));
    }

    #[test]
    fn who_leaves_the_line_is_passed_over_and_who_has_the_turn_cannot_leave() {
        let mut turns = Turns::default();
        turns.take("a");
        let (second, third) = (turns.join("a", 2).unwrap(), turns.join("a", 3).unwrap());
        assert_eq!(turns.leave("a", second), Some(2));
        assert_eq!(turns.pass("a"), Some(3));
        assert_eq!(turns.leave("a", third), None);
        assert_eq!(turns.pass("a"), None);
        assert!(turns.is_empty());
    }
}
