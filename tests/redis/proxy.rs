//! A bad network: a TCP proxy that delays, swallows and cuts, as it is told.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to bytes from now on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weather {
    Fine,
    /// Each piece of an answer comes later.
    Slow(Duration),
    /// Nothing arrives, in either direction.
    BlackHole,
    /// Requests arrive, answers do not.
    OneWay,
    /// The connection ends in the middle of the next answer, after so many bytes of it; then it is fine.
    Cut(usize),
}

pub struct Proxy {
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Before the server at this port.
    pub async fn new(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, _) = watch::channel(Weather::Fine);
        let mut tasks = JoinSet::new();
        let sender = weather.clone();
        tasks.spawn(async move {
            let mut pipes = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let sender = sender.clone();
                pipes.spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                        pass(client, server, &sender).await;
                    }
                });
            }
        });
        Proxy { address, weather, _tasks: tasks }
    }

    pub fn turns(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

async fn pass(client: TcpStream, server: TcpStream, weather: &watch::Sender<Weather>) {
    client.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(count @ 1..) = from_client.read(&mut buffer).await else { return };
            if *weather.borrow() != Weather::BlackHole && to_server.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(count @ 1..) = from_server.read(&mut buffer).await else { return };
            let now = *weather.borrow();
            match now {
                Weather::BlackHole | Weather::OneWay => continue,
                Weather::Cut(after) => {
                    let _ = to_client.write_all(&buffer[..after.min(count)]).await;
                    weather.send_replace(Weather::Fine);
                    return;
                }
                Weather::Slow(by) => tokio::time::sleep(by).await,
                Weather::Fine => {}
            }
            if to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = there => {}, () = back => {} }
}
