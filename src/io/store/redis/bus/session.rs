//! What is said on the bus, what that comes to, and what is to be said next. Decisions: nothing here waits, and time is an argument.
//!
//! A session has a line to each server that writes: to all masters of a cluster, else to one. Each cache that listens joins it: it is
//! subscribed on every line, and when all servers have confirmed that, its clock is asked, on the line of the clock's server. From then on
//! messages are counted, and once a [`HEARTBEAT`] the clock is asked what it has counted. The answer stands behind all messages that were sent before it, so
//! that if both agree, none was missed until the question; this holds for [`PATIENCE`]. A line without an answer for [`TIME_OUT`] is lost,
//! and the session with it.

use super::super::resp::Said;
use super::super::script::{self, Place};
use super::super::trouble::{self, Signal};
use super::line::Came;
use crate::codec::envelope::VERSIONS;
use crate::core::coherence::hearing::Hearing;
use crate::core::coherence::message::{Message, Refusal, What};
use crate::core::coherence::{Known, Move, Origin, Told};
use crate::core::remote::Version;
use crate::error::{StoreError, StoreFailure};
use crate::io::store::ear::{Ear, News};
use crate::io::store::{Action, Reply};
use redis::{PushKind, ServerError, Value, cmd};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the clocks are asked; no answer comes as late as that; and for so long it holds, from a question on, that nothing was
/// missed: then the next answer is there, or known to be late.
pub use crate::core::coherence::heed::{HEARTBEAT, PATIENCE, TIME_OUT};
/// A cache joins no sooner than this after it has joined last.
const AGAIN: Duration = Duration::from_millis(200);
/// The same where the server refuses it.
const REFUSED: Duration = Duration::from_secs(5);

/// What stands behind the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Single,
    Sentinel,
    Cluster,
}

/// A cache that listens.
pub struct Listener {
    /// Its escaped name.
    pub cache: Vec<u8>,
    pub origin: Origin,
    /// Hear of keys that others write who tell nobody.
    pub external: bool,
    pub ear: Arc<dyn Ear>,
}

struct Seat {
    listener: Listener,
    channel: Vec<u8>,
    stage: Stage,
    /// The line of its clock's server.
    line: usize,
    joined: Option<Instant>,
    /// When its clock was asked last of what it has answered.
    confirmed: Option<Instant>,
    /// Up to when it was said that nothing was missed.
    proven: Option<Instant>,
    told: Option<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It joins then.
    Out(Instant),
    /// So many servers have yet to confirm.
    Joining(usize),
    /// Its clock is asked for all it has.
    Asking,
    /// All is heard.
    In(Hearing),
}

/// What the next answer on a line is to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Question {
    Greeting,
    Role,
    Info,
    Subscribe(u64),
    Unsubscribe,
    Track(u64),
    Registers(u64),
    Clock(u64),
    Ping,
}

#[derive(Default)]
struct Track {
    asked: VecDeque<(Question, Instant)>,
    /// When something was asked that was answered.
    answered: Option<Instant>,
    tracked: HashSet<Vec<u8>>,
}

/// What is to be said, on lines and to ears, when nobody is kept waiting by it.
#[derive(Default)]
pub struct Out {
    pub words: Vec<(usize, Vec<u8>)>,
    pub news: Vec<(Arc<dyn Ear>, News)>,
}

/// See the module.
pub struct Session {
    layout: Layout,
    prefix: Vec<u8>,
    database: u32,
    seats: BTreeMap<u64, Seat>,
    last: u64,
    tracks: Vec<Track>,
    next_beat: Option<Instant>,
    /// Of a cluster: its epoch, which grows with each change of who has what, and how many have something.
    cluster: Option<(u64, usize)>,
    /// Why nothing is heard, if that is known.
    pub why: Option<StoreError>,
    /// How often something may have been missed.
    pub lost: u64,
    /// How often the server refused to be listened to.
    pub unheard: u64,
}

impl Session {
    /// With nobody in it, and no line.
    pub fn new(layout: Layout, prefix: Vec<u8>, database: u32) -> Self {
        Session {
            layout,
            prefix,
            database,
            seats: BTreeMap::new(),
            last: 0,
            tracks: Vec::new(),
            next_beat: None,
            cluster: None,
            why: None,
            lost: 0,
            unheard: 0,
        }
    }

    fn place(&self) -> Place<'_> {
        Place { prefix: &self.prefix, database: self.database, is_one: self.layout != Layout::Cluster }
    }

    /// Somebody wants to hear.
    pub fn add(&mut self, listener: Listener, now: Instant) -> u64 {
        self.last += 1;
        let channel = self.place().channel(&listener.cache);
        let stage = Stage::Out(now);
        let (joined, confirmed, proven, told) = Default::default();
        self.seats.insert(self.last, Seat { listener, channel, stage, line: 0, joined, confirmed, proven, told });
        self.last
    }

    /// Somebody wants to hear no more.
    pub fn remove(&mut self, id: u64, now: Instant, out: &mut Out) -> Option<Listener> {
        let seat = self.seats.remove(&id)?;
        if !matches!(seat.stage, Stage::Out(_)) && self.seats.values().all(|other| other.channel != seat.channel) {
            for line in 0..self.tracks.len() {
                let words = cmd("UNSUBSCRIBE").arg(&seat.channel).get_packed_command();
                self.ask(line, Question::Unsubscribe, words, now, out);
            }
        }
        Some(seat.listener)
    }

    /// True if nobody is left.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The key of a cache's clock.
    fn clock(&self, cache: &[u8]) -> Vec<u8> {
        [&self.prefix, cache].concat()
    }

    /// There are so many lines from now on, each greeted with these commands, of which there are so many.
    pub fn begin(&mut self, lines: usize, (greeting, count): (&[u8], usize), now: Instant, out: &mut Out) {
        self.tracks = (0..lines).map(|_| Track::default()).collect();
        (self.cluster, self.next_beat) = (None, Some(now + HEARTBEAT));
        for line in 0..lines {
            self.ask(line, Question::Greeting, greeting.to_vec(), now, out);
            let track = &mut self.tracks[line];
            track.asked.extend((1..count).map(|_| (Question::Greeting, now)));
            self.ask_who(line, now, out);
        }
    }

    fn ask(&mut self, line: usize, question: Question, words: Vec<u8>, now: Instant, out: &mut Out) {
        self.tracks[line].asked.push_back((question, now));
        out.words.push((line, words));
    }

    /// Whether this is still the server to listen to; true if that had to be asked.
    fn ask_who(&mut self, line: usize, now: Instant, out: &mut Out) -> bool {
        let (question, words) = match self.layout {
            Layout::Single => return false,
            Layout::Sentinel => (Question::Role, cmd("ROLE").get_packed_command()),
            Layout::Cluster => (Question::Info, cmd("CLUSTER").arg("INFO").get_packed_command()),
        };
        self.ask(line, question, words, now, out);
        true
    }

    /// Has those join whose time has come. `route`: on which line a clock of this key is.
    pub fn join(&mut self, route: &dyn Fn(&[u8]) -> Option<usize>, now: Instant, out: &mut Out) {
        let due = |seat: &Seat| matches!(seat.stage, Stage::Out(at) if at <= now);
        let ids: Vec<u64> = self.seats.iter().filter(|(_, seat)| due(seat)).map(|(id, _)| *id).collect();
        for id in ids {
            let (lines, tracked) = (self.tracks.len(), self.tracked(id));
            let clock = self.clock(&self.seats[&id].listener.cache);
            let Some(seat) = self.seats.get_mut(&id) else { continue };
            let Some(at) = route(&clock).filter(|line| *line < lines) else {
                seat.stage = Stage::Out(now + AGAIN);
                continue;
            };
            (seat.line, seat.joined) = (at, Some(now));
            let (channel, external, mut questions) = (seat.channel.clone(), seat.listener.external, 0);
            for line in 0..lines {
                if external && self.tracks[line].tracked.insert(tracked.clone()) {
                    let mut words = cmd("CLIENT");
                    words.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&tracked);
                    self.ask(line, Question::Track(id), words.get_packed_command(), now, out);
                    questions += 1;
                }
                let words = cmd("SUBSCRIBE").arg(&channel).get_packed_command();
                self.ask(line, Question::Subscribe(id), words, now, out);
                questions += 1;
            }
            self.seats.entry(id).and_modify(|seat| seat.stage = Stage::Joining(questions));
        }
    }

    /// What all keys of somebody's cache begin with.
    fn tracked(&self, id: u64) -> Vec<u8> {
        self.seats.get(&id).map_or(Vec::new(), |seat| [&self.prefix, &seat.listener.cache, &b":"[..]].concat())
    }

    /// Asks the clocks, where it is time to.
    pub fn beat(&mut self, now: Instant, out: &mut Out) {
        if self.next_beat.is_none_or(|at| at > now) {
            return;
        }
        self.next_beat = Some(now + HEARTBEAT);
        for line in 0..self.tracks.len() {
            let mut asked = self.ask_who(line, now, out);
            let here = |seat: &Seat| seat.line == line && matches!(seat.stage, Stage::In(_));
            let seats = self.seats.iter().filter(|(_, seat)| here(seat));
            let clocks: Vec<_> = seats.map(|(id, seat)| (*id, self.clock(&seat.listener.cache))).collect();
            for (id, clock) in clocks {
                let words = cmd("HMGET").arg(clock).arg(&["b", "n", "m"]).get_packed_command();
                self.ask(line, Question::Clock(id), words, now, out);
                asked = true;
            }
            if !asked {
                self.ask(line, Question::Ping, cmd("PING").get_packed_command(), now, out);
            }
        }
    }

    /// True if an answer is late.
    pub fn is_late(&self, now: Instant) -> bool {
        self.tracks.iter().filter_map(|track| track.asked.front()).any(|(_, asked)| *asked + TIME_OUT <= now)
    }

    /// When there is something to do without anything being said.
    pub fn due(&self) -> Option<Instant> {
        let late = self.tracks.iter().filter_map(|track| track.asked.front()).map(|(_, asked)| *asked + TIME_OUT);
        let out = self.seats.values().filter_map(|seat| if let Stage::Out(at) = seat.stage { Some(at) } else { None });
        late.chain(out).chain(self.next_beat).min()
    }

    /// There are no lines any more.
    pub fn end(&mut self, why: Option<StoreError>, now: Instant, out: &mut Out) {
        let refused = why.as_ref().is_some_and(|why| why.kind == StoreFailure::Misconfigured);
        self.unheard += u64::from(refused && !self.tracks.is_empty());
        (self.tracks, self.next_beat, self.why) = (Vec::new(), None, why);
        let ids: Vec<u64> = self.seats.keys().copied().collect();
        for id in ids {
            self.lose(id, now, out);
        }
    }

    /// One of them may have missed something.
    fn lose(&mut self, id: u64, now: Instant, out: &mut Out) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if matches!(seat.stage, Stage::Out(_)) {
            return;
        }
        seat.stage = Stage::Out(seat.joined.map_or(now, |joined| now.max(joined + AGAIN)));
        (seat.confirmed, seat.told) = (None, None);
        if seat.proven.take().is_some() {
            self.lost += 1;
            out.news.push((Arc::clone(&seat.listener.ear), News::Lost));
        }
    }

    /// One of them may not listen.
    fn refuse(&mut self, id: u64, error: &ServerError, now: Instant, out: &mut Out) {
        self.lose(id, now, out);
        self.unheard += 1;
        self.why = Some(trouble::not_let_in("the bus", error));
        self.seats.entry(id).and_modify(|seat| seat.stage = Stage::Out(now + REFUSED));
    }

    /// Something came on a line. An error ends the session.
    pub fn hear(&mut self, line: usize, came: Came, now: Instant, out: &mut Out) -> Result<(), StoreError> {
        match came {
            Came::End(error) => return Err(error),
            Came::Said(Value::Push { kind, data }) => self.pushed(line, &kind, data, now, out)?,
            Came::Said(value) => {
                let (question, asked) = self.answered(line)?;
                self.reply(line, question, asked, value, now, out)?;
            }
        }
        if self.tracks.get(line).is_some_and(|track| track.asked.is_empty()) {
            self.prove(out);
        }
        Ok(())
    }

    /// What was answered now, and when it was asked.
    fn answered(&mut self, line: usize) -> Result<(Question, Instant), StoreError> {
        let track = self.tracks.get_mut(line);
        let first = track.and_then(|track| track.asked.pop_front().inspect(|(_, at)| track.answered = Some(*at)));
        first.ok_or_else(|| trouble::nonsense("the bus"))
    }

    fn pushed(
        &mut self,
        line: usize,
        kind: &PushKind,
        data: Vec<Value>,
        now: Instant,
        out: &mut Out,
    ) -> Result<(), StoreError> {
        match (kind, &data[..]) {
            // These are the answers to the commands of that name.
            (PushKind::Subscribe, _) => match self.answered(line)? {
                (Question::Subscribe(id), asked) => self.confirmed(id, asked, now, out),
                _ => return Err(trouble::nonsense("the bus")),
            },
            (PushKind::Unsubscribe, _) => _ = self.answered(line)?,
            (PushKind::Message, [Value::BulkString(channel), Value::BulkString(bytes)]) => {
                self.message(line, channel, bytes, now, out);
            }
            (PushKind::Invalidate, [Value::Array(keys)]) => {
                for key in keys {
                    if let Value::BulkString(key) = key {
                        self.touched(key, out);
                    }
                }
            }
            // All keys are gone.
            (PushKind::Invalidate, _) => {
                let all = self.seats.iter().filter(|(_, seat)| seat.listener.external);
                let all: Vec<u64> = all.map(|(id, _)| *id).collect();
                all.into_iter().for_each(|id| self.lose(id, now, out));
            }
            _ => {}
        }
        Ok(())
    }

    fn reply(
        &mut self,
        line: usize,
        question: Question,
        asked: Instant,
        value: Value,
        now: Instant,
        out: &mut Out,
    ) -> Result<(), StoreError> {
        let value = match value {
            Value::ServerError(error) => return self.denied(line, question, &error, now, out),
            value => value,
        };
        match (question, value) {
            (Question::Unsubscribe, _) => {}
            (Question::Greeting | Question::Ping, _) => {}
            (Question::Track(id), _) => self.confirmed(id, asked, now, out),
            (Question::Role, value) => is_master(&value)?,
            (Question::Info, value) => self.has_not_changed(&value)?,
            (Question::Registers(id), value) => {
                let action = Action::Registers { known: Known::default() };
                let Some(Reply::Told(told)) = script::reply(&action, Said::Other(value)) else {
                    return Err(trouble::nonsense("the bus"));
                };
                if let Some(seat) = self.seats.get_mut(&id).filter(|seat| seat.stage == Stage::Asking) {
                    seat.stage = Stage::In(Hearing::start(&told));
                    (seat.told, seat.confirmed) = (Some(told), Some(asked));
                    self.why = None;
                }
            }
            (Question::Clock(id), value) => self.count(id, asked, &value, now, out)?,
            (Question::Subscribe(_), _) => return Err(trouble::nonsense("the bus")),
        }
        Ok(())
    }

    /// A question has an error for an answer. It ends the session if it is not about one cache alone.
    fn denied(
        &mut self,
        line: usize,
        question: Question,
        error: &ServerError,
        now: Instant,
        out: &mut Out,
    ) -> Result<(), StoreError> {
        let signal = trouble::signal("the bus", error);
        match question {
            Question::Greeting => return Err(trouble::not_let_in("the bus", error)),
            Question::Unsubscribe => {}
            _ if matches!(signal, Signal::Moved(..) | Signal::Ask(_)) => return Err(trouble::has_changed()),
            // Of several servers another one is master.
            Question::Registers(_) if matches!(signal, Signal::NotMaster(_)) && self.layout != Layout::Single => {
                return Err(trouble::has_changed());
            }
            Question::Clock(id) if signal == Signal::WrongType => self.lose(id, now, out),
            Question::Track(id) => {
                let tracked = self.tracked(id);
                self.tracks[line].tracked.remove(&tracked);
                self.refuse(id, error, now, out);
            }
            Question::Subscribe(id) | Question::Registers(id) | Question::Clock(id) => self.refuse(id, error, now, out),
            Question::Role | Question::Info | Question::Ping => return Err(trouble::not_let_in("the bus", error)),
        }
        Ok(())
    }

    /// A server has confirmed that somebody hears what it says.
    fn confirmed(&mut self, id: u64, asked: Instant, now: Instant, out: &mut Out) {
        let Some(seat) = self.seats.get_mut(&id).filter(|seat| seat.joined == Some(asked)) else { return };
        match seat.stage {
            Stage::Joining(1) => {
                seat.stage = Stage::Asking;
                let (line, action) = (seat.line, Action::Registers { known: Known::default() });
                let (mut words, clock) = (Vec::new(), self.clock(&self.seats[&id].listener.cache));
                script::write(&mut words, &clock, &action, true, self.place());
                self.ask(line, Question::Registers(id), words, now, out);
            }
            Stage::Joining(left) => seat.stage = Stage::Joining(left - 1),
            _ => {}
        }
    }

    /// What a clock has counted.
    fn count(&mut self, id: u64, asked: Instant, value: &Value, now: Instant, out: &mut Out) -> Result<(), StoreError> {
        let Value::Array(fields) = value else { return Err(trouble::nonsense("the bus")) };
        let number = |at: usize| match fields.get(at) {
            Some(Value::BulkString(text)) => {
                std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
            }
            _ => 0,
        };
        let Some(seat) = self.seats.get_mut(&id) else { return Ok(()) };
        let Stage::In(hearing) = &mut seat.stage else { return Ok(()) };
        if hearing.confirm(number(0), number(1), number(2)) {
            seat.confirmed = Some(asked);
        } else {
            self.lose(id, now, out);
        }
        Ok(())
    }

    /// Of a cluster: that it is well, and as it was.
    fn has_not_changed(&mut self, value: &Value) -> Result<(), StoreError> {
        let text = match value {
            Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
            Value::VerbatimString { text, .. } => text.clone(),
            _ => return Err(trouble::nonsense("the bus")),
        };
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = |name: &str| field(name).and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
        let seen = (number("cluster_current_epoch"), number("cluster_size") as usize);
        let same = *self.cluster.get_or_insert(seen) == seen && seen.1 == self.tracks.len();
        if same && field("cluster_state").map(str::trim) == Some("ok") { Ok(()) } else { Err(trouble::has_changed()) }
    }

    /// Says how far nothing was missed, where that is further than before.
    fn prove(&mut self, out: &mut Out) {
        let all: Option<Vec<Instant>> = self.tracks.iter().map(|track| track.answered).collect();
        let Some(all) = all.and_then(|all| all.into_iter().min()) else { return };
        for seat in self.seats.values_mut().filter(|seat| matches!(seat.stage, Stage::In(_))) {
            let Some(at) = seat.confirmed.map(|confirmed| confirmed.min(all)) else { continue };
            if seat.proven.is_none_or(|proven| proven < at) || seat.told.is_some() {
                seat.proven = Some(at);
                let news = News::Proven { until: at + PATIENCE, told: seat.told.take() };
                out.news.push((Arc::clone(&seat.listener.ear), news));
            }
        }
    }

    fn message(&mut self, line: usize, channel: &[u8], bytes: &[u8], now: Instant, out: &mut Out) {
        // No script gives a stamp that it could not count on from.
        let message = Message::from_bytes(bytes).and_then(|message| match message.stamp {
            ..VERSIONS => Ok(message),
            _ => Err(Refusal::Malformed),
        });
        let hear: Vec<u64> = self.seats.iter().filter(|(_, seat)| seat.channel == channel).map(|(id, _)| *id).collect();
        for id in hear {
            let Some(seat) = self.seats.get_mut(&id) else { continue };
            let mut say = |news| out.news.push((Arc::clone(&seat.listener.ear), news));
            let whole = match &message {
                Ok(message) => {
                    if message.origin != seat.listener.origin {
                        say(news(message));
                    }
                    // In a cluster others repeat it, in an order of their own.
                    match &mut seat.stage {
                        Stage::In(hearing) if line == seat.line => hearing.heard(message.number),
                        _ => true,
                    }
                }
                Err(refusal) => {
                    say(News::Strange);
                    *refusal == Refusal::Foreign
                }
            };
            if !whole {
                self.lose(id, now, out);
            }
        }
    }

    fn touched(&self, key: &[u8], out: &mut Out) {
        let Some(key) = key.strip_prefix(&self.prefix[..]) else { return };
        let about = |seat: &&Seat| {
            let listener = &seat.listener;
            listener.external && key.strip_prefix(&listener.cache[..]).is_some_and(|rest| rest.starts_with(b":"))
        };
        for seat in self.seats.values().filter(about) {
            out.news.push((Arc::clone(&seat.listener.ear), News::Touched { key: key.to_vec() }));
        }
    }
}

fn news(message: &Message) -> News {
    let at = message.stamp;
    match &message.what {
        What::Changed { key } => News::Changed { key: key.clone(), version: Version(at) },
        What::Moved { names, how } => News::Moved(Move { names: names.clone(), how: *how, at }),
    }
}

fn is_master(value: &Value) -> Result<(), StoreError> {
    let role = match value {
        Value::Array(parts) => parts.first(),
        _ => None,
    };
    match role {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err(trouble::has_changed()),
    }
}

#[cfg(test)]
mod tests;
