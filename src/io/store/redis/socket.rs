//! A plain socket, watched by the runtime or by somebody else: by both, each byte that comes would wake both.

use parking_lot::Mutex;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::io::unix::AsyncFd;

/// See the module. Never blocks.
pub struct Plain {
    /// While the runtime watches it. Gone before the socket is.
    watched: Mutex<Option<AsyncFd<RawFd>>>,
    socket: OwnedFd,
}

/// Where there is no such flag, Rust's sockets are made so.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

impl Plain {
    /// Over what is connected and does not block; nobody watches it yet.
    pub fn new(socket: OwnedFd) -> Self {
        Plain { watched: Mutex::default(), socket }
    }

    /// The runtime watches it no more. Gives what somebody else may watch in its place.
    pub fn lend(&self) -> io::Result<OwnedFd> {
        let lent = self.socket.try_clone()?;
        let before = self.watched.lock().take();
        drop(before);
        Ok(lent)
    }

    /// Ends it in both directions, and wakes whoever watches it.
    pub fn end(&self) {
        // One that was lost has ended.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// Reads what there is; nothing at the end, and an error if it may yet come.
    pub fn read_now(&self, into: &mut ReadBuf<'_>) -> io::Result<()> {
        // SAFETY: the system only writes there.
        let room = unsafe { into.unfilled_mut() };
        let (_, read) = recv(&self.socket, room, RecvFlags::empty())?;
        // SAFETY: the system has written so many bytes there.
        unsafe { into.assume_init(read) };
        into.advance(read);
        Ok(())
    }

    /// Writes what the system takes; an error if it takes nothing.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.socket, bytes, NO_SIGNAL)?)
    }

    /// The same, for whom the runtime wakes when there is more.
    pub fn poll_read(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        self.watch(|fd, anew| {
            loop {
                if anew && let read @ Poll::Ready(_) = at_once(self.read_now(into)) {
                    return read;
                }
                let mut ready = ready!(fd.poll_read_ready(cx))?;
                let Ok(read) = ready.try_io(|_| self.read_now(into)) else { continue };
                if into.remaining() > 0 && into.filled().len() > before {
                    // That was all: what comes now is news.
                    ready.clear_ready();
                }
                return Poll::Ready(read);
            }
        })
    }

    /// The same, for whom the runtime wakes when there is room.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.watch(|fd, _| {
            loop {
                let mut ready = ready!(fd.poll_write_ready(cx))?;
                if let Ok(written) = ready.try_io(|_| self.write_now(bytes)) {
                    return Poll::Ready(written);
                }
            }
        })
    }

    /// Has the runtime watch it from now on, and says if it did not before: then it knows nothing yet of what is there.
    fn watch<T>(&self, poll: impl FnOnce(&AsyncFd<RawFd>, bool) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let mut watched = self.watched.lock();
        if let Some(fd) = &*watched {
            return poll(fd, false);
        }
        // SAFETY: the descriptor is the socket's, which is open until this is gone.
        let fd = unsafe { AsyncFd::register(self.socket.as_raw_fd()) }?;
        poll(watched.insert(fd), true)
    }
}

/// What has been done without waiting; pending if that could not be.
pub fn at_once<T>(done: io::Result<T>) -> Poll<io::Result<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        done => Poll::Ready(done),
    }
}
