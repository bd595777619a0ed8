//! A connection as bytes: TCP, TLS or a UNIX socket, and when something was heard of the other end.

use super::node::Settings;
use super::socket::{Plain, at_once};
use super::tls;
use super::url::Address;
use crate::core::clock::{Clock, Millis};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, split};
use tokio::net::{TcpStream, UnixStream};

/// When something last arrived, and how it ended.
#[derive(Debug, Default)]
pub struct Heard {
    at: AtomicU64,
    end: Mutex<Option<Ended>>,
}

/// What ended a connection: whoever waited for an answer there is told no more than that it was closed.
#[derive(Clone, Debug)]
pub struct Ended {
    pub what: String,
    pub cure: &'static str,
    pub misconfigured: bool,
}

impl Heard {
    /// True if something has arrived since.
    pub fn since(&self, moment: Millis) -> bool {
        self.at.load(Relaxed) > moment
    }

    /// How it ended, if that was not just closed.
    pub fn end(&self) -> Option<Ended> {
        self.end.lock().clone()
    }

    fn note_end<T>(&self, polled: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = polled {
            let misconfigured = tls::cure(error).is_some();
            *self.end.lock() = Some(Ended { what: error.to_string(), cure: cure(error), misconfigured });
        }
    }
}

/// What comes in.
pub struct Reader {
    from: Way<dyn AsyncRead + Send>,
    clock: Clock,
    heard: [Arc<Heard>; 2],
}

/// What goes out.
pub struct Writer {
    to: Way<dyn AsyncWrite + Send>,
    heard: Arc<Heard>,
}

enum Way<T: ?Sized> {
    Plain(Arc<Plain>),
    Sealed(Pin<Box<T>>),
}

/// Which of the two is this connection's; the other is its server's.
const OWN: usize = 1;

/// After this long without a word, the kernel asks whether the other end is still there.
const IDLE: Duration = Duration::from_secs(30);
/// How often, and how long between: a host that vanished is known of after a minute.
const PROBES: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(10);

/// Connects, and notes for both of these when something arrives.
pub async fn open(address: &Address, settings: &Settings, heard: [Arc<Heard>; 2]) -> io::Result<(Reader, Writer)> {
    let clock = settings.clock.clone();
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await?.into_std()?;
            Ok(halves(stream.into(), clock, heard))
        }
        Address::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(BETWEEN).with_retries(PROBES);
            SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
            let Some(tls) = &settings.tls else { return Ok(halves(stream.into_std()?.into(), clock, heard)) };
            let (reader, writer) = split(tls.connector.connect(tls.name(host)?, stream).await?);
            Ok(both(Way::Sealed(Box::pin(reader)), Way::Sealed(Box::pin(writer)), clock, heard))
        }
    }
}

/// Both directions of a plain socket that is connected already, and does not block.
pub fn halves(socket: OwnedFd, clock: Clock, heard: [Arc<Heard>; 2]) -> (Reader, Writer) {
    let socket = Arc::new(Plain::new(socket));
    both(Way::Plain(Arc::clone(&socket)), Way::Plain(socket), clock, heard)
}

fn both(
    from: Way<dyn AsyncRead + Send>,
    to: Way<dyn AsyncWrite + Send>,
    clock: Clock,
    heard: [Arc<Heard>; 2],
) -> (Reader, Writer) {
    let writer = Writer { to, heard: Arc::clone(&heard[OWN]) };
    (Reader { from, clock, heard }, writer)
}

/// What to do about a server that ends a connection before it has said anything.
pub const HUNG_UP: &str =
    "see the server's log for why it hung up: it may have no room for more clients (maxclients), or want rediss://";

/// What to do about a connection that was not to be had.
pub fn cure(error: &io::Error) -> &'static str {
    if let Some(cure) = tls::cure(error) {
        return cure;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "start the server, or correct host and port",
        io::ErrorKind::NotFound => "start the server, or correct the path of its socket",
        io::ErrorKind::PermissionDenied => "let this user read and write the socket (unixsocketperm)",
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => HUNG_UP,
        _ => "correct the host, or mend the network between",
    }
}

impl Reader {
    /// Lends what can be watched in the runtime's place: from now on who has it says when to read. `None`: it has to be watched here.
    pub fn lend(&self) -> Option<OwnedFd> {
        if let Way::Plain(socket) = &self.from { socket.lend().ok() } else { None }
    }

    /// Reads what there is of what was lent; pending if nothing is.
    pub fn read_lent(&self, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Way::Plain(socket) = &self.from else { return Poll::Pending };
        let before = buffer.filled().len();
        let read = at_once(socket.read_now(buffer));
        self.note(&read, buffer.filled().len() > before);
        read
    }

    fn note(&self, read: &Poll<io::Result<()>>, something: bool) {
        if something {
            let now = self.clock.now();
            self.heard.iter().for_each(|heard| heard.at.store(now, Relaxed));
        }
        self.heard[OWN].note_end(read);
    }
}

impl Writer {
    /// Writes what is taken at once; pending if nothing is. Nobody is woken when there is room again.
    pub fn write_now(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.to {
            Way::Plain(socket) => at_once(socket.write_now(bytes)),
            Way::Sealed(sealed) => sealed.as_mut().poll_write(&mut Context::from_waker(Waker::noop()), bytes),
        };
        self.heard.note_end(&written);
        written
    }

    /// Ends the connection in both directions, where that needs nobody's consent.
    pub fn end(&self) {
        if let Way::Plain(socket) = &self.to {
            socket.end();
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match &mut self.from {
            Way::Plain(socket) => socket.poll_read(cx, buffer),
            Way::Sealed(sealed) => sealed.as_mut().poll_read(cx, buffer),
        };
        self.note(&read, buffer.filled().len() > before);
        read
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.to {
            Way::Plain(socket) => socket.poll_write(cx, bytes),
            Way::Sealed(sealed) => sealed.as_mut().poll_write(cx, bytes),
        };
        self.heard.note_end(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.to {
            Way::Plain(_) => Poll::Ready(Ok(())),
            Way::Sealed(sealed) => sealed.as_mut().poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.to {
            Way::Plain(socket) => {
                socket.end();
                Poll::Ready(Ok(()))
            }
            Way::Sealed(sealed) => sealed.as_mut().poll_shutdown(cx),
        }
    }
}
