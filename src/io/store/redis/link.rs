//! One connection: opened, greeted, and used by any number of callers at once. It lives until it is dropped or lost.

use super::node::Settings;
use super::resp::Said;
use super::stream::{self, HUNG_UP, Heard};
use super::trouble;
use super::url::Address;
use super::wire::{Batch, Lost, Wire};
use crate::error::{StoreError, StoreFailure};
use crate::io::store::loan::Borrower;
use redis::{Pipeline, Value, pipe};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// See the module.
pub struct Link {
    wire: Arc<Wire>,
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
        let opened = stream::open(address, settings, [node, Arc::clone(&heard)]).await;
        let (reader, writer) = opened.map_err(|error| trouble::no_connection(&name, &error))?;
        let (wire, driver) = Wire::new(reader, writer);
        let link = Link { wire, driver: tokio::spawn(driver), heard };
        link.greet(&name, settings).await?;
        Ok(link)
    }

    async fn greet(&self, name: &str, settings: &Settings) -> Result<(), StoreError> {
        let greeting = greeting(settings, settings.resp3);
        let replies = self.ask(&greeting).await.map_err(|error| match self.heard.end() {
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

    /// Sends these for whoever waits, and gives that back if it is lost already. `by`: a loop that may read the replies itself.
    pub fn send(&self, commands: &[u8], batch: Batch, by: Option<&Arc<Borrower>>) -> Result<(), Batch> {
        self.wire.send(commands, batch, by)
    }

    /// Sends so many commands together, and gives their replies, errors among them.
    pub async fn exchange(&self, commands: &[u8], count: usize) -> Result<Vec<Said>, Lost> {
        let (told, said) = oneshot::channel();
        let told = Box::new(move |said| _ = told.send(said));
        match self.send(commands, Batch { count, deadline: None, told }, None) {
            Ok(()) => said.await.unwrap_or(Err(Lost::Closed)),
            Err(_) => Err(Lost::Closed),
        }
    }

    /// The same, for what is seldom asked.
    pub async fn ask(&self, commands: &Pipeline) -> Result<Vec<Value>, Lost> {
        let said = self.exchange(&commands.get_packed_pipeline(), commands.len()).await?;
        Ok(said.into_iter().map(Said::into_value).collect())
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
fn first(name: &str, lost: &Lost) -> StoreError {
    let error = trouble::lost(name, lost);
    let kind = if matches!(lost, Lost::Garbage(_)) { StoreFailure::Misconfigured } else { error.kind };
    let cure = if matches!(lost, Lost::Closed) { HUNG_UP.to_owned() } else { error.cure };
    StoreError { kind, undone: true, cure, ..error }
}

/// What is said first on a connection.
pub fn greeting(settings: &Settings, resp3: bool) -> Pipeline {
    let mut all = pipe();
    let password = settings.password.as_deref();
    if resp3 {
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
