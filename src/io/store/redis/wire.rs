//! Commands out and replies in, on one connection, for any number of callers at once.
//!
//! Whoever asks writes, so that no other thread has to be woken for that; what the system does not take at once is left to the
//! driver. The driver reads: one look at what has come tells all whose replies are complete. Replies come in the order of the
//! commands, so what is written and who waits for it are noted under one lock. Who has waited for too long is told so, and what
//! comes for them later is dropped.

use super::resp::{self, Garbage, Head, Look, Reply, Said};
use super::stream::{Reader, Writer};
use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Why there are no replies.
#[derive(Debug)]
pub enum Lost {
    /// The connection was closed, here or there.
    Closed,
    /// It broke.
    Broken(io::Error),
    /// What came is no reply.
    Garbage(String),
    /// They have not come in time.
    Late,
}

/// Who is told, once, on the driver's thread: it must not be kept waiting.
pub type Told = Box<dyn FnOnce(Result<Vec<Said>, Lost>) + Send>;

/// Commands that were sent together, as far as they wait for something.
pub struct Batch {
    /// How many replies there will be.
    pub count: usize,
    /// Until when somebody waits, if the driver is to see to that. These come in the order of their deadlines, but for moments.
    pub deadline: Option<Instant>,
    /// Who waits.
    pub told: Told,
}

/// The way to the driver, and past it.
pub struct Wire {
    ways: Mutex<Ways>,
    /// True if something is left to the driver.
    left: AtomicBool,
    driver: AtomicWaker,
}

#[derive(Default)]
struct Ways {
    /// `None` once it has ended.
    writer: Option<Writer>,
    unwritten: BytesMut,
    /// Batches that the driver has not seen yet.
    asked: VecDeque<Batch>,
    /// True while the driver looks at no clock: then it has to be told of a deadline.
    unwatched: bool,
}

/// As much is written by whoever asks, who has other things to do than to copy more.
const AT_ONCE: usize = 64 * 1024;

impl Wire {
    /// Over these, and what has to run for it to work.
    pub fn new(reader: Reader, writer: Writer) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let ways = Ways { writer: Some(writer), unwatched: true, ..Ways::default() };
        let wire = Arc::new(Wire { ways: Mutex::new(ways), left: AtomicBool::new(false), driver: AtomicWaker::new() });
        let driver = Driver { wire: End(Arc::clone(&wire)), reader, incoming: Incoming::new() };
        (wire, driver.run())
    }

    /// Sends commands for whoever waits, and gives the batch back if it has ended.
    pub fn send(&self, commands: &[u8], batch: Batch) -> Result<(), Batch> {
        let mut ways = self.ways.lock();
        let ways = &mut *ways;
        let Some(writer) = &mut ways.writer else { return Err(batch) };
        let unwatched = ways.unwatched && batch.deadline.is_some();
        ways.unwatched &= !unwatched;
        // First: the reply may be there before the write returns.
        ways.asked.push_back(batch);
        let mut rest = commands;
        let mut flushed = true;
        if ways.unwritten.is_empty() && commands.len() <= AT_ONCE {
            // The driver is told of what is left, and asks to be woken for it.
            let cx = &mut Context::from_waker(Waker::noop());
            // An error is left to the driver, who meets it again.
            if let Poll::Ready(Ok(written)) = Pin::new(&mut *writer).poll_write(cx, commands) {
                rest = &commands[written..];
            }
            flushed = !rest.is_empty() || Pin::new(&mut *writer).poll_flush(cx).is_ready();
        }
        ways.unwritten.extend_from_slice(rest);
        if !rest.is_empty() || !flushed {
            self.left.store(true, Release);
        }
        if !rest.is_empty() || !flushed || unwatched {
            self.driver.wake();
        }
        Ok(())
    }

    /// Writes what is left. Not for those who ask: it is the driver who is woken when there is room again.
    fn write(&self, cx: &mut Context<'_>) -> Result<(), Lost> {
        if !self.left.swap(false, AcqRel) {
            return Ok(());
        }
        let mut ways = self.ways.lock();
        let ways = &mut *ways;
        let Some(writer) = &mut ways.writer else { return Err(Lost::Closed) };
        let mut pending = false;
        while !ways.unwritten.is_empty() && !pending {
            match Pin::new(&mut *writer).poll_write(cx, &ways.unwritten) {
                Poll::Ready(Ok(0)) => return Err(Lost::Closed),
                Poll::Ready(Ok(written)) => ways.unwritten.advance(written),
                Poll::Ready(Err(error)) => return Err(Lost::Broken(error)),
                Poll::Pending => pending = true,
            }
        }
        match Pin::new(&mut *writer).poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Err(Lost::Broken(error)),
            Poll::Pending => pending = true,
        }
        if pending {
            self.left.store(true, Release);
        }
        Ok(())
    }
}

/// Ends the wire with its driver, however that ends: who waits then is told.
struct End(Arc<Wire>);

impl Drop for End {
    fn drop(&mut self) {
        let (writer, asked) = {
            let mut ways = self.0.ways.lock();
            (ways.writer.take(), std::mem::take(&mut ways.asked))
        };
        drop(writer);
        asked.into_iter().for_each(|batch| (batch.told)(Err(Lost::Closed)));
    }
}

struct Driver {
    wire: End,
    reader: Reader,
    incoming: Incoming,
}

impl Driver {
    async fn run(mut self) {
        let mut tick = pin!(sleep(Duration::ZERO));
        let lost = poll_fn(|cx| self.poll(cx, tick.as_mut())).await;
        // The one whose turn it is hears why; those behind it may not even have been sent.
        if let Some(told) = self.incoming.first(&self.wire.0) {
            told(Err(lost));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, tick: Pin<&mut Sleep>) -> Poll<Lost> {
        let wire = &self.wire.0;
        wire.driver.register(cx.waker());
        if let Err(lost) = wire.write(cx) {
            return Poll::Ready(lost);
        }
        loop {
            match self.incoming.read(&mut self.reader, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(lost)) => return Poll::Ready(lost),
                Poll::Pending => break,
            }
            if let Err(Garbage(what)) = self.incoming.tell(wire) {
                return Poll::Ready(Lost::Garbage(what));
            }
        }
        self.incoming.watch(wire, cx, tick);
        Poll::Pending
    }
}

/// What has come, and who waits for it.
struct Incoming {
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
    fn new() -> Self {
        let (buffer, found, list, waiting, said) = Default::default();
        Incoming { buffer, room: ROOM, needs: 1, found, inside: 0, list, waiting, said }
    }

    /// Takes in what there is.
    fn read(&mut self, reader: &mut Reader, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let missing = self.needs.saturating_sub(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < missing.max(self.room / 4) {
            self.buffer.reserve(missing.max(self.room));
        }
        let mut into = ReadBuf::uninit(self.buffer.spare_capacity_mut());
        let room = into.remaining();
        let polled = Pin::new(reader).poll_read(cx, &mut into);
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
    fn tell(&mut self, wire: &Wire) -> Result<(), Garbage> {
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
        for part in std::mem::take(&mut self.found) {
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
    fn learn(&mut self, wire: &Wire) {
        let asked = wire.ways.lock().asked.drain(..).collect::<Vec<_>>();
        let waiting = |Batch { count, deadline, told }| Waiting { count, deadline, told: Some(told) };
        self.waiting.extend(asked.into_iter().map(waiting));
    }

    /// Who waits for the next reply.
    fn first(&mut self, wire: &Wire) -> Option<Told> {
        self.learn(wire);
        self.waiting.front_mut()?.told.take()
    }

    /// Tells those who have waited for too long. The clock is looked at no more often than deadlines are ahead, and not at all while
    /// nobody waits: who asks between two looks has a deadline after the second.
    fn watch(&mut self, wire: &Wire, cx: &mut Context<'_>, mut tick: Pin<&mut Sleep>) {
        while tick.as_mut().poll(cx).is_ready() {
            self.learn(wire);
            if let Some(next) = self.tell_late(Instant::now()) {
                tick.as_mut().reset(next);
                continue;
            }
            let mut ways = wire.ways.lock();
            if ways.asked.is_empty() {
                ways.unwatched = true;
                return;
            }
        }
    }

    /// The next deadline of those who still wait.
    fn tell_late(&mut self, now: Instant) -> Option<Instant> {
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

#[cfg(test)]
mod tests {
    use super::super::stream::halves;
    use super::*;
    use crate::core::clock::Clock;
    use redis::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    type Outcome = oneshot::Receiver<Result<Vec<Said>, Lost>>;

    /// A wire, its driver, and the server's end.
    fn wire() -> (Arc<Wire>, JoinHandle<()>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = ours.into_split();
        let (reader, writer) = halves(reader, writer, Clock::system(), Default::default());
        let (wire, driver) = Wire::new(reader, writer);
        (wire, tokio::spawn(driver), theirs)
    }

    fn ask(wire: &Wire, commands: &[u8], count: usize, deadline: Option<Instant>) -> Outcome {
        let (told, outcome) = oneshot::channel();
        let told = Box::new(move |said| _ = told.send(said));
        assert!(wire.send(commands, Batch { count, deadline, told }).is_ok(), "it has ended");
        outcome
    }

    fn words(said: Result<Vec<Said>, Lost>) -> Vec<Vec<u8>> {
        let word = |said: Said| match said {
            Said::Bytes(bytes) => bytes.to_vec(),
            other => format!("{:?}", other.into_value()).into_bytes(),
        };
        said.unwrap().into_iter().map(word).collect()
    }

    #[tokio::test]
    async fn replies_go_to_who_asked_however_they_are_cut() {
        let (wire, _driver, mut server) = wire();
        let first = ask(&wire, b"one", 2, None);
        let second = ask(&wire, b"two", 1, None);
        let mut asked = [0; 6];
        server.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"onetwo");
        for byte in b"$1\r\na\r\n>1\r\n+news\r\n:7\r\n$0\r\n\r\n" {
            server.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(words(first.await.unwrap()), [&b"a"[..], b"int(7)"]);
        assert_eq!(words(second.await.unwrap()), [b""]);
    }

    #[tokio::test]
    async fn lists_are_put_together_however_they_are_cut() {
        let (wire, _driver, mut server) = wire();
        let asked = ask(&wire, b"one", 4, None);
        let said = b"*4\r\n$1\r\na\r\n>1\r\n+news\r\n*2\r\n:1\r\n$-1\r\n$-1\r\n*0\r\n*0\r\n*-1\r\n:7\r\n";
        for byte in said {
            server.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let said: Vec<Value> = asked.await.unwrap().unwrap().into_iter().map(Said::into_value).collect();
        let inner = Value::Array(vec![Value::Int(1), Value::Nil]);
        let list = Value::Array(vec![Value::BulkString(b"a".into()), inner, Value::Nil, Value::Array(vec![])]);
        assert_eq!(said, [list, Value::Array(vec![]), Value::Nil, Value::Int(7)]);
    }

    #[tokio::test]
    async fn a_list_that_is_cut_off_is_no_answer() {
        let (wire, driver, mut server) = wire();
        let asked = ask(&wire, b"one", 1, None);
        server.write_all(b"*2\r\n$1\r\na\r\n").await.unwrap();
        drop(server);
        driver.await.unwrap();
        assert!(matches!(asked.await.unwrap(), Err(Lost::Closed | Lost::Broken(_))));
    }

    #[tokio::test]
    async fn what_the_system_does_not_take_at_once_is_written_in_order() {
        let (wire, _driver, mut server) = wire();
        let chunk = |n: u8| vec![n; [300_000, 50_000, 50_000][usize::from(n % 3)]];
        let outcomes: Vec<Outcome> = (0..30).map(|n| ask(&wire, &chunk(n), 1, None)).collect();
        for n in 0..30 {
            let mut got = vec![0; chunk(n).len()];
            server.read_exact(&mut got).await.unwrap();
            assert!(got.iter().all(|&byte| byte == n), "{n}");
        }
        let large = vec![b'x'; 1_000_000];
        let replies = async {
            for _ in 0..30 {
                server.write_all(&[b"$1000000\r\n", &large[..], b"\r\n"].concat()).await.unwrap();
            }
        };
        let read = async {
            for outcome in outcomes {
                assert_eq!(words(outcome.await.unwrap()), [&large[..]]);
            }
        };
        tokio::join!(replies, read);
    }

    #[tokio::test]
    async fn who_waits_for_too_long_is_told_and_what_comes_later_is_nobody_elses() {
        let (wire, _driver, mut server) = wire();
        let late = ask(&wire, b"one", 2, Some(Instant::now()));
        let patient = ask(&wire, b"two", 1, None);
        assert!(matches!(late.await.unwrap(), Err(Lost::Late)));
        let again = ask(&wire, b"three", 1, Some(Instant::now()));
        assert!(matches!(again.await.unwrap(), Err(Lost::Late)));
        server.write_all(b"+late\r\n+late\r\n+patient\r\n").await.unwrap();
        assert_eq!(words(patient.await.unwrap()), [b"simple-string(\"patient\")"]);
    }

    #[tokio::test]
    async fn all_who_wait_are_told_when_it_ends() {
        let (wire, driver, server) = wire();
        let (first, second) = (ask(&wire, b"one", 1, None), ask(&wire, b"two", 1, None));
        driver.abort();
        assert!(driver.await.unwrap_err().is_cancelled());
        assert!(matches!(first.await.unwrap(), Err(Lost::Closed)));
        assert!(matches!(second.await.unwrap(), Err(Lost::Closed)));
        let told: Told = Box::new(|_| {});
        assert!(wire.send(b"three", Batch { count: 1, deadline: None, told }).is_err());
        drop(server);
    }

    #[tokio::test]
    async fn what_is_no_reply_ends_it() {
        for said in [&b"HTTP/1.1 400\r\n"[..], b"+OK\r\n+one too many\r\n"] {
            let (wire, driver, mut server) = wire();
            let asked = ask(&wire, b"one", if said.starts_with(b"+") { 1 } else { 2 }, None);
            server.write_all(said).await.unwrap();
            driver.await.unwrap();
            assert_eq!(said.starts_with(b"+"), asked.await.unwrap().is_ok());
        }
    }
}
