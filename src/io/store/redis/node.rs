//! One server: a few connections that all callers share, and whether it is worth asking.
//!
//! A connection is opened when it is first needed, behind whoever needs it. The last is for large values, so that small ones need
//! not wait for them to pass. A server that nothing was heard from for as long as a call may take is given up: what is under way
//! there ends at once, later calls are told so without waiting, and somebody knocks behind until it answers again. So a frozen
//! server costs one time-out, not one a call. A slow one, that answers others, is not given up.

use super::link::Link;
use super::resp::Said;
use super::stream::Heard;
use super::tls::Opener;
use super::trouble;
use super::url::Address;
use super::wire::Lost;
use crate::core::clock::{Clock, Millis, later};
use crate::core::resilience::{Breaker, BreakerConfig, BreakerState, Outcome, Permit};
use crate::error::{StoreError, StoreFailure};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use redis::{Pipeline, Value};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// What all servers of a store have in common.
pub struct Settings {
    pub clock: Clock,
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub username: Option<String>,
    pub password: Option<String>,
    pub client_name: Option<String>,
    pub database: u32,
    pub resp3: bool,
    pub tls: Option<Opener>,
    /// Connections to one server, the one for large values included.
    pub connections: usize,
    pub connects: AtomicU64,
    pub outages: AtomicU64,
}

/// How long a server is left alone before somebody knocks again, at first and at most.
const KNOCK_EVERY: Duration = Duration::from_millis(100);
const KNOCK_AT_LEAST_EVERY: Duration = Duration::from_millis(400);
/// The same while it is there and will not let us in.
const MISCONFIGURED_EVERY: Duration = Duration::from_secs(5);
/// A knock without an answer by then does not keep another from being tried.
const KNOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// Between two knocks, at most.
fn knock_at_least_every(last: Option<&StoreError>) -> Duration {
    let misconfigured = last.is_some_and(|last| last.kind == StoreFailure::Misconfigured);
    if misconfigured { MISCONFIGURED_EVERY } else { KNOCK_AT_LEAST_EVERY }
}

/// How long it is known that a server is away, from when that was tried last: until somebody must have knocked again, and not in vain. Shorter
/// than the bound of coherence, which begins when it is back.
fn known_for(last: &StoreError) -> Duration {
    2 * knock_at_least_every(Some(last)) + 3 * KNOCK_TIMEOUT
}

/// Any failure opens it: what is reported as one says that nothing at all is heard.
fn breaker() -> Breaker {
    let config = BreakerConfig {
        failure_rate: f64::MIN_POSITIVE,
        minimum_calls: 1,
        open_for: KNOCK_EVERY / 2,
        probe_timeout: KNOCK_TIMEOUT,
        ..BreakerConfig::default()
    };
    Breaker::new(config).expect("these can be")
}

/// Which of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    Small,
    Large,
}

type Opening = watch::Receiver<Option<Result<Arc<Link>, StoreError>>>;

/// On what something was sent, and when.
pub struct Sent {
    at: usize,
    since: Millis,
    pub link: Arc<Link>,
}

enum Connection {
    Down,
    Opening(Opening, AbortHandle),
    Up(Arc<Link>),
}

impl Connection {
    /// Takes it out, and ends it: who waits for an answer there is told at once.
    fn end(&mut self) {
        match std::mem::replace(self, Connection::Down) {
            Connection::Up(link) => link.cut(),
            Connection::Opening(_, task) => task.abort(),
            Connection::Down => {}
        }
    }

    /// The link, if it is open.
    fn link(&self) -> Option<&Arc<Link>> {
        if let Connection::Up(link) = self { Some(link).filter(|link| link.is_open()) } else { None }
    }
}

struct Health {
    breaker: Breaker,
    /// Why it was given up.
    last: Option<StoreError>,
    /// When that was begun of which nothing came last: then it was away.
    tried: Millis,
    /// When somebody began to knock last.
    knocked: Millis,
    /// Who knocks.
    knocking: Option<AbortHandle>,
    closed: bool,
}

/// Told when a server is in trouble, and each time a knock fails.
pub type Alarm = Arc<dyn Fn() + Send + Sync>;

/// See the module.
pub struct Node {
    me: Weak<Node>,
    pub address: Address,
    pub name: String,
    settings: Arc<Settings>,
    connections: Vec<Mutex<Connection>>,
    turn: AtomicUsize,
    heard: Arc<Heard>,
    health: Mutex<Health>,
    alarm: Alarm,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.close();
    }
}

impl Node {
    pub fn new(address: Address, settings: &Arc<Settings>, alarm: Alarm) -> Arc<Self> {
        let health = Health { breaker: breaker(), last: None, tried: 0, knocked: 0, knocking: None, closed: false };
        Arc::new_cyclic(|me| Node {
            me: me.clone(),
            name: address.to_string(),
            address,
            settings: Arc::clone(settings),
            connections: (0..settings.connections).map(|_| Mutex::new(Connection::Down)).collect(),
            turn: AtomicUsize::new(0),
            heard: Arc::default(),
            health: Mutex::new(health),
            alarm,
        })
    }

    /// Sends so many commands together and gives their replies, errors among them.
    pub async fn send(
        &self,
        lane: Lane,
        commands: &[u8],
        count: usize,
        deadline: Instant,
    ) -> Result<Vec<Said>, StoreError> {
        self.admit()?;
        let (since, at) = (self.settings.clock.now(), self.place(lane));
        let link = match timeout_at(deadline, self.link(at)).await {
            Ok(link) => link?,
            Err(_) => {
                let error = trouble::timed_out(&self.name, self.settings.timeout, false);
                return Err(self.silent(since, error));
            }
        };
        let said = timeout_at(deadline, link.exchange(commands, count)).await.unwrap_or(Err(Lost::Late));
        self.came_of(&Sent { at, since, link }, said)
    }

    /// The same, for what is seldom asked.
    pub async fn ask(&self, lane: Lane, commands: &Pipeline, deadline: Instant) -> Result<Vec<Value>, StoreError> {
        let said = self.send(lane, &commands.get_packed_pipeline(), commands.len(), deadline).await?;
        Ok(said.into_iter().map(Said::into_value).collect())
    }

    /// What something can be sent on at once, if there is such a connection.
    pub fn at_once(&self, lane: Lane) -> Option<Sent> {
        self.admit().ok()?;
        let at = self.place(lane);
        let link = Arc::clone(self.connections[at].lock().link()?);
        Some(Sent { at, since: self.settings.clock.now(), link })
    }

    /// What the replies to something come to, or their absence.
    pub fn came_of(&self, sent: &Sent, said: Result<Vec<Said>, Lost>) -> Result<Vec<Said>, StoreError> {
        said.map_err(|lost| match lost {
            Lost::Late => {
                if !sent.link.heard().since(sent.since) {
                    self.forget(sent.at, &sent.link);
                }
                self.silent(sent.since, trouble::timed_out(&self.name, self.settings.timeout, true))
            }
            lost => {
                self.forget(sent.at, &sent.link);
                trouble::lost(&self.name, &lost)
            }
        })
    }

    /// False while it is not worth asking.
    pub fn is_admitting(&self) -> bool {
        self.admit().is_ok()
    }

    fn admit(&self) -> Result<(), StoreError> {
        let now = self.settings.clock.now();
        let mut health = self.health.lock();
        if health.closed {
            return Err(trouble::closed(&self.name));
        }
        let tried = health.tried;
        // Who asks does not pay for finding out whether it is back, unless nobody has tried for long: this process may have stood still.
        match (health.breaker.state(now), &health.last) {
            (BreakerState::Open | BreakerState::HalfOpen, Some(last)) if now < later(tried, known_for(last)) => {
                Err(trouble::known(last))
            }
            _ => Ok(()),
        }
    }

    fn place(&self, lane: Lane) -> usize {
        let large = self.connections.len() - 1;
        match lane {
            Lane::Large => large,
            Lane::Small => self.turn.fetch_add(1, Relaxed) % large.max(1),
        }
    }

    /// The connection at this place, when it is there.
    async fn link(&self, at: usize) -> Result<Arc<Link>, StoreError> {
        loop {
            let mut opening = match self.opening(at)? {
                Ok(link) => return Ok(link),
                Err(opening) => opening,
            };
            // Who opens it may be called off, since the server answers elsewhere: then that is looked at anew.
            if let Ok(opened) = opening.wait_for(Option::is_some).await.map(|opened| opened.clone()) {
                let opened = opened.unwrap_or_else(|| Err(trouble::closed(&self.name)));
                // A server may have no room for one more, and still serve those it has.
                return opened.or_else(|error| self.any().ok_or(error));
            }
        }
    }

    /// The connection at this place, or what tells when it is there; it is being opened from now on.
    fn opening(&self, at: usize) -> Result<Result<Arc<Link>, Opening>, StoreError> {
        let mut connection = self.connections[at].lock();
        match (connection.link(), &*connection) {
            (Some(link), _) => return Ok(Ok(Arc::clone(link))),
            (_, Connection::Opening(opening, _)) => return Ok(Err(opening.clone())),
            _ => {}
        }
        let me = self.me.upgrade().filter(|_| !self.health.lock().closed);
        let me = me.ok_or_else(|| trouble::closed(&self.name))?;
        let (told, opening) = watch::channel(None);
        let task = tokio::spawn(async move {
            let opened = me.open(at).await;
            told.send_replace(Some(opened));
        });
        *connection = Connection::Opening(opening.clone(), task.abort_handle());
        Ok(Err(opening))
    }

    /// Opens the connection at this place, for whoever needs it.
    async fn open(&self, at: usize) -> Result<Arc<Link>, StoreError> {
        let began = self.settings.clock.now();
        let opened = self.connect().await;
        match &opened {
            Ok(link) => {
                self.is_well();
                *self.connections[at].lock() = Connection::Up(Arc::clone(link));
                // It may have been closed meanwhile.
                if self.health.lock().closed {
                    self.connections[at].lock().end();
                }
            }
            Err(error) => {
                *self.connections[at].lock() = Connection::Down;
                if self.any().is_none() {
                    self.give_up(began, error.clone());
                }
            }
        }
        opened
    }

    async fn connect(&self) -> Result<Arc<Link>, StoreError> {
        let limit = self.settings.connect_timeout;
        let link = timeout(limit, Link::open(&self.address, &self.settings, Arc::clone(&self.heard))).await;
        let link = link.unwrap_or_else(|_| Err(trouble::no_greeting(&self.name, &self.settings)))?;
        self.settings.connects.fetch_add(1, Relaxed);
        Ok(Arc::new(link))
    }

    /// A connection that is open.
    fn any(&self) -> Option<Arc<Link>> {
        self.connections.iter().find_map(|connection| connection.lock().link().cloned())
    }

    /// A connection is of no use any more.
    fn forget(&self, at: usize, link: &Arc<Link>) {
        let mut connection = self.connections[at].lock();
        if matches!(&*connection, Connection::Up(there) if Arc::ptr_eq(there, link)) {
            connection.end();
        }
    }

    /// A call had no answer in time. If nobody else has heard anything either, it is given up.
    fn silent(&self, since: Millis, error: StoreError) -> StoreError {
        if !self.heard.since(since) {
            self.give_up(since, error.clone());
        }
        error
    }

    fn give_up(&self, tried: Millis, error: StoreError) {
        let now = self.settings.clock.now();
        {
            let mut health = self.health.lock();
            if health.closed {
                return;
            }
            if health.last.is_none()
                && let Ok(permit) = health.breaker.ask(now)
            {
                health.breaker.report(permit, now, Outcome::Failed, Duration::ZERO);
                self.settings.outages.fetch_add(1, Relaxed);
            }
            health.last = Some(error);
            health.tried = health.tried.max(tried);
            if health.knocking.is_none() {
                health.knocking = Some(tokio::spawn(knock(self.me.clone())).abort_handle());
            }
        }
        // What is under way there ends with its connection.
        for connection in &self.connections {
            let mut connection = connection.lock();
            if matches!(&*connection, Connection::Up(_)) {
                connection.end();
            }
        }
        (self.alarm)();
    }

    fn is_well(&self) {
        let mut health = self.health.lock();
        health.last = None;
        health.breaker.reset();
    }

    /// The right to knock, if it is time to.
    fn may_knock(&self) -> Option<Permit> {
        let (mut health, now) = (self.health.lock(), self.settings.clock.now());
        if now >= later(health.knocked, KNOCK_TIMEOUT) {
            health.tried = health.tried.max(health.knocked);
        }
        let permit = health.breaker.ask(now).ok()?;
        health.knocked = now;
        Some(permit)
    }

    async fn try_knock(self: Arc<Self>, permit: Permit) -> Result<(), StoreError> {
        let began = self.settings.clock.now();
        let opened = self.connect().await;
        let now = self.settings.clock.now();
        match opened {
            Ok(link) => {
                self.is_well();
                for (at, connection) in self.connections.iter().enumerate() {
                    let mut connection = connection.lock();
                    // Others that still hang would hold up who waits for them.
                    if connection.link().is_none() {
                        connection.end();
                        if at == 0 {
                            *connection = Connection::Up(Arc::clone(&link));
                        }
                    }
                }
                Ok(())
            }
            Err(error) => {
                let mut health = self.health.lock();
                health.breaker.report(permit, now, Outcome::Failed, Duration::ZERO);
                health.tried = health.tried.max(began);
                if health.last.is_some() {
                    health.last = Some(error.clone());
                }
                drop(health);
                (self.alarm)();
                Err(error)
            }
        }
    }

    /// Gives back its connections, for good.
    pub fn close(&self) {
        let knocking = {
            let mut health = self.health.lock();
            health.closed = true;
            health.knocking.take()
        };
        knocking.into_iter().for_each(|task| task.abort());
        self.connections.iter().for_each(|connection| connection.lock().end());
    }

    /// True when there is nobody to knock for any more; then nobody does.
    fn needs_no_knocking(&self) -> bool {
        let mut health = self.health.lock();
        let over = health.closed || health.last.is_none();
        if over {
            health.knocking = None;
        }
        over
    }

    fn pause(&self, failed: u32) -> Duration {
        let most = knock_at_least_every(self.health.lock().last.as_ref());
        let pause = KNOCK_EVERY.saturating_mul(1 << failed.min(8)).min(most);
        // Not all processes at once.
        pause.mul_f64(0.75 + super::draw() / 4.0)
    }
}

/// Tries a server that was given up until it answers. A try that hangs does not hold up the next.
async fn knock(node: Weak<Node>) {
    let (mut tries, mut failed) = (FuturesUnordered::new(), 0);
    loop {
        let pause = match node.upgrade() {
            Some(node) if !node.needs_no_knocking() => node.pause(failed),
            _ => return,
        };
        tokio::select! {
            () = sleep(pause) => {
                let Some(node) = node.upgrade() else { return };
                if let Some(permit) = node.may_knock() {
                    tries.push(node.try_knock(permit));
                }
            }
            Some(tried) = tries.next(), if !tries.is_empty() => failed += u32::from(tried.is_err()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn settings(clock: &Clock) -> Arc<Settings> {
        Arc::new(Settings {
            clock: clock.clone(),
            timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(1),
            username: None,
            password: None,
            client_name: None,
            database: 0,
            resp3: false,
            tls: None,
            connections: 2,
            connects: AtomicU64::new(0),
            outages: AtomicU64::new(0),
        })
    }

    /// A server at which nobody listens, found out just now.
    async fn given_up(clock: &Clock) -> Arc<Node> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let node = Node::new(Address::Tcp("127.0.0.1".into(), port), &settings(clock), Arc::new(|| {}));
        let asked = node.ask(Lane::Small, redis::pipe().cmd("PING"), Instant::now() + Duration::from_secs(9)).await;
        assert_eq!(asked.unwrap_err().kind, StoreFailure::Unreachable);
        node
    }

    #[tokio::test]
    async fn that_a_server_is_away_is_known_until_somebody_must_have_knocked_again() {
        let clock = Clock::system();
        clock.freeze();
        let node = given_up(&clock).await;
        assert!(!node.is_admitting());
        clock.advance(Duration::from_millis(1699));
        assert!(!node.is_admitting());
        // Nobody has run meanwhile: that it is away still nobody knows.
        clock.advance(Duration::from_millis(1));
        assert!(node.is_admitting());
    }

    #[tokio::test]
    async fn a_knock_that_is_not_answered_says_so_of_when_it_began() {
        let clock = Clock::system();
        clock.freeze();
        let node = given_up(&clock).await;
        clock.advance(Duration::from_secs(3));
        assert!(node.may_knock().is_some());
        assert!(node.is_admitting(), "nobody knows yet what comes of it");
        clock.advance(KNOCK_TIMEOUT);
        assert!(node.may_knock().is_none(), "not at once");
        assert!(!node.is_admitting());
        clock.advance(Duration::from_millis(1400));
        assert!(node.is_admitting());
    }

    #[tokio::test]
    async fn who_asks_when_nobody_knows_tries_and_then_it_is_known_again() {
        let clock = Clock::system();
        clock.freeze();
        let node = given_up(&clock).await;
        clock.advance(Duration::from_secs(3));
        let asked = node.ask(Lane::Small, redis::pipe().cmd("PING"), Instant::now() + Duration::from_secs(9)).await;
        assert_eq!(asked.unwrap_err().kind, StoreFailure::Unreachable);
        assert!(!node.is_admitting());
    }
}
