//! Real servers on free ports of this machine, gone with the test that started them.
//!
//! Where there is no `redis-server` a test is skipped, and says so; under CI that is a failure.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

static SKIPPED: AtomicUsize = AtomicUsize::new(0);
static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// False if a test cannot be run here, which counts; `servers!()` is how a test begins.
pub fn are_there() -> bool {
    let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        let count = SKIPPED.fetch_add(1, Relaxed) + 1;
        let text = "no redis-server here: apt-get install redis-server, or run `make test` as root";
        assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{text}");
        // Past the harness, which keeps what tests that pass have printed.
        let _ = writeln!(std::io::stderr(), "{text}; {count} tests skipped");
    }
    found
}

/// Begins a test that needs servers.
macro_rules! servers {
    () => {
        if !$crate::server::are_there() {
            return;
        }
    };
}

pub(crate) use servers;

/// A port nobody listens on now.
pub fn free_port() -> u16 {
    // The bus of a cluster is 10000 above.
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// A folder that goes with its owner.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let name = format!("samovar-test-{}-{}", std::process::id(), FOLDERS.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn join(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server. It dies with this value, and with the process that holds it, however that ends.
pub struct Server {
    pub port: u16,
    pub folder: Folder,
    arguments: Vec<String>,
    guard: Option<Child>,
    pid: u32,
    tls: bool,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for something that comes soon by itself.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Server {
    /// A server with these options, that answers.
    pub fn start(options: &[&str]) -> Self {
        let port = free_port();
        let port_option = port.to_string();
        Self::start_at(port, &[&["--port", &port_option], options].concat(), Folder::new(), false)
    }

    /// A sentinel, by the lines of its configuration.
    pub fn sentinel(lines: &str) -> Self {
        let (port, folder) = (free_port(), Folder::new());
        let file = folder.join("sentinel.conf");
        fs::write(&file, format!("port {port}\nbind 127.0.0.1\n{lines}\n")).unwrap();
        Self::start_at(port, &[&file, "--sentinel"], folder, false)
    }

    /// A server that speaks TLS only, with these certificates.
    pub fn tls(certificates: &Path, options: &[&str]) -> Self {
        let (port, at) = (free_port().to_string(), |name: &str| certificates.join(name).to_str().unwrap().to_owned());
        let (cert, key, ca) = (at("server.pem"), at("server.key"), at("ca.pem"));
        let own = ["--port", "0", "--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key];
        let own = [&own[..], &["--tls-ca-cert-file", &ca], options].concat();
        Self::start_at(port.parse().unwrap(), &own, Folder::new(), true)
    }

    fn start_at(port: u16, own: &[&str], folder: Folder, tls: bool) -> Self {
        let mut arguments: Vec<String> = own.iter().map(|&one| one.to_owned()).collect();
        if !own.contains(&"--sentinel") {
            let dir = folder.0.to_str().unwrap();
            let common = ["--bind", "127.0.0.1", "--save", "", "--dir", dir, "--loglevel", "warning"];
            arguments.extend(common.map(str::to_owned));
        }
        let mut server = Server { port, folder, arguments, guard: None, pid: 0, tls };
        server.run();
        server
    }

    /// Starts it, again if it was killed.
    pub fn run(&mut self) {
        // The shell kills the server when its input ends, which it does with this process.
        let script = r#"exec 2>/dev/null; redis-server "$@" >log 2>&1 & echo $!; cat >/dev/null; kill -9 $!; wait $!"#;
        let mut guard = Command::new("sh");
        guard.arg("-c").arg(script).arg("sh").args(&self.arguments).current_dir(&self.folder.0);
        let mut guard = guard.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.pid = line.trim().parse().unwrap();
        self.guard = Some(guard);
        let port = self.port;
        wait_for("a server", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        if !self.tls {
            wait_for("an answer", || {
                self.try_command(&["PING"]).is_some_and(|answer| answer.contains("PONG") || answer.contains("NOAUTH"))
            });
        }
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).status().unwrap().success());
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A command and its raw answer, on a connection of its own.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|| panic!("no answer to {words:?}"))
    }

    /// True if it answers with this text in it. A server that is made a replica may hang up instead.
    pub fn says(&self, words: &[&str], text: &str) -> bool {
        self.try_command(words).is_some_and(|answer| answer.contains(text))
    }

    /// As [`command`](Self::command), where it may hang up.
    pub fn try_command(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut text = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| text += &format!("${}\r\n{word}\r\n", word.len()));
        stream.write_all(text.as_bytes()).ok()?;
        // The answer is whole when the server hangs up, as it does when we have.
        stream.shutdown(Shutdown::Write).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Publishes these bytes; gives how many have heard them.
    pub fn publish(&self, channel: &str, bytes: &[u8]) -> u64 {
        let mut publishing = Command::new("redis-cli")
            .args(["-p", &self.port.to_string(), "-x", "PUBLISH", channel])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        publishing.stdin.take().unwrap().write_all(bytes).unwrap();
        let answer = publishing.wait_with_output().unwrap().stdout;
        str::from_utf8(&answer).unwrap().trim().parse().unwrap()
    }

    /// Connections of clients, but for the one that asks.
    pub fn connections(&self) -> usize {
        let list = self.command(&["CLIENT", "LIST", "TYPE", "normal"]);
        list.lines().filter(|line| line.contains("addr=") && !line.contains("cmd=client")).count()
    }
}

/// Certificates of an authority of our own: ca.pem, server.pem for localhost and 127.0.0.1, client.pem, and the keys.
pub fn certificates() -> Folder {
    let folder = Folder::new();
    let run = |line: &str| {
        let done = Command::new("openssl").args(line.split(' ')).current_dir(&folder.0).output().unwrap();
        assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
    };
    for ca in ["ca", "other-ca"] {
        run(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={ca} -keyout {ca}.key -out {ca}.pem"
        ));
    }
    fs::write(folder.0.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    for (name, more) in [("server", " -extfile names"), ("client", " -extfile names")] {
        run(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        run(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem{more}"
        ));
    }
    folder
}

/// Three masters with a replica each, ready to be written to.
pub fn cluster() -> Vec<Server> {
    let options =
        ["--cluster-enabled", "yes", "--cluster-node-timeout", "600", "--cluster-replica-validity-factor", "0"];
    let servers: Vec<Server> = (0..6).map(|_| Server::start(&options)).collect();
    for (at, slots) in [["0", "5460"], ["5461", "10922"], ["10923", "16383"]].into_iter().enumerate() {
        servers[at].command(&["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]]);
    }
    for (at, server) in servers.iter().enumerate() {
        server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        servers[0].command(&["CLUSTER", "MEET", "127.0.0.1", &server.port.to_string()]);
    }
    for (master, replica) in (0..3).zip(3..) {
        let id = line_of(&servers[master].command(&["CLUSTER", "MYID"]));
        wait_for("a replica", || servers[replica].command(&["CLUSTER", "REPLICATE", &id]).starts_with("+OK"));
    }
    wait_for("a cluster", || servers.iter().all(is_well));
    wait_for("replicas", || {
        servers[3..].iter().all(|one| one.command(&["INFO", "replication"]).contains("master_link_status:up"))
    });
    servers
}

/// True when a server of a cluster says that all is well, and knows all others.
pub fn is_well(server: &Server) -> bool {
    let info = server.command(&["CLUSTER", "INFO"]);
    info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
}

/// The text of a bulk answer.
pub fn line_of(answer: &str) -> String {
    answer.lines().nth(1).unwrap_or_default().to_owned()
}

/// A master, two replicas and three sentinels that watch it as `one`.
pub struct Watched {
    pub servers: Vec<Server>,
    pub sentinels: Vec<Server>,
}

impl Watched {
    pub fn start() -> Self {
        let master = Server::start(&[]);
        let port = master.port.to_string();
        let mut servers = vec![master];
        servers.extend(
            (0..2).map(|_| Server::start(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"])),
        );
        let lines = format!(
            "sentinel monitor one 127.0.0.1 {port} 2\nsentinel down-after-milliseconds one 400\n\
             sentinel failover-timeout one 2000"
        );
        let sentinels: Vec<_> = (0..3).map(|_| Server::sentinel(&lines)).collect();
        wait_for("sentinels", || {
            sentinels.iter().all(|one| {
                let text = one.command(&["SENTINEL", "MASTER", "one"]);
                text.contains("num-other-sentinels\r\n$1\r\n2") && text.contains("num-slaves\r\n$1\r\n2")
            })
        });
        Watched { servers, sentinels }
    }

    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(Server::host).collect();
        format!("redis+sentinel://{}/one", hosts.join(","))
    }
}
