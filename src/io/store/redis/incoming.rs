//! What has come on a connection, taken apart into replies, and who waits for them, in the order of their commands.
//!
//! It reads nothing by itself and knows no threads: whoever reads feeds it, and it tells those whose replies are complete.

use super::resp::{self, Garbage, Head, Look, Reply, Said};
use super::wire::{Batch, Lost, Told, Wire};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io;
use std::task::Poll;
use tokio::io::ReadBuf;
use tokio::time::Instant;

/// What has come, and who waits for it.
pub struct Incoming {
    buffer: BytesMut,
    /// How much is read at once.
    room: usize,
    /// How many bytes have to be there for the next reply.
    needs: usize,
    found: Vec<Part>,
    /// How many members of the list that comes have yet to be found.
    inside: usize,
    /// What those say that were, if not all have been.
    list: Option<(usize, Vec<Said>)>,
    /// Batches in the order of their replies; the first has had some of them. Nobody waits any more for one without `told`.
    waiting: VecDeque<Waiting>,
    said: Vec<Said>,
}

/// What was found: a list is taken apart, so that what a server says of many keys need not be there at once.
enum Part {
    Reply(Reply),
    /// A list of so many, which come next.
    List(usize),
}

struct Waiting {
    count: usize,
    deadline: Option<Instant>,
    told: Option<Told>,
}

/// So many members of a list are taken to come before they do.
const EXPECTED: usize = 1024;
/// Room for what is read at once, at first and at most.
const ROOM: usize = 16 * 1024;
const MOST_ROOM: usize = 256 * 1024;

impl Drop for Incoming {
    fn drop(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.told.into_iter().for_each(|told| told(Err(Lost::Closed)));
        }
    }
}

impl Incoming {
    pub fn new() -> Self {
        let (buffer, found, list, waiting, said) = Default::default();
        Incoming { buffer, room: ROOM, needs: 1, found, inside: 0, list, waiting, said }
    }

    /// Takes in what there is, from where this reads.
    pub fn read(&mut self, read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>) -> Poll<Result<(), Lost>> {
        let missing = self.needs.saturating_sub(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < missing.max(self.room / 4) {
            self.buffer.reserve(missing.max(self.room));
        }
        let mut into = ReadBuf::uninit(self.buffer.spare_capacity_mut());
        let room = into.remaining();
        let polled = read(&mut into);
        let read = into.filled().len();
        match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Lost::Broken(error))),
            Poll::Ready(Ok(())) if read == 0 => return Poll::Ready(Err(Lost::Closed)),
            Poll::Ready(Ok(())) => {}
        }
        // SAFETY: the reader has filled so many bytes behind those there were, which `ReadBuf` vouches for.
        unsafe { self.buffer.set_len(self.buffer.len() + read) };
        self.room = match read {
            _ if read == room => (self.room * 2).min(MOST_ROOM),
            _ if read < self.room / 8 => (self.room / 2).max(ROOM),
            _ => self.room,
        };
        Poll::Ready(Ok(()))
    }

    /// Tells those whose replies are complete.
    pub fn tell(&mut self, wire: &Wire) -> Result<(), Garbage> {
        let mut at = 0;
        while self.buffer.len() >= self.needs.max(at + 1) {
            match self.look(at)? {
                Ok(end) => (at, self.needs) = (end, end + 1),
                Err(needs) => self.needs = needs,
            }
        }
        if at == 0 {
            return Ok(());
        }
        self.needs -= at;
        let whole = self.buffer.split_to(at).freeze();
        if at > MOST_ROOM {
            // What was made for a large value goes with it.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        let mut found = std::mem::take(&mut self.found);
        for part in found.drain(..) {
            let said = match part {
                Part::Reply(Reply::Bytes(range)) => Said::Bytes(whole.slice(range)),
                Part::Reply(Reply::Other(range)) => Said::Other(resp::parse(&whole[range])?),
                Part::Reply(Reply::Push(_)) => continue,
                Part::List(0) => Said::Many(Vec::new()),
                Part::List(count) => {
                    self.list = Some((count, Vec::with_capacity(count.min(EXPECTED))));
                    continue;
                }
            };
            match &mut self.list {
                None => self.add(wire, said)?,
                Some((count, members)) => {
                    members.push(said);
                    if members.len() == *count {
                        let members = std::mem::take(members);
                        self.list = None;
                        self.add(wire, Said::Many(members))?;
                    }
                }
            }
        }
        // With its room, for the next.
        self.found = found;
        Ok(())
    }

    /// Finds what begins here: where it ends, or how many bytes that needs.
    fn look(&mut self, at: usize) -> Result<Result<usize, usize>, Garbage> {
        if self.inside == 0 {
            match resp::list(&self.buffer, at)? {
                Head::Other => {}
                Head::Needs(needs) => return Ok(Err(needs)),
                Head::List(count, members) => {
                    self.inside = count;
                    self.found.push(Part::List(count));
                    return Ok(Ok(members));
                }
            }
        }
        Ok(match resp::look(&self.buffer, at)? {
            Look::Needs(needs) => Err(needs),
            Look::Whole(reply) => {
                let end = reply.end();
                if !matches!(reply, Reply::Push(_)) {
                    self.inside = self.inside.saturating_sub(1);
                }
                self.found.push(Part::Reply(reply));
                Ok(end)
            }
        })
    }

    fn add(&mut self, wire: &Wire, said: Said) -> Result<(), Garbage> {
        if self.waiting.is_empty() {
            self.learn(wire);
        }
        let Some(first) = self.waiting.front() else { return Err(Garbage("a reply to nothing".into())) };
        if self.said.is_empty() {
            self.said.reserve_exact(first.count);
        }
        self.said.push(said);
        if self.said.len() == first.count {
            let said = std::mem::take(&mut self.said);
            if let Some(told) = self.waiting.pop_front().and_then(|waiting| waiting.told) {
                told(Ok(said));
            }
        }
        Ok(())
    }

    /// Takes over who has asked meanwhile.
    pub fn learn(&mut self, wire: &Wire) {
        let asked = wire.asked();
        let waiting = |Batch { count, deadline, told }| Waiting { count, deadline, told: Some(told) };
        self.waiting.extend(asked.into_iter().map(waiting));
    }

    /// Who waits for the next reply.
    pub fn first(&mut self, wire: &Wire) -> Option<Told> {
        self.learn(wire);
        self.waiting.front_mut()?.told.take()
    }

    /// True if somebody has waited for too long.
    pub fn is_late(&self, now: Instant) -> bool {
        let next = self.waiting.iter().filter(|waiting| waiting.told.is_some()).find_map(|waiting| waiting.deadline);
        next.is_some_and(|deadline| deadline <= now)
    }

    /// Tells those who have waited for too long. The next deadline of those who still wait.
    pub fn tell_late(&mut self, now: Instant) -> Option<Instant> {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.told.is_some()) {
            match waiting.deadline {
                Some(deadline) if deadline > now => return Some(deadline),
                Some(_) => waiting.told.take().into_iter().for_each(|told| told(Err(Lost::Late))),
                None => {}
            }
        }
        None
    }
}
