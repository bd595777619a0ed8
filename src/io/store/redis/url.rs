//! Where a Redis is, as users write it. Errors name what is wrong and never show a password.
//!
//! ```text
//! redis://[[user]:password@]host[:port][/database][?option=value]      rediss://… with TLS
//! unix:///path/to/socket[?db=1]
//! redis+cluster://host:port,host:port                                  rediss+cluster://…
//! redis+sentinel://host:port,host:port/service[/database]              rediss+sentinel://…
//! ```
//! Options: `db`, `protocol` (2 or 3), `client_name`. What is reserved in a URL is percent-encoded in users, passwords and paths.

use crate::error::{Error, Result};
use std::fmt;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// By host and port.
    Tcp(String, u16),
    /// By the path of a socket.
    Unix(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => f.write_str(path),
        }
    }
}

/// What stands behind the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One server.
    Single,
    /// A cluster; the addresses are some of its nodes.
    Cluster,
    /// Sentinels that watch this service.
    Sentinel(String),
}

/// A URL's parts.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// One server, a cluster, or sentinels.
    pub layout: Layout,
    /// One or more.
    pub addresses: Vec<Address>,
    /// True for TLS.
    pub tls: bool,
    /// The ACL user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The database number.
    pub database: u32,
    /// True for RESP3.
    pub resp3: bool,
    /// What connections call themselves.
    pub client_name: Option<String>,
}

const FORMS: &str = "give redis://host:6379/0, rediss:// for TLS, unix:///path/to/socket, redis+cluster://host:port,host:port or \
                     redis+sentinel://host:port,host:port/service";

/// Understands a URL.
///
/// # Errors
///
/// A configuration error that says what is wrong with it.
pub fn parse(text: &str) -> Result<Url> {
    let wrong = |cure: &str| Error::config("redis url", hidden(text), cure.to_owned());
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong(FORMS))?;
    let (tls, layout) = match scheme {
        "redis" => (false, Layout::Single),
        "rediss" => (true, Layout::Single),
        "unix" | "redis+unix" => return unix(rest, &wrong),
        "redis+cluster" => (false, Layout::Cluster),
        "rediss+cluster" => (true, Layout::Cluster),
        "redis+sentinel" => (false, Layout::Sentinel(String::new())),
        "rediss+sentinel" => (true, Layout::Sentinel(String::new())),
        _ => return Err(wrong(FORMS)),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    let port = if layout == Layout::Sentinel(String::new()) { 26379 } else { 6379 };
    let addresses =
        hosts.split(',').map(|host| address(host, port).ok_or_else(|| wrong(HOST))).collect::<Result<_>>()?;
    let mut url = Url { layout, addresses, tls, ..plain(user, &wrong)? };
    let mut path = path.trim_end_matches('/').split('/');
    if let Layout::Sentinel(service) = &mut url.layout {
        let name = path.next().filter(|name| !name.is_empty());
        let name =
            name.ok_or_else(|| wrong("name the service behind the hosts, as sentinel's `monitor` does: .../mymaster"))?;
        *service = decoded(name).ok_or_else(|| wrong(ENCODED))?;
    }
    if let Some(number) = path.next().filter(|number| !number.is_empty()) {
        url.database = number.parse().map_err(|_| wrong(DATABASE))?;
    }
    if path.next().is_some() {
        return Err(wrong(FORMS));
    }
    options(query, &mut url, &wrong)?;
    match (&url.layout, url.addresses.len(), url.database) {
        (Layout::Single, 2.., _) => Err(wrong("name one host, or say redis+cluster:// or redis+sentinel://")),
        (Layout::Cluster, _, 1..) => Err(wrong("leave the database number out: a cluster has database 0 alone")),
        _ => Ok(url),
    }
}

const HOST: &str = "give each host as name, name:port or [ipv6]:port, the port a number from 1 to 65535";
const DATABASE: &str = "give the database as a number, such as /0";
const ENCODED: &str = "write % as %25, and each % otherwise followed by two hexadecimal digits";

type Wrong<'a> = &'a dyn Fn(&str) -> Error;

fn unix(rest: &str, wrong: Wrong<'_>) -> Result<Url> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, path) = rest.rsplit_once('@').map_or((None, rest), |(user, path)| (Some(user), path));
    let path = decoded(path).ok_or_else(|| wrong(ENCODED))?;
    if !path.starts_with('/') || path.len() < 2 {
        return Err(wrong("give the absolute path of the socket behind unix://, such as unix:///run/redis.sock"));
    }
    let mut url = Url { addresses: vec![Address::Unix(path)], ..plain(user, wrong)? };
    options(query, &mut url, wrong)?;
    Ok(url)
}

/// A URL that says nothing but who asks.
fn plain(user: Option<&str>, wrong: Wrong<'_>) -> Result<Url> {
    let (name, password) = match user {
        None => (None, None),
        Some(user) => user.split_once(':').map_or((Some(user), None), |(name, password)| (Some(name), Some(password))),
    };
    let text = |text: &str| decoded(text).ok_or_else(|| wrong(ENCODED));
    Ok(Url {
        layout: Layout::Single,
        addresses: Vec::new(),
        tls: false,
        username: name.filter(|name| !name.is_empty()).map(text).transpose()?,
        password: password.filter(|password| !password.is_empty()).map(text).transpose()?,
        database: 0,
        resp3: true,
        client_name: None,
    })
}

fn address(host: &str, port: u16) -> Option<Address> {
    let (name, number) = match host.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .map(|(name, rest)| (name, rest.strip_prefix(':').or(Some("").filter(|_| rest.is_empty()))))?,
        None => host
            .split_once(':')
            .map_or((host, Some("")), |(name, number)| (name, Some(number).filter(|n| !n.is_empty()))),
    };
    let port = match number? {
        "" => port,
        number => number.parse().ok().filter(|&port| port > 0)?,
    };
    let fits = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "/?#@%".contains(c));
    fits.then(|| Address::Tcp(name.to_owned(), port))
}

fn options(query: &str, url: &mut Url, wrong: Wrong<'_>) -> Result<()> {
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match (name, value) {
            ("db", number) => url.database = number.parse().map_err(|_| wrong("give db as a number, such as ?db=0"))?,
            ("protocol", "3" | "resp3") => url.resp3 = true,
            ("protocol", "2" | "resp2") => url.resp3 = false,
            ("protocol", _) => return Err(wrong("give protocol=2 or protocol=3")),
            ("client_name", name) if fits_as_name(name) => url.client_name = Some(name.to_owned()),
            ("client_name", _) => return Err(wrong(NAME)),
            _ => {
                return Err(wrong("behind ? only db, protocol and client_name are known; other options are arguments"));
            }
        }
    }
    Ok(())
}

/// Why a client name is none.
pub const NAME: &str = "give client_name as printable ASCII without blanks";

/// True if a server takes this as the name of a client.
pub fn fits_as_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let [high, low, tail @ ..] = rest else { return None };
            let digit = |digit: u8| char::from(digit).to_digit(16);
            bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The URL with `***` for a password.
fn hidden(text: &str) -> String {
    let begins = text.find("://").map_or(0, |at| at + 3);
    let Some(ends) = text.rfind('@').filter(|&at| at >= begins) else { return text.to_owned() };
    let name = text[begins..ends].split(':').next().unwrap_or_default();
    format!("{}{name}:***{}", &text[..begins], &text[ends..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.into(), port)
    }

    #[test]
    fn all_forms_are_understood() {
        let url = parse("rediss://al%40ice:s%3Ae%2Fcret@cache.example:7000/3?protocol=2&client_name=web-1").unwrap();
        assert_eq!((url.tls, &url.layout, url.addresses), (true, &Layout::Single, vec![tcp("cache.example", 7000)]));
        assert_eq!((url.username.as_deref(), url.password.as_deref()), (Some("al@ice"), Some("s:e/cret")));
        assert_eq!((url.database, url.resp3, url.client_name.as_deref()), (3, false, Some("web-1")));
        let url = parse("redis://:pw@[::1]").unwrap();
        assert_eq!((url.addresses, url.username, url.password), (vec![tcp("::1", 6379)], None, Some("pw".into())));
        let url = parse("unix:///run/a%20b.sock?db=2").unwrap();
        assert_eq!((url.addresses, url.database), (vec![Address::Unix("/run/a b.sock".into())], 2));
        let url = parse("redis+cluster://a:1,b,[::1]:3").unwrap();
        assert_eq!((url.layout, url.addresses), (Layout::Cluster, vec![tcp("a", 1), tcp("b", 6379), tcp("::1", 3)]));
        let url = parse("redis+sentinel://a,b:5/my%20one/4").unwrap();
        assert_eq!((url.layout, url.database), (Layout::Sentinel("my one".into()), 4));
        assert_eq!(url.addresses, [tcp("a", 26379), tcp("b", 5)]);
    }

    #[test]
    fn what_is_wrong_is_said_and_a_password_is_not() {
        for (text, cure) in [
            ("localhost:6379", "give redis://"),
            ("http://localhost", "give redis://"),
            ("redis://", "give each host"),
            ("redis://host:0", "give each host"),
            ("redis://host:port", "give each host"),
            ("redis://host:99999", "give each host"),
            ("redis://[::1", "give each host"),
            ("redis://a b", "give each host"),
            ("redis://a,b", "name one host"),
            ("redis://host/x", "give the database as a number"),
            ("redis://host/1/2", "give redis://"),
            ("redis://host?timeout=3", "only db, protocol"),
            ("redis://host?protocol=4", "protocol=2"),
            ("redis://host?client_name=", "printable ASCII"),
            ("redis+cluster://a,b/1", "leave the database number out"),
            ("redis+sentinel://a,b", "name the service"),
            ("unix://relative", "absolute path"),
            ("redis://u:%zz@host", "write % as %25"),
        ] {
            let error = parse(text).err().unwrap_or_else(|| panic!("{text} is taken")).to_string();
            assert!(error.contains(cure), "{text}: {error}");
        }
        let error = parse("redis://me:hunter2@host:x").err().unwrap().to_string();
        assert!(error.contains("redis://me:***@host:x") && !error.contains("hunter2"), "{error}");
    }
}
