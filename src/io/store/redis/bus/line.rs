//! One connection to hear on: commands out, and in what the server says, in the order of the socket. Values do not pass here.

use super::super::node::Settings;
use super::super::resp::{self, Look, Reply};
use super::super::stream::{self, Heard, Reader, Writer};
use super::super::trouble;
use super::super::url::Address;
use super::super::wire::Lost;
use crate::error::StoreError;
use bytes::BytesMut;
use redis::Value;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// What came.
#[derive(Debug)]
pub enum Came {
    /// An answer to a command, or something that the server says by itself.
    Said(Value),
    /// Nothing any more.
    End(StoreError),
}

/// What is kept of what has not come as a whole yet.
const MOST: usize = 256 * 1024 * 1024;
const ROOM: usize = 16 * 1024;

/// See the module. It is lost when this is dropped.
pub struct Line {
    out: UnboundedSender<Vec<u8>>,
    task: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Both ends of what was opened.
pub type Ends = (Reader, Writer);

/// Connects, and says nothing yet.
pub async fn open(address: &Address, settings: &Settings) -> Result<Ends, StoreError> {
    let name = address.to_string();
    let heard: [Arc<Heard>; 2] = Default::default();
    match timeout(settings.connect_timeout, stream::open(address, settings, heard)).await {
        Ok(Ok(ends)) => Ok(ends),
        Ok(Err(error)) => Err(trouble::no_connection(&name, &error)),
        Err(_) => Err(trouble::no_greeting(&name, settings)),
    }
}

impl Line {
    /// Tells what comes on it, one by one, from a task of its own.
    pub fn start(ends: Ends, name: String, hear: impl Fn(Came) + Send + Sync + 'static) -> Line {
        let (out, commands) = unbounded_channel();
        let task = tokio::spawn(async move {
            let lost = run(ends, commands, &hear).await;
            hear(Came::End(trouble::lost(&name, &lost)));
        });
        Line { out, task: task.abort_handle() }
    }

    /// Sends commands.
    pub fn say(&self, commands: Vec<u8>) {
        // One that is lost tells so itself.
        let _ = self.out.send(commands);
    }
}

async fn run((mut reader, mut writer): Ends, mut commands: UnboundedReceiver<Vec<u8>>, hear: &impl Fn(Came)) -> Lost {
    let (mut buffer, mut needs) = (BytesMut::with_capacity(ROOM), 1);
    loop {
        tokio::select! {
            said = commands.recv() => {
                let Some(said) = said else { return Lost::Closed };
                let written = async {
                    writer.write_all(&said).await?;
                    writer.flush().await
                };
                if let Err(error) = written.await {
                    return Lost::Broken(error);
                }
            }
            read = reader.read_buf(&mut buffer) => {
                match read {
                    Ok(0) => return Lost::Closed,
                    Ok(_) => {}
                    Err(error) => return Lost::Broken(error),
                }
                if buffer.len() >= needs {
                    match tell(&mut buffer, hear) {
                        Ok(more) if more <= MOST => needs = more,
                        Ok(_) => return Lost::Garbage("more than anybody would tell us".into()),
                        Err(resp::Garbage(what)) => return Lost::Garbage(what),
                    }
                }
            }
        }
    }
}

/// Tells what is there as a whole, and how many bytes there have to be for more.
fn tell(buffer: &mut BytesMut, hear: &impl Fn(Came)) -> Result<usize, resp::Garbage> {
    loop {
        match resp::look(buffer, 0)? {
            Look::Needs(needs) => return Ok(needs),
            Look::Whole(reply) => {
                let whole = buffer.split_to(reply.end());
                hear(Came::Said(match reply {
                    Reply::Bytes(range) => Value::BulkString(whole[range].to_vec()),
                    Reply::Other(range) | Reply::Push(range) => resp::parse(&whole[range])?,
                }));
            }
        }
    }
}
