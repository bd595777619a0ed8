//! One connection: opened, greeted, and used by any number of callers at once. It lives until it is dropped or lost.

use super::node::Settings;
use super::stream::{HUNG_UP, Heard, Stream};
use super::trouble;
use super::url::Address;
use crate::error::{StoreError, StoreFailure};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo, RedisResult, Value, pipe};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// See the module.
pub struct Link {
    connection: MultiplexedConnection,
    /// Moves bytes between the connection and its callers; ends when it is lost.
    driver: JoinHandle<()>,
    heard: Arc<Heard>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Link {
    /// Connects and says who we are. How long that may take is for the caller to say.
    pub async fn open(address: &Address, settings: &Settings, node: Arc<Heard>) -> Result<Link, StoreError> {
        let name = address.to_string();
        let heard = Arc::new(Heard::default());
        let stream = Stream::open(address, settings, [node, Arc::clone(&heard)]).await;
        let stream = stream.map_err(|error| trouble::no_connection(&name, &error))?;
        // Time limits are kept above, where they bound the whole of a call. Nothing is said before our own greeting.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = made.map_err(|error| first(&name, &error))?;
        let link = Link { connection, driver: tokio::spawn(driver), heard };
        link.greet(&name, settings).await?;
        Ok(link)
    }

    async fn greet(&self, name: &str, settings: &Settings) -> Result<(), StoreError> {
        let greeting = greeting(settings);
        let replies = self.send(&greeting, greeting.len()).await.map_err(|error| match self.heard.end() {
            Some(end) => trouble::ended(name, &end),
            None => first(name, &error),
        })?;
        for reply in replies {
            if let Value::ServerError(error) = reply {
                return Err(trouble::not_let_in(name, &error));
            }
        }
        Ok(())
    }

    /// Sends these together, and gives their replies, errors among them.
    pub async fn send(&self, commands: &Pipeline, count: usize) -> RedisResult<Vec<Value>> {
        self.connection.clone().send_packed_commands(commands, 0, count).await
    }

    /// Ends it, whoever uses it: all who wait for an answer are told.
    pub fn cut(&self) {
        self.driver.abort();
    }

    /// False once it is known to be lost.
    pub fn is_open(&self) -> bool {
        !self.driver.is_finished()
    }

    /// When something was heard on it.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }
}

/// A failure before anything was asked.
fn first(name: &str, error: &redis::RedisError) -> StoreError {
    let lost = trouble::lost(name, error);
    let garbage = lost.what.contains("no Redis would");
    let kind = if garbage { StoreFailure::Misconfigured } else { lost.kind };
    let cure = if error.is_connection_dropped() { HUNG_UP.to_owned() } else { lost.cure };
    StoreError { kind, undone: true, cure, ..lost }
}

fn greeting(settings: &Settings) -> Pipeline {
    let mut all = pipe();
    let password = settings.password.as_deref();
    if settings.resp3 {
        let hello = all.cmd("HELLO").arg(3);
        if let Some(password) = password {
            hello.arg("AUTH").arg(settings.username.as_deref().unwrap_or("default")).arg(password);
        }
    } else if let Some(password) = password {
        let auth = all.cmd("AUTH");
        settings.username.iter().for_each(|name| _ = auth.arg(name));
        auth.arg(password);
    }
    if let Some(name) = &settings.client_name {
        all.cmd("CLIENT").arg("SETNAME").arg(name);
    }
    if settings.database > 0 {
        all.cmd("SELECT").arg(settings.database);
    }
    all.cmd("PING");
    all
}
