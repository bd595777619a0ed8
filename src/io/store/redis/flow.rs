//! The way of requests: grouped by server, sent together, answered one by one, and asked again where that may help in time.
//!
//! Each group is answered when its server has answered, whatever the others do. What was cut off is repeated if that is safe; what
//! is sent elsewhere goes there. All of it ends at the deadline of the call.

use super::node::{Lane, Node, Sent};
use super::resp::Said;
use super::script;
use super::sizes::LARGE;
use super::trouble::{self, Signal};
use super::wire::{Batch, Lost};
use super::{Inner, draw};
use crate::core::remote::{Filled, Found};
use crate::error::{StoreError, StoreFailure};
use crate::io::store::stored::Stored;
use crate::io::store::{Action, Answer, Answers, Reply, Request};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A request on its way.
pub struct Item {
    at: usize,
    request: Request,
    /// The script's text goes along.
    whole: bool,
    /// How many, this one and those behind it, are read together and answered by one list; else 0.
    together: usize,
    /// Where a server has sent it, and whether it is to say so there.
    redirected: Option<(Arc<Node>, bool)>,
    tries: u32,
    /// True if the last of them has failed, and was not just sent elsewhere.
    failed: bool,
    /// True if it is to be asked again.
    again: bool,
}

impl Item {
    /// True for a read that may be asked together with others.
    fn is_simple_read(&self) -> bool {
        matches!(self.request.action, Action::Read) && self.redirected.is_none()
    }
}

type Group = (Arc<Node>, Lane, Vec<Item>);

/// At most so many tries, with pauses of any length up to one that doubles from this to that.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(60);
/// At most so many keys are read together: meanwhile a server does nothing else.
const MOST_TOGETHER: usize = 256;
/// How many answered batches wait to be freed.
const MOST_SPENT: usize = 4;
/// While slots are moved, a request may be sent to and fro.
const MOST_REDIRECTS: u32 = 8;

/// Has these done and answers each once. What can go out at once does, from here; the rest is seen to behind.
pub fn submit(store: &Arc<Inner>, requests: Vec<Request>, answers: &Answers, deadline: Instant) {
    let spent = std::mem::take(&mut *store.spent.lock());
    drop(spent);
    let item = |(at, request)| {
        let (whole, together, redirected, tries) = (false, 0, None, 0);
        Item { at, request, whole, together, redirected, tries, failed: false, again: false }
    };
    let mut waiting: Vec<Item> = requests.into_iter().enumerate().map(item).collect();
    let short: Vec<Item> = waiting.extract_if(.., |item| item.request.action.is_short()).collect();
    store.answered(answers, short.into_iter().map(|item| (item.at, Err(trouble::no_frame()))).collect());
    waiting.iter_mut().for_each(|item| store.prefix_key(&mut item.request.key));
    let (groups, mut left) = known(store, waiting);
    for (node, lane, items) in groups {
        match node.at_once(lane) {
            Some(sent) => {
                let flight = Flight { store: Arc::clone(store), answers: answers.clone(), node, lane, items, deadline };
                flight.depart(sent);
            }
            None => left.extend(items),
        }
    }
    if !left.is_empty() {
        store.runtime.spawn(run(Arc::clone(store), left, answers.clone(), deadline));
    }
}

/// Whom to ask about each, where that is known, and the others.
fn known(store: &Inner, items: Vec<Item>) -> (Vec<Group>, Vec<Item>) {
    let (mut groups, mut unknown): (Vec<Group>, Vec<Item>) = Default::default();
    let mut lanes = items.iter().map(|item| lane(store, &item.request));
    if let (Some(node), Some(first)) = (store.topology.only(), lanes.next())
        && lanes.all(|lane| lane == first)
    {
        return (vec![(node, first, items)], unknown);
    }
    let count = items.len();
    for item in items {
        let Some(node) = store.topology.known(&item.request.key) else {
            unknown.push(item);
            continue;
        };
        let lane = lane(store, &item.request);
        match groups.iter_mut().find(|(there, of, _)| *of == lane && Arc::ptr_eq(there, &node)) {
            Some((_, _, items)) => items.push(item),
            None => {
                let mut items = Vec::with_capacity(if groups.is_empty() { count } else { 4 });
                items.push(item);
                groups.push((node, lane, items));
            }
        }
    }
    (groups, unknown)
}

/// A group that was sent by whoever asked: nobody but the connection's driver waits for it.
struct Flight {
    store: Arc<Inner>,
    answers: Answers,
    node: Arc<Node>,
    lane: Lane,
    items: Vec<Item>,
    deadline: Instant,
}

impl Flight {
    fn depart(mut self, sent: Sent) {
        let (commands, count) = written(&self.store, &mut self.items);
        let (store, link, deadline) = (Arc::clone(&self.store), Arc::clone(&sent.link), Some(self.deadline));
        // What is large a borrower has no time to read.
        let reader = self.answers.reader().filter(|_| self.lane == Lane::Small).cloned();
        let told = Box::new(move |said| self.arrive(&sent, said));
        if let Err(batch) = link.send(&commands, Batch { count, deadline, told }, reader.as_ref()) {
            // It was lost just now.
            store.runtime.spawn(async move { (batch.told)(Err(Lost::Closed)) });
        }
    }

    fn arrive(self, sent: &Sent, said: Result<Vec<Said>, Lost>) {
        let Flight { store, answers, node, mut items, deadline, .. } = self;
        let said = node.came_of(sent, said);
        let again = answered(&store, &answers, &node, &mut items, said, deadline);
        store.spent(items);
        if !again.is_empty() {
            let runtime = store.runtime.clone();
            runtime.spawn(async move {
                pause(&again).await;
                run(store, again, answers, deadline).await;
            });
        }
    }
}

/// Has these done, however long it takes up to the deadline.
async fn run(store: Arc<Inner>, mut waiting: Vec<Item>, answers: Answers, deadline: Instant) {
    let mut flying = FuturesUnordered::new();
    loop {
        if !waiting.is_empty() {
            let (groups, failed) = group(&store, std::mem::take(&mut waiting), deadline).await;
            store.answered(&answers, failed);
            flying.extend(groups.into_iter().map(|group| send(&store, &answers, group, deadline)));
        }
        let Some(again) = flying.next().await else { return };
        waiting = again;
    }
}

/// Whom to ask about each, and what cannot be asked.
async fn group(store: &Inner, items: Vec<Item>, deadline: Instant) -> (Vec<Group>, Vec<(usize, Answer)>) {
    if let Err(error) = store.topology.ready(deadline).await {
        return (Vec::new(), items.into_iter().map(|item| (item.at, Err(error.clone()))).collect());
    }
    let (mut groups, mut failed) = (BTreeMap::<_, Group>::new(), Vec::new());
    for mut item in items {
        let asking = item.redirected.as_ref().is_some_and(|(_, asking)| *asking);
        let node = match &item.redirected {
            Some((node, _)) => Ok(Arc::clone(node)),
            None => store.topology.route(&item.request.key),
        };
        if !asking {
            item.redirected = None;
        }
        match node {
            Ok(node) => {
                let lane = lane(store, &item.request);
                let group = groups.entry((Arc::as_ptr(&node), lane));
                group.or_insert_with(|| (node, lane, Vec::new())).2.push(item);
            }
            Err(error) => failed.push((item.at, Err(error))),
        }
    }
    (groups.into_values().collect(), failed)
}

fn lane(store: &Inner, request: &Request) -> Lane {
    let large = match &request.action {
        Action::Read | Action::Claim { .. } => store.sizes.is_large(&request.key),
        action => action.frame().is_some_and(|frame| frame.len() >= LARGE),
    };
    if large { Lane::Large } else { Lane::Small }
}

/// The commands that do these, and how many there are. Reads that follow each other go together.
fn written(store: &Inner, items: &mut [Item]) -> (Vec<u8>, usize) {
    let mut commands = Vec::with_capacity(items.iter().map(|item| script::size(&item.request)).sum());
    let (place, mut count) = (store.place(), 0);
    // On a cluster only keys of one slot can be read so.
    let together = place.is_one && !store.reads_apart.load(Relaxed);
    let same = |a: &Item, b: &Item| together && a.is_simple_read() && b.is_simple_read();
    for run in items.chunk_by_mut(same).flat_map(|run| run.chunks_mut(MOST_TOGETHER)) {
        let many = run.len();
        count += 1;
        if let [item] = run {
            if item.redirected.is_some() {
                commands.extend_from_slice(script::ASKING);
                count += 1;
            }
            item.together = 0;
            script::write(&mut commands, &item.request.key, &item.request.action, item.whole, place);
        } else {
            run[0].together = many;
            script::write_reads(&mut commands, run.iter().map(|item| &item.request.key[..]));
        }
    }
    (commands, count)
}

/// Sends a group, and gives what answers there are. What has to be asked again comes back when it is time to.
async fn send(store: &Inner, answers: &Answers, (node, lane, mut items): Group, deadline: Instant) -> Vec<Item> {
    let (commands, count) = written(store, &mut items);
    let said = node.send(lane, &commands, count, deadline).await;
    let again = answered(store, answers, &node, &mut items, said, deadline);
    pause(&again).await;
    again
}

/// Gives what answers there are to these. The rest is to be asked again.
fn answered(
    store: &Inner,
    answers: &Answers,
    node: &Arc<Node>,
    items: &mut Vec<Item>,
    said: Result<Vec<Said>, StoreError>,
    deadline: Instant,
) -> Vec<Item> {
    let mut given = Vec::with_capacity(items.len());
    match said {
        Ok(said) => {
            let (mut said, mut rest) = (said.into_iter(), &mut items[..]);
            while let Some(first) = rest.first_mut() {
                if first.redirected.take().is_some() {
                    said.next();
                }
                let together = first.together.max(1);
                let (these, others) = rest.split_at_mut(together);
                let said = said.next().unwrap_or(Said::Other(Value::Nil));
                match these {
                    [item] => given.extend(answer(store, node, item, said, deadline).map(|answer| (item.at, answer))),
                    these => answer_reads(store, node, these, said, deadline, &mut given),
                }
                rest = others;
            }
        }
        Err(error) => {
            store.topology.look_again();
            for item in items.iter_mut() {
                given.extend(cut_off(store, node, item, &error, deadline).map(|answer| (item.at, answer)));
            }
        }
    }
    let again = if given.len() < items.len() { items.extract_if(.., |item| item.again).collect() } else { Vec::new() };
    store.answered(answers, given);
    again
}

/// Before what has failed is tried again.
async fn pause(again: &[Item]) {
    let tries = again.iter().filter(|item| item.failed).map(|item| item.tries).max();
    if let Some(tries) = tries {
        let longest = FIRST_PAUSE.saturating_mul(1 << tries.min(8)).min(LONGEST_PAUSE);
        sleep(longest.mul_f64(draw())).await;
    }
}

/// Nobody knows what the server has done, if it was asked at all.
fn cut_off(store: &Inner, node: &Arc<Node>, item: &mut Item, error: &StoreError, deadline: Instant) -> Option<Answer> {
    (item.redirected, item.again) = (None, false);
    let safe = error.undone || item.request.action.may_be_repeated();
    let elsewhere = || store.topology.route(&item.request.key).is_ok_and(|other| !Arc::ptr_eq(&other, node));
    if safe && (node.is_admitting() || elsewhere()) {
        return try_again(store, item, error.clone(), deadline);
    }
    Some(Err(error.clone()))
}

fn try_again(store: &Inner, item: &mut Item, error: StoreError, deadline: Instant) -> Option<Answer> {
    if item.tries + 1 >= TRIES || Instant::now() >= deadline || store.is_closed() {
        return Some(Err(error));
    }
    store.tally.lock().retries += 1;
    item.tries += 1;
    (item.failed, item.again) = (true, true);
    None
}

/// The answers to what was read together, as far as there are.
fn answer_reads(
    store: &Inner,
    node: &Arc<Node>,
    items: &mut [Item],
    said: Said,
    deadline: Instant,
    given: &mut Vec<(usize, Answer)>,
) {
    let all = match said {
        Said::Many(all) if all.len() == items.len() => all,
        Said::Other(Value::ServerError(error)) if matches!(trouble::signal(&node.name, &error), Signal::Final(_)) => {
            // Which key it is about it does not say, or it has no MGET for us: from now on each is read by itself.
            store.reads_apart.store(true, Relaxed);
            return items.iter_mut().for_each(|item| item.again = true);
        }
        // An error is each one's, and so is what no reply to them can be.
        error @ Said::Other(Value::ServerError(_)) => vec![error; items.len()],
        _ => vec![Said::Many(Vec::new()); items.len()],
    };
    for (item, said) in items.iter_mut().zip(all) {
        if let Some(answer) = answer(store, node, item, said, deadline) {
            given.push((item.at, answer));
        }
    }
}

/// The answer to a request; `None` if it is to be asked again.
#[inline(always)]
fn answer(store: &Inner, node: &Arc<Node>, item: &mut Item, said: Said, deadline: Instant) -> Option<Answer> {
    item.again = false;
    match said {
        // Most of all.
        Said::Bytes(bytes) if matches!(item.request.action, Action::Read) => {
            let stored = Stored::unwrap(bytes);
            stored.iter().for_each(|stored| store.sizes.note(&item.request.key, stored.frame().len()));
            Some(Ok(Reply::Read(stored)))
        }
        said => other_answer(store, node, item, said, deadline),
    }
}

fn other_answer(store: &Inner, node: &Arc<Node>, item: &mut Item, said: Said, deadline: Instant) -> Option<Answer> {
    let error = match said {
        Said::Other(Value::ServerError(error)) => error,
        mut said => {
            if script::is_untold(&mut said) {
                store.tally.lock().untold += 1;
            }
            let reply = script::reply(&item.request.action, said);
            reply.iter().for_each(|reply| store.note_size(&item.request, reply));
            return Some(reply.ok_or_else(|| trouble::nonsense(&node.name)));
        }
    };
    match trouble::signal(&node.name, &error) {
        Signal::NoScript if !item.whole => {
            (item.whole, item.again) = (true, true);
            None
        }
        Signal::WrongType if item.request.action == Action::Read => Some(Ok(Reply::Read(None))),
        Signal::NoScript | Signal::WrongType => Some(Err(trouble::nonsense(&node.name))),
        Signal::Moved(_, address) => {
            store.topology.look_again();
            redirect(store, node, item, &address, false)
        }
        Signal::Ask(address) => redirect(store, node, item, &address, true),
        Signal::Later(error) => try_again(store, item, error, deadline),
        Signal::NotMaster(error) => {
            store.topology.look_again();
            try_again(store, item, error, deadline)
        }
        Signal::Final(error) => Some(Err(error)),
    }
}

/// The request goes to another server; `asking`: this once.
fn redirect(store: &Inner, node: &Node, item: &mut Item, address: &str, asking: bool) -> Option<Answer> {
    item.tries += 1;
    item.failed = false;
    match store.topology.redirected(address, node) {
        Some(to) if item.tries < MOST_REDIRECTS => {
            item.redirected = Some((to, asking));
            item.again = true;
            None
        }
        known => {
            let what = format!("it sends us to {address:?}{}", if known.is_some() { " and back" } else { "" });
            let cure = "say redis+cluster:// for a cluster, and see `redis-cli --cluster check`";
            Some(Err(trouble::undone(StoreFailure::Misconfigured, &node.name, what, cure)))
        }
    }
}

impl Inner {
    /// How large a value was.
    fn note_size(&self, request: &Request, reply: &Reply) {
        let size = match reply {
            Reply::Read(Some(stored)) | Reply::Claimed(Found::Fresh(stored)) | Reply::Filled(Filled::Lost(stored)) => {
                stored.frame().len()
            }
            Reply::Written(_) | Reply::Filled(Filled::Written(_)) => request.action.frame().map_or(0, <[u8]>::len),
            _ => return,
        };
        self.sizes.note(&request.key, size);
    }

    /// Keeps what has been answered for who asks next: freed by the thread that made it, it costs less. What is large does not wait.
    fn spent(&self, items: Vec<Item>) {
        if items.iter().all(|item| item.request.action.frame().is_none()) {
            let mut spent = self.spent.lock();
            if spent.len() < MOST_SPENT {
                spent.push(items);
            }
        }
    }

    /// Counts and gives answers.
    fn answered(&self, answers: &Answers, answered: Vec<(usize, Answer)>) {
        {
            let mut tally = self.tally.lock();
            answered.iter().for_each(|(_, answer)| tally.answer(answer));
        }
        answers.give(answered);
    }
}
