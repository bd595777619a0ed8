//! What is asked of a cache with a store behind its memory, as errands: look, write, update, list, clear.
//!
//! Memory answers what it can; what it cannot is asked of the store, all keys of a call in one round trip. Writes go to the store first.

use super::bridge::Few;
use super::coding::{Fetched, Present};
use super::copy;
use super::errand::{Errand, Turn};
use super::options::shown;
use super::pending::Holds;
use super::place::{Came, Change, Home, Over, Place};
use super::recipe::{Kept, Recipe};
use super::remote::Remote;
use super::spot::Spot;
use super::stamp::Stamp;
use super::tier::{Object, truth};
use super::two_tiers::TwoTiers;
use crate::core::clock::{Millis, NEVER, deadline};
use crate::core::policy::Glob;
use crate::core::remote::cell::Framed;
use crate::core::remote::ledger::Mark;
use crate::core::remote::{Filled, TOMBSTONE_LIFE, Version};
use crate::io::store::stored::Stored;
use crate::io::store::{Action, Answer, Cursor, Page, Reply, Request};
use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList, PyString};
use smallvec::smallvec;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A get that memory has nothing for.
pub struct Look {
    pub place: Place,
    pub recipe: Arc<Recipe>,
    /// What answers where nothing is.
    pub default: Object,
    pub mark: Mark,
    /// Only the store's answer will do: what memory has is older than what somebody knows of.
    pub is_bound: bool,
}

impl Holds for Look {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.place.visit(visit) && visit(&self.default)
    }
}

impl Errand for Look {
    fn begin(&mut self, py: Python<'_>) -> PyResult<Turn> {
        if !self.place.is_worth_asking(py)? {
            return Ok(Turn::Done(self.default.clone_ref(py)));
        }
        self.mark = self.place.mark();
        let requests = smallvec![self.place.request(Action::Read)];
        Ok(Turn::Ask(if self.is_bound { self.place.and_clock(requests) } else { self.place.with_clock(requests) }))
    }

    fn told(&mut self, py: Python<'_>, mut answers: Few<Answer>) -> PyResult<Turn> {
        let present = self.place.tier.clock.both();
        self.place.heard_clock(&mut answers, 1);
        let value = match answers.pop() {
            Some(Err(error)) if self.is_bound => {
                self.place.behind.remote.failed(py, &error)?;
                None
            }
            Some(answer) => {
                let mut hits = 0;
                let found = self.place.found(py, answer, &self.recipe, (self.mark, present), &mut hits);
                self.place.count(hits);
                found?
            }
            None => None,
        };
        Ok(Turn::Done(value.unwrap_or_else(|| self.default.clone_ref(py))))
    }

    fn name(&self) -> String {
        "get()".into()
    }
}

/// A key that memory has nothing for.
pub struct Wanted {
    /// As it was given, where that is not its name.
    pub given: Option<Object>,
    /// Where it is in memory.
    pub spot: Spot,
    /// Where in the names it is called what it is called in the store.
    pub name: Range<usize>,
    /// How things stood when the store was asked.
    pub mark: Mark,
}

/// Those of many gets that memory has nothing for.
pub struct Looks {
    /// What is found, by key; in the order asked, those that memory had first.
    pub found: Py<PyDict>,
    pub wanted: Vec<Wanted>,
    /// One after the other, so that none takes memory of its own.
    pub names: Bytes,
    /// Of all of them.
    pub home: Arc<Home>,
    pub recipe: Arc<Recipe>,
    /// False for those who list what is there: that is no use of it, and memory keeps none of it.
    pub keeps: bool,
}

impl Holds for Looks {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let mut see = |wanted: &Wanted| wanted.given.iter().chain([&wanted.spot.key]).all(&mut *visit);
        self.wanted.iter().all(&mut see) && visit(self.found.as_any())
    }
}

impl Errand for Looks {
    fn begin(&mut self, py: Python<'_>) -> PyResult<Turn> {
        let remote = &self.home.behind.remote;
        if self.wanted.iter().any(|wanted| remote.is_behind(&self.names[wanted.name.clone()])) {
            for Wanted { given, spot, name, mark } in std::mem::take(&mut self.wanted) {
                let place = Place::at(&*self.home, spot, &self.names[name.clone()]);
                if place.is_worth_asking(py)? {
                    self.wanted.push(Wanted { given, spot: place.spot, name, mark });
                }
            }
        }
        if self.wanted.is_empty() {
            return Ok(Turn::Done(self.found.clone_ref(py).into_any()));
        }
        // Room for the clock too.
        let mut requests = Vec::with_capacity(self.wanted.len() + 1);
        let read = |wanted: &Wanted| Request { key: self.names.slice(wanted.name.clone()), action: Action::Read };
        requests.extend(self.wanted.iter().map(read));
        Ok(Turn::Ask(self.home.with_clock(Few::from_vec(requests))))
    }

    fn told(&mut self, py: Python<'_>, mut answers: Few<Answer>) -> PyResult<Turn> {
        let mut hits = 0;
        self.home.heard_clock(&mut answers, self.wanted.len());
        let taken = self.take(py, answers, self.home.tier.clock.both(), &mut hits);
        self.home.count(hits);
        taken?;
        Ok(Turn::Done(self.found.clone_ref(py).into_any()))
    }

    fn name(&self) -> String {
        "get_many()".into()
    }
}

impl Looks {
    /// Takes in what was answered, and counts what memory had nothing for.
    fn take(&mut self, py: Python<'_>, answers: Few<Answer>, present: Present, hits: &mut u64) -> PyResult<()> {
        let found = self.found.bind(py);
        for (Wanted { given, spot, name, mark }, answer) in self.wanted.drain(..).zip(answers) {
            let place = Place::at(&*self.home, spot, &self.names[name]);
            let value = match self.keeps {
                true => place.found(py, answer, &self.recipe, (mark, present), hits)?,
                false => place.fresh(py, answer, present)?.and_then(|fetched| fetched.value),
            };
            if let Some(value) = value {
                found.set_item(given.as_ref().unwrap_or(&place.spot.key), value)?;
            }
        }
        Ok(())
    }
}

/// What a write's caller is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// Nothing.
    Nothing,
    /// When the last of it was written.
    Stamp,
    /// Whether something was there.
    WhetherThere,
    /// Of how many something was there.
    HowMany,
}

/// Writes and removals by hand, all in one round trip.
pub struct Writes {
    changes: Vec<Change>,
    requests: Vec<Request>,
    gives: Gives,
    name: &'static str,
    /// Of what was written; None: the store may not have it.
    versions: Vec<Option<Version>>,
}

/// The version that a write was given.
fn version_of(answer: &Answer) -> Option<Version> {
    match answer {
        Ok(Reply::Written(version) | Reply::Buried(version, _) | Reply::Filled(Filled::Written(version))) => {
            Some(*version)
        }
        _ => None,
    }
}

impl Writes {
    /// These, each with what it asks of the store.
    pub fn new(changes: Vec<(Change, Request)>, gives: Gives, name: &'static str) -> Self {
        let (changes, requests) = changes.into_iter().unzip();
        Writes { changes, requests, gives, name, versions: Vec::new() }
    }

    /// The newest, if the store has them all.
    fn stamp(&self) -> Stamp {
        let all: Option<Vec<Version>> = self.versions.iter().copied().collect();
        Stamp::of(all.map(|all| all.into_iter().max().unwrap_or(Version(0))))
    }

    fn given(&self, py: Python<'_>, came: &[Came]) -> PyResult<Object> {
        let there = came.iter().filter(|came| **came == Came::Made(true)).count();
        let yes = |answer: bool| Ok(answer.into_pyobject(py)?.to_owned().into_any().unbind());
        match self.gives {
            Gives::Nothing => Ok(py.None()),
            Gives::Stamp => Ok(Bound::new(py, self.stamp())?.into_any().unbind()),
            Gives::WhetherThere => yes(there > 0),
            Gives::HowMany => Ok(there.into_pyobject(py)?.into_any().unbind()),
        }
    }
}

impl Holds for Writes {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.changes.iter().all(|change| change.visit(visit))
    }
}

impl Errand for Writes {
    fn begin(&mut self, py: Python<'_>) -> PyResult<Turn> {
        if self.requests.is_empty() {
            return Ok(Turn::Done(self.given(py, &[])?));
        }
        Ok(Turn::Ask(std::mem::take(&mut self.requests).into()))
    }

    fn told(&mut self, py: Python<'_>, answers: Few<Answer>) -> PyResult<Turn> {
        let mut came = Vec::with_capacity(answers.len());
        let mut failed = None;
        self.changes.iter_mut().for_each(Change::look_round);
        for (change, answer) in std::mem::take(&mut self.changes).into_iter().zip(answers) {
            self.versions.push(version_of(&answer));
            match change.told(py, answer) {
                Ok(one) => came.push(one),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // All have been followed by memory before the first error is raised.
        failed.map_or_else(|| Ok(Turn::Done(self.given(py, &came)?)), Err)
    }

    fn left(&mut self, py: Python<'_>) {
        self.changes.iter().for_each(|change| change.left(py));
    }

    fn name(&self) -> String {
        format!("{}()", self.name)
    }
}

/// What a value becomes that depends on what is there.
pub enum Becomes {
    /// The same, fresh for so long.
    Touched(Option<Duration>),
    /// So much more, for so long if that is said, and where nothing was.
    More { by: Object, given: Option<Option<Duration>>, own: Option<Duration> },
    /// This value, fresh for so long: where nothing was (`adds`), or where something was.
    Value { value: Object, ttl: Option<Duration>, adds: bool },
}

/// A change of what is there: it is read, and written if it is still the same.
pub struct Update {
    core: Py<TwoTiers>,
    /// The name as it was given.
    key: Object,
    becomes: Becomes,
    /// What was written, and what its caller is given for it.
    writing: Option<(Change, Object)>,
    tries: u32,
}

/// After so many changes that came between somebody is told. Of those who change a key at once one comes through at a time.
const TRIES: u32 = 10_000;

impl Update {
    /// Of a name.
    pub fn new(core: Py<TwoTiers>, key: Object, becomes: Becomes) -> Self {
        Update { core, key, becomes, writing: None, tries: 0 }
    }

    fn place(&self, py: Python<'_>) -> PyResult<Place> {
        self.core.get().place(self.key.bind(py))
    }

    fn ask(&self, py: Python<'_>) -> PyResult<Turn> {
        let place = self.place(py)?;
        Ok(Turn::Ask(place.with_clock(smallvec![place.request(Action::Read)])))
    }

    /// Somebody has come between; with this, if the store said so.
    fn again(&mut self, py: Python<'_>, winner: Option<Stored>) -> PyResult<Turn> {
        self.tries += 1;
        if self.tries > TRIES {
            let text =
                format!("{} is changed by others all the time: no change of it came through", shown(self.key.bind(py)));
            return Err(PyRuntimeError::new_err(text));
        }
        match winner {
            Some(stored) => self.read(py, Ok(Reply::Read(Some(stored)))),
            None => self.ask(py),
        }
    }

    /// What it becomes, until when, and what its caller is given.
    fn next(&self, py: Python<'_>, there: Option<Fetched>, now: Millis) -> PyResult<Option<(Object, Millis, Object)>> {
        let there = there.and_then(|fetched| Some((fetched.value?, fetched.fresh_until)));
        let yes = || true.into_pyobject(py).map(|yes| yes.to_owned().into_any().unbind());
        Ok(match (&self.becomes, there) {
            (Becomes::Touched(_), None) | (Becomes::Value { .. }, _) => None,
            (Becomes::Touched(ttl), Some((value, _))) => Some((value, deadline(now, *ttl), yes()?)),
            (Becomes::More { by, given, own }, None) => {
                Some((by.clone_ref(py), deadline(now, given.unwrap_or(*own)), by.clone_ref(py)))
            }
            (Becomes::More { by, given, .. }, Some((value, end))) => {
                let value = value.into_bound(py);
                if !value.is_exact_instance_of::<PyInt>() {
                    return Err(not_an_int(self.key.bind(py), &value));
                }
                let sum = value.add(by)?.unbind();
                Some((sum.clone_ref(py), given.map_or(end, |ttl| deadline(now, ttl)), sum))
            }
        })
    }

    /// Writes a value over that.
    fn write(&mut self, py: Python<'_>, place: Place, over: Over) -> PyResult<Turn> {
        let Becomes::Value { value, ttl, .. } = &self.becomes else { return self.ask(py) };
        let (end, kept) = (deadline(place.tier.clock.now(), *ttl), self.core.get().kept(py, value.bind(py), *ttl)?);
        let (change, request) = Change::put(py, place, kept, end, over)?;
        self.writing = Some((change, true.into_pyobject(py)?.to_owned().into_any().unbind()));
        Ok(Turn::Ask(smallvec![request]))
    }

    /// Whether a value is to be written depends on whether something is there, whatever that is.
    fn read_for_value(&mut self, py: Python<'_>, answer: Answer, adds: bool) -> PyResult<Turn> {
        let place = self.place(py)?;
        let (there, over) = match answer {
            Ok(Reply::Read(Some(stored))) if place.is_believed() => {
                (place.stands(py, &stored), Over::Version(stored.version()))
            }
            Ok(Reply::Read(Some(stored))) => (in_memory(py, &place)?.is_some(), Over::Version(stored.version())),
            Ok(_) => (!place.is_believed() && in_memory(py, &place)?.is_some(), Over::Nothing),
            Err(error) => {
                place.behind.remote.failed(py, &error)?;
                (in_memory(py, &place)?.is_some(), Over::Anything)
            }
        };
        if there == adds {
            return Ok(Turn::Done(truth(py, false)?));
        }
        self.write(py, place, over)
    }

    fn read(&mut self, py: Python<'_>, answer: Answer) -> PyResult<Turn> {
        if let Becomes::Value { adds, .. } = self.becomes {
            return self.read_for_value(py, answer, adds);
        }
        let place = self.place(py)?;
        let present = place.tier.clock.both();
        let now = present.0;
        // Where the store cannot be asked, or has yet to hear of it, memory is all there is.
        let unanswered = answer.is_err() || !place.is_believed();
        // Whatever is there, fresh and readable or not, is what it replaces.
        let over = match &answer {
            Ok(Reply::Read(Some(stored))) => Over::Version(stored.version()),
            Ok(_) => Over::Nothing,
            Err(_) => Over::Anything,
        };
        let fetched = place.fresh(py, answer, present)?;
        let mut there = if unanswered { in_memory(py, &place)? } else { fetched };
        let tags = there.as_mut().and_then(|there| there.tags.take());
        let Some((value, end, gives)) = self.next(py, there, now)? else {
            return Ok(Turn::Done(truth(py, false)?));
        };
        let left = (end < NEVER).then(|| Duration::from_millis(end.saturating_sub(now)));
        let kept = Kept { tags, ..self.core.get().kept(py, value.bind(py), left)? };
        let (change, request) = Change::put(py, place, kept, end, over)?;
        self.writing = Some((change, gives));
        Ok(Turn::Ask(smallvec![request]))
    }
}

/// What memory has, as if the store had given it.
fn in_memory(py: Python<'_>, place: &Place) -> PyResult<Option<Fetched>> {
    let Some(there) = place.served(py)? else { return place.spot.suspect(py, &place.tier, &place.space) };
    let value = copy::hand_out(there.value.bind(py), there.kind)?.unbind();
    let tags = there.tags.map(|tags| tags.names.clone());
    Ok(Some(Fetched { tags, ..Fetched::here(value, there.deadline) }))
}

/// A counter that is none.
pub fn not_an_int(key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyErr {
    let (key, value) = (shown(key), shown(value));
    PyTypeError::new_err(format!("cannot increment {key}: its value is {value}, not an int; set it to a number first"))
}

impl Holds for Update {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let value = if let Becomes::Value { value, .. } = &self.becomes { visit(value) } else { true };
        value
            && visit(self.core.as_any())
            && visit(&self.key)
            && self.writing.as_ref().is_none_or(|(change, gives)| change.visit(visit) && visit(gives))
    }
}

impl Errand for Update {
    fn begin(&mut self, py: Python<'_>) -> PyResult<Turn> {
        match self.becomes {
            // Nearly always nothing is there: only if something is, it is looked at.
            Becomes::Value { adds: true, .. } => {
                let place = self.place(py)?;
                self.write(py, place, Over::Nothing)
            }
            _ => self.ask(py),
        }
    }

    fn told(&mut self, py: Python<'_>, mut answers: Few<Answer>) -> PyResult<Turn> {
        if answers.len() > 1 {
            self.place(py)?.heard_clock(&mut answers, 1);
        }
        let Some(answer) = answers.pop() else { return self.ask(py) };
        let Some((mut change, gives)) = self.writing.take() else { return self.read(py, answer) };
        if let (Err(error), Becomes::Value { adds: true, .. }) = (&answer, &self.becomes)
            && error.undone
            && in_memory(py, &self.place(py)?)?.is_some()
        {
            self.place(py)?.behind.remote.failed(py, error)?;
            return Ok(Turn::Done(truth(py, false)?));
        }
        change.look_round();
        let winner = if let Ok(Reply::Filled(Filled::Lost(stored))) = &answer { Some(stored.clone()) } else { None };
        match change.told(py, answer)? {
            Came::Made(_) => Ok(Turn::Done(gives)),
            // Whether what is there counts may be for the clock to say.
            Came::Refused if matches!(self.becomes, Becomes::Value { .. }) && self.place(py)?.has_to_ask() => {
                self.again(py, None)
            }
            Came::Refused => self.again(py, winner),
        }
    }

    fn left(&mut self, py: Python<'_>) {
        if let Some((change, _)) = &self.writing {
            change.left(py);
        }
    }

    fn name(&self) -> String {
        match self.becomes {
            Becomes::Touched(_) => "touch()".into(),
            Becomes::More { .. } => "incr()".into(),
            Becomes::Value { adds: true, .. } => "add()".into(),
            Becomes::Value { .. } => "replace()".into(),
        }
    }
}

/// What is there, and until when, for those who only want to know.
pub struct Glance {
    pub place: Place,
    /// What memory makes of it, if it knows.
    pub here: fn(Python<'_>, &Place) -> PyResult<Option<Object>>,
    /// Makes of what the store has what its caller is given.
    pub tells: fn(Python<'_>, &Place, Option<Fetched>) -> PyResult<Object>,
}

impl Holds for Glance {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.place.visit(visit)
    }
}

impl Errand for Glance {
    fn begin(&mut self, py: Python<'_>) -> PyResult<Turn> {
        if self.place.space.is_disabled() {
            return (self.tells)(py, &self.place, None).map(Turn::Done);
        }
        match (self.here)(py, &self.place)? {
            Some(here) => Ok(Turn::Done(here)),
            None if self.place.is_worth_asking(py)? => {
                Ok(Turn::Ask(self.place.with_clock(smallvec![self.place.request(Action::Read)])))
            }
            None => (self.tells)(py, &self.place, None).map(Turn::Done),
        }
    }

    fn told(&mut self, py: Python<'_>, mut answers: Few<Answer>) -> PyResult<Turn> {
        self.place.heard_clock(&mut answers, 1);
        let fetched = match answers.pop() {
            Some(answer) => self.place.known(py, answer, self.place.tier.clock.both())?,
            None => None,
        };
        (self.tells)(py, &self.place, fetched).map(Turn::Done)
    }

    fn name(&self) -> String {
        "peek()".into()
    }
}

/// A page of the names that begin so.
pub struct Names {
    pub remote: Arc<Remote>,
    pub prefix: Vec<u8>,
    pub from: Cursor,
}

impl Holds for Names {
    fn visit(&self, _visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        true
    }
}

fn paged(py: Python<'_>, remote: &Remote, answers: Few<Answer>) -> PyResult<Page> {
    match answers.into_iter().next() {
        Some(Ok(Reply::Scanned(page))) => Ok(page),
        Some(Err(error)) => remote.failed(py, &error).map(|()| (Vec::new(), None)),
        _ => Ok((Vec::new(), None)),
    }
}

impl Errand for Names {
    fn begin(&mut self, _py: Python<'_>) -> PyResult<Turn> {
        Ok(Turn::Scan(self.prefix.clone(), self.from))
    }

    fn told(&mut self, py: Python<'_>, answers: Few<Answer>) -> PyResult<Turn> {
        let (keys, next) = paged(py, &self.remote, answers)?;
        let names = keys.iter().filter_map(|key| std::str::from_utf8(key.strip_prefix(&self.prefix[..])?).ok());
        let names = PyList::new(py, names.map(|name| PyString::new(py, name)))?;
        let next = next.map(|cursor| (cursor.server, cursor.at));
        Ok(Turn::Done((names, next).into_pyobject(py)?.into_any().unbind()))
    }

    fn name(&self) -> String {
        "keys()".into()
    }
}

/// Does to memory what is done to the store: told each name that was picked, and the end.
type Follows = dyn FnMut(Python<'_>, Cleared<'_>) -> PyResult<()> + Send + Sync;

/// What of a store was cleared.
#[derive(Clone, Copy)]
pub enum Cleared<'a> {
    /// This name.
    Name(&'a str),
    /// All that was to be; or not all, for the store could not be asked.
    End { all: bool },
}

/// Everything under names that begin so goes; in memory too, when the store has been told.
pub struct Clearing {
    remote: Arc<Remote>,
    /// Those that are left; the last is under way.
    prefixes: Vec<Vec<u8>>,
    /// Where its scan goes on.
    next: Cursor,
    /// What was asked last is a page, not the removal of one.
    scans: bool,
    /// The names that are being removed, if they were picked.
    picked: Vec<String>,
    /// The store could not be asked, or not all the time.
    failed: bool,
    /// Picks names, those of all others stay.
    wanted: Option<Glob>,
    after: Box<Follows>,
    count: u64,
}

impl Holds for Clearing {
    fn visit(&self, _visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        true
    }
}

impl Clearing {
    /// Of all names that begin so.
    pub fn new(
        remote: Arc<Remote>,
        prefixes: Vec<Vec<u8>>,
        wanted: Option<Glob>,
        after: impl FnMut(Python<'_>, Cleared<'_>) -> PyResult<()> + Send + Sync + 'static,
    ) -> Self {
        let (next, after) = (Cursor::default(), Box::new(after));
        Clearing { remote, prefixes, next, scans: false, picked: Vec::new(), failed: false, wanted, after, count: 0 }
    }

    fn scan(&mut self, py: Python<'_>) -> PyResult<Turn> {
        self.scans = true;
        if let Some(prefix) = self.prefixes.last() {
            return Ok(Turn::Scan(prefix.clone(), self.next));
        }
        (self.after)(py, Cleared::End { all: !self.failed })?;
        Ok(Turn::Done(self.count.into_pyobject(py)?.into_any().unbind()))
    }

    /// A page: what is to go of it.
    fn page(&mut self, py: Python<'_>, (mut keys, next): Page) -> PyResult<Turn> {
        let prefix = self.prefixes.last().cloned().unwrap_or_default();
        match next {
            Some(next) => self.next = next,
            None => {
                self.prefixes.pop();
                self.next = Cursor::default();
            }
        }
        if let Some(glob) = &self.wanted {
            let name = |key: &[u8]| Some(std::str::from_utf8(key.strip_prefix(&prefix[..])?).ok()?.to_owned());
            keys.retain(|key| name(key).is_some_and(|name| glob.fits(&name)));
            self.picked = keys.iter().filter_map(|key| name(key)).collect();
        }
        if keys.is_empty() {
            return self.scan(py);
        }
        self.scans = false;
        let bury = |key: Vec<u8>| {
            let (key, tell) = (key.into(), self.remote.tell_others());
            Request { key, action: Action::Invalidate { keep: TOMBSTONE_LIFE, by: None, tell } }
        };
        Ok(Turn::Ask(keys.into_iter().map(bury).collect()))
    }
}

impl Errand for Clearing {
    fn begin(&mut self, py: Python<'_>) -> PyResult<Turn> {
        self.scan(py)
    }

    fn told(&mut self, py: Python<'_>, answers: Few<Answer>) -> PyResult<Turn> {
        if self.scans {
            self.failed |= answers.iter().any(Result::is_err);
            let page = paged(py, &self.remote, answers)?;
            return self.page(py, page);
        }
        for name in std::mem::take(&mut self.picked) {
            (self.after)(py, Cleared::Name(&name))?;
        }
        for answer in &answers {
            match answer {
                Ok(reply) => self.count += u64::from(matches!(reply, Reply::Buried(_, true))),
                Err(error) => {
                    self.failed = true;
                    self.remote.failed(py, error)?;
                }
            }
        }
        self.scan(py)
    }

    fn left(&mut self, py: Python<'_>) {
        let picked = std::mem::take(&mut self.picked);
        let names = picked.iter().map(|name| Cleared::Name(name));
        for cleared in names.chain([Cleared::End { all: false }]) {
            if let Err(error) = (self.after)(py, cleared) {
                error.write_unraisable(py, None);
            }
        }
    }

    fn name(&self) -> String {
        "clear()".into()
    }
}
