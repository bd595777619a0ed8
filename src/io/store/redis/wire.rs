//! Commands out and replies in, on one connection, for any number of callers at once.
//!
//! Whoever asks writes, so that no other thread has to be woken for that; what the system does not take at once is left to the
//! driver. The driver reads: one look at what has come tells all whose replies are complete. While one event loop or blocked
//! thread alone asks, that may read in the driver's place, as a [`Borrower`]; what it does not get to in time the driver reads after all.
//! Replies come in the order of the commands, so what is written and who waits for it are noted under one lock. Who has waited for too
//! long is told so, and what comes for them later is dropped.

use super::incoming::Incoming;
use super::resp::{Garbage, Said};
use super::stream::{Reader, Writer};
use crate::io::store::loan::{Borrower, Lender};
use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
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

/// Who is told, once, by whoever reads: it must not be kept waiting.
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
    /// Before `ways`, if both.
    reading: Mutex<Reading>,
    runtime: Handle,
}

#[derive(Default)]
struct Ways {
    /// `None` once it has ended.
    writer: Option<Writer>,
    unwritten: BytesMut,
    /// Batches that whoever reads has not seen yet.
    asked: VecDeque<Batch>,
    /// True while the driver looks at no clock: then it has to be told of a deadline.
    unwatched: bool,
    lending: Lending,
}

/// Who asks, and who reads.
#[derive(Default)]
struct Lending {
    /// Who asked last, if one who can borrow.
    by: Option<Arc<Borrower>>,
    /// How often in a row they have.
    row: u32,
    /// The number of the loan by which they read; `None` if the driver does.
    lent: Option<u64>,
    loans: u64,
}

/// What comes in.
struct Reading {
    /// `None` once it has ended.
    reader: Option<Reader>,
    incoming: Incoming,
    /// What a borrower has met that the driver has to see to.
    lost: Option<Lost>,
}

/// As much is written by whoever asks, who has other things to do than to copy more.
const AT_ONCE: usize = 64 * 1024;
/// After so many batches in a row of one borrower that may read what comes: to lend costs as much as a few of them.
const ROW: u32 = 32;

impl Lending {
    /// Notes who asks. True if the driver has to read again.
    fn note(&mut self, by: Option<&Arc<Borrower>>) -> bool {
        if matches!((&self.by, by), (Some(before), Some(by)) if Arc::ptr_eq(before, by)) {
            self.row = self.row.saturating_add(1);
            return false;
        }
        (self.by, self.row) = (by.cloned(), 0);
        self.lent.take().is_some()
    }

    /// Whom to offer the reading: once in a while, should it not be taken.
    fn offer(&self) -> Option<Arc<Borrower>> {
        self.by.clone().filter(|_| self.lent.is_none() && self.row % ROW == ROW - 1)
    }
}

impl Wire {
    /// Over these, and what has to run for it to work.
    pub fn new(reader: Reader, writer: Writer) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let ways = Ways { writer: Some(writer), unwatched: true, ..Ways::default() };
        let reading = Reading { reader: Some(reader), incoming: Incoming::new(), lost: None };
        let wire = Arc::new(Wire {
            ways: Mutex::new(ways),
            left: AtomicBool::new(false),
            driver: AtomicWaker::new(),
            reading: Mutex::new(reading),
            runtime: Handle::current(),
        });
        let driver = drive(End(Arc::clone(&wire)));
        (wire, driver)
    }

    /// Sends commands for whoever waits, and gives the batch back if it has ended. `by`: who will be told, if it can borrow.
    pub fn send(self: &Arc<Self>, commands: &[u8], batch: Batch, by: Option<&Arc<Borrower>>) -> Result<(), Batch> {
        let mut ways = self.ways.lock();
        let offer = {
            let ways = &mut *ways;
            let Some(writer) = &mut ways.writer else { return Err(batch) };
            let unwatched = ways.unwatched && batch.deadline.is_some();
            ways.unwatched &= !unwatched;
            let mut wake = ways.lending.note(by) || unwatched;
            // First: the reply may be there before the write returns.
            ways.asked.push_back(batch);
            let mut rest = commands;
            let mut flushed = true;
            if ways.unwritten.is_empty() && commands.len() <= AT_ONCE {
                // An error is left to the driver, who meets it again.
                if let Poll::Ready(Ok(written)) = writer.write_now(commands) {
                    rest = &commands[written..];
                }
                // The driver is told of what is left, and asks to be woken for it.
                let cx = &mut Context::from_waker(Waker::noop());
                flushed = !rest.is_empty() || Pin::new(&mut *writer).poll_flush(cx).is_ready();
            }
            ways.unwritten.extend_from_slice(rest);
            if !rest.is_empty() || !flushed {
                self.left.store(true, Release);
                // Who waits for room may as well wait for replies.
                ways.lending.lent = None;
                wake = true;
            }
            if wake {
                self.driver.wake();
            }
            ways.lending.offer()
        };
        drop(ways);
        offer.into_iter().for_each(|borrower| borrower.offer(Arc::clone(self) as _));
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

    /// Takes over who has asked since this was called last.
    pub fn asked(&self) -> VecDeque<Batch> {
        std::mem::take(&mut self.ways.lock().asked)
    }

    /// What was lent is the driver's again. False if nothing was.
    fn end_loan(&self) -> bool {
        self.ways.lock().lending.lent.take().is_some()
    }

    /// Does what there is for the driver to do; ready when the connection is lost.
    fn drive(&self, cx: &mut Context<'_>, mut tick: Pin<&mut Sleep>) -> Poll<Lost> {
        self.driver.register(cx.waker());
        if let Err(lost) = self.write(cx) {
            return Poll::Ready(lost);
        }
        loop {
            let mut reading = self.reading.lock();
            if let Some(lost) = reading.lost.take() {
                return Poll::Ready(lost);
            }
            let lent = self.ways.lock().lending.lent.is_some();
            if !lent && let Poll::Ready(lost) = reading.read(self, cx) {
                return Poll::Ready(lost);
            }
            if !self.watch(&mut reading.incoming, cx, tick.as_mut()) {
                return Poll::Pending;
            }
        }
    }

    /// Tells those who have waited for too long. The clock is looked at no more often than deadlines are ahead, and not at all while
    /// nobody waits: who asks between two looks has a deadline after the second. True if what has come is to be read first.
    fn watch(&self, incoming: &mut Incoming, cx: &mut Context<'_>, mut tick: Pin<&mut Sleep>) -> bool {
        while tick.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            incoming.learn(self);
            if incoming.is_late(now) && self.end_loan() {
                return true;
            }
            if let Some(next) = incoming.tell_late(now) {
                tick.as_mut().reset(next);
                continue;
            }
            let mut ways = self.ways.lock();
            if ways.asked.is_empty() {
                ways.unwatched = true;
                return false;
            }
        }
        false
    }
}

impl Lender for Wire {
    fn lend(&self, to: &Arc<Borrower>) -> Option<(OwnedFd, u64)> {
        let reading = self.reading.lock();
        let mut ways = self.ways.lock();
        let is_alone = ways.lending.by.as_ref().is_some_and(|by| Arc::ptr_eq(by, to));
        if ways.writer.is_none() || !ways.unwritten.is_empty() || !is_alone {
            return None;
        }
        let fd = reading.reader.as_ref()?.lend()?;
        ways.lending.loans += 1;
        ways.lending.lent = Some(ways.lending.loans);
        Some((fd, ways.lending.loans))
    }

    fn read(&self, number: u64) -> bool {
        // Who is told may have to ask again, or elsewhere.
        let _within = self.runtime.enter();
        let mut reading = self.reading.lock();
        if self.ways.lock().lending.lent != Some(number) {
            return false;
        }
        let lost = match reading.read_lent(self) {
            Poll::Pending | Poll::Ready(Ok(())) => return true,
            Poll::Ready(Err(lost)) => lost,
        };
        reading.lost = Some(lost);
        drop(reading);
        self.take_back(number);
        false
    }

    fn take_back(&self, number: u64) {
        let ended = self.ways.lock().lending.lent.take_if(|lent| *lent == number);
        if ended.is_some() {
            self.driver.wake();
        }
    }
}

impl Reading {
    /// What is there now, for the borrower that watches it: that comes again if that was not all.
    fn read_lent(&mut self, wire: &Wire) -> Poll<Result<(), Lost>> {
        let Some(reader) = &self.reader else { return Poll::Ready(Err(Lost::Closed)) };
        std::task::ready!(self.incoming.read(|into| reader.read_lent(into)))?;
        Poll::Ready(self.incoming.tell(wire).map_err(|Garbage(what)| Lost::Garbage(what)))
    }

    /// All that is there, for the driver, who is woken when there is more.
    fn read(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Poll<Lost> {
        loop {
            let Some(reader) = &mut self.reader else { return Poll::Ready(Lost::Closed) };
            if let Err(lost) = std::task::ready!(self.incoming.read(|into| Pin::new(reader).poll_read(cx, into))) {
                return Poll::Ready(lost);
            }
            if let Err(Garbage(what)) = self.incoming.tell(wire) {
                return Poll::Ready(Lost::Garbage(what));
            }
        }
    }
}

/// Ends the wire with its driver, however that ends: who waits then is told.
struct End(Arc<Wire>);

impl Drop for End {
    fn drop(&mut self) {
        let (reader, incoming) = {
            let mut reading = self.0.reading.lock();
            (reading.reader.take(), std::mem::replace(&mut reading.incoming, Incoming::new()))
        };
        let (writer, asked) = {
            let mut ways = self.0.ways.lock();
            ways.lending = Lending::default();
            (ways.writer.take(), std::mem::take(&mut ways.asked))
        };
        writer.iter().for_each(Writer::end);
        drop((reader, writer, incoming));
        asked.into_iter().for_each(|batch| (batch.told)(Err(Lost::Closed)));
    }
}

/// Reads and writes what nobody else does, until the connection is lost.
async fn drive(end: End) {
    let (wire, mut tick) = (&end.0, pin!(sleep(Duration::ZERO)));
    let lost = poll_fn(|cx| wire.drive(cx, tick.as_mut())).await;
    // The one whose turn it is hears why; those behind it may not even have been sent.
    let first = wire.reading.lock().incoming.first(wire);
    if let Some(told) = first {
        told(Err(lost));
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::halves;
    use super::*;
    use crate::core::clock::Clock;
    use crate::io::store::loan::Loan;
    use redis::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    type Outcome = oneshot::Receiver<Result<Vec<Said>, Lost>>;

    /// A wire, its driver, and the server's end.
    fn wire() -> (Arc<Wire>, JoinHandle<()>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = halves(ours.into_std().unwrap().into(), Clock::system(), Default::default());
        let (wire, driver) = Wire::new(reader, writer);
        (wire, tokio::spawn(driver), theirs)
    }

    fn ask(wire: &Arc<Wire>, commands: &[u8], count: usize, deadline: Option<Instant>) -> Outcome {
        ask_as(None, wire, commands, count, deadline)
    }

    fn ask_as(
        who: Option<&Arc<Borrower>>,
        wire: &Arc<Wire>,
        commands: &[u8],
        count: usize,
        deadline: Option<Instant>,
    ) -> Outcome {
        let (told, outcome) = oneshot::channel();
        let told = Box::new(move |said| _ = told.send(said));
        assert!(wire.send(commands, Batch { count, deadline, told }, who).is_ok(), "it has ended");
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
        assert!(wire.send(b"three", Batch { count: 1, deadline: None, told }, None).is_err());
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

    /// A loop that has the reading of a wire, and the server's end of that.
    async fn lent() -> (Arc<Borrower>, Loan, Arc<Wire>, JoinHandle<()>, UnixStream) {
        let (wire, driver, mut server) = wire();
        let borrower = Arc::<Borrower>::default();
        for _ in 0..ROW {
            assert!(borrower.accept().is_empty());
            let asked = ask_as(Some(&borrower), &wire, b"?", 1, None);
            server.write_all(b":1\r\n").await.unwrap();
            assert!(asked.await.unwrap().is_ok());
        }
        let mut loans = borrower.accept();
        server.read_exact(&mut [0; ROW as usize]).await.unwrap();
        assert_eq!(loans.len(), 1, "it is alone");
        (borrower, loans.remove(0), wire, driver, server)
    }

    /// Whatever the driver would do by now, it has done.
    async fn others_have_run() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    #[tokio::test]
    async fn a_loop_that_alone_asks_reads_by_itself() {
        let (borrower, loan, wire, _driver, mut server) = lent().await;
        let mut asked = ask_as(Some(&borrower), &wire, b"?", 1, None);
        server.write_all(b"$1").await.unwrap();
        assert!(loan.read());
        server.write_all(b"\r\na\r\n").await.unwrap();
        others_have_run().await;
        assert!(asked.try_recv().is_err(), "the driver has read");
        assert!(loan.read());
        assert_eq!(words(asked.try_recv().unwrap()), [b"a"]);
        assert!(loan.read(), "there is nothing, and that ends nothing");
    }

    #[tokio::test]
    async fn the_driver_reads_again_when_another_asks() {
        let (borrower, loan, wire, _driver, mut server) = lent().await;
        let own = ask_as(Some(&borrower), &wire, b"?", 1, None);
        let others = ask(&wire, b"?", 1, None);
        server.write_all(b":1\r\n:2\r\n").await.unwrap();
        assert_eq!(words(own.await.unwrap()), [b"int(1)"]);
        assert_eq!(words(others.await.unwrap()), [b"int(2)"]);
        assert!(!loan.read());
        for _ in 0..ROW {
            let asked = ask_as(Some(&Arc::default()), &wire, b"?", 1, None);
            server.write_all(b":3\r\n").await.unwrap();
            assert!(asked.await.unwrap().is_ok());
        }
        assert!(borrower.accept().is_empty(), "it was never alone since");
    }

    #[tokio::test]
    async fn what_a_loop_does_not_read_in_time_the_driver_does() {
        let (borrower, loan, wire, _driver, mut server) = lent().await;
        let soon = Instant::now() + Duration::from_millis(20);
        let asked = ask_as(Some(&borrower), &wire, b"?", 1, Some(soon));
        let never = ask_as(Some(&borrower), &wire, b"?", 1, Some(soon));
        server.write_all(b"+there\r\n").await.unwrap();
        assert_eq!(words(asked.await.unwrap()), [b"simple-string(\"there\")"]);
        assert!(matches!(never.await.unwrap(), Err(Lost::Late)));
        // It is alone still, so it is lent the reading again; that loan is another.
        for _ in 0..ROW {
            drop(ask_as(Some(&borrower), &wire, b"?", 1, None));
        }
        let next = borrower.accept().remove(0);
        assert!(!loan.read());
        drop(loan);
        assert!(next.read());
    }

    #[tokio::test]
    async fn a_loan_that_is_dropped_is_given_back() {
        let (borrower, loan, wire, _driver, mut server) = lent().await;
        let asked = ask_as(Some(&borrower), &wire, b"?", 1, None);
        drop(loan);
        server.write_all(b":1\r\n").await.unwrap();
        assert!(asked.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn whoever_reads_the_end_all_who_wait_are_told_and_the_connection_is_given_back() {
        for said in [&b""[..], b"HTTP/1.1 400\r\n"] {
            let (borrower, loan, wire, driver, mut server) = lent().await;
            let asked = ask_as(Some(&borrower), &wire, b"?", 1, None);
            server.read_exact(&mut [0]).await.unwrap();
            server.write_all(said).await.unwrap();
            if said.is_empty() {
                server.shutdown().await.unwrap();
            }
            others_have_run().await;
            assert!(!loan.read());
            driver.await.unwrap();
            let lost = asked.await.unwrap().unwrap_err();
            assert!(matches!(lost, Lost::Closed | Lost::Garbage(_)), "{lost:?}");
            assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0);
            assert!(!loan.read());
        }
    }

    #[tokio::test]
    async fn a_wire_that_ends_wakes_the_loop_that_reads_there() {
        let (_borrower, loan, _wire, driver, mut server) = lent().await;
        driver.abort();
        assert!(driver.await.unwrap_err().is_cancelled());
        assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0, "it is ended though the loop has its descriptor");
        assert_eq!(rustix::io::read(&loan, &mut [0]).unwrap(), 0);
        assert!(!loan.read());
    }

    #[tokio::test]
    async fn what_the_system_does_not_take_ends_a_loan() {
        let (borrower, loan, wire, _driver, mut server) = lent().await;
        let asked = ask_as(Some(&borrower), &wire, &vec![b'x'; 5_000_000], 1, None);
        assert!(!loan.read());
        server.read_exact(&mut vec![0; 5_000_000]).await.unwrap();
        server.write_all(b":1\r\n").await.unwrap();
        assert!(asked.await.unwrap().is_ok());
    }
}
