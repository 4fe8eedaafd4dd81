//! `zookeeper.connect`: the servers of an ensemble and the node that everything lies below.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::tree::path;

/// Where a server listens that is named without a port.
const DEFAULT_PORT: u16 = 2181;

/// `host:port,host:port/chroot`, as Kafka and ZooKeeper's own tools take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectString {
    /// `host:port` of each server; an IPv6 address is in brackets.
    servers: Vec<String>,
    /// The node that is the tree's root; `/` where none is given.
    chroot: String,
}

/// Why a text is no [`ConnectString`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text:?} is no list of ZooKeeper servers (host:port,host:port/chroot): {reason}")]
pub struct BadConnectString {
    /// As given.
    text: String,
    /// What is wrong with it.
    reason: String,
}

impl ConnectString {
    /// The servers, as `host:port`.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// The node that is the tree's root.
    pub fn chroot(&self) -> &str {
        &self.chroot
    }
}

impl FromStr for ConnectString {
    type Err = BadConnectString;

    fn from_str(text: &str) -> Result<ConnectString, BadConnectString> {
        let bad = |reason: String| BadConnectString { text: text.to_owned(), reason };
        let (list, chroot) = match text.find('/') {
            Some(slash) => text.split_at(slash),
            None => (text, "/"),
        };
        path::check(chroot.trim_end()).map_err(|error| bad(error.to_string()))?;
        let servers: Result<Vec<String>, String> = list.split(',').map(server).collect();
        let servers = servers.map_err(bad)?;
        Ok(ConnectString { servers, chroot: chroot.trim_end().to_owned() })
    }
}

impl fmt::Display for ConnectString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.servers.join(","))?;
        if self.chroot == "/" { Ok(()) } else { f.write_str(&self.chroot) }
    }
}

fn server(text: &str) -> Result<String, String> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("a bracket is not closed")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| format!("{host:?} is no address"))?;
            (format!("[{host}]"), after)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        }
    };
    if host.is_empty() {
        return Err("a server has no name".to_owned());
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => DEFAULT_PORT,
        None => return Err(format!("{port:?} follows an address")),
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("{digits:?} is no port"))?,
    };
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConnectString, BadConnectString> {
        text.parse()
    }

    #[test]
    fn servers_and_chroot() {
        let parsed = parse("a:1,b, [::1]:3/x/y").unwrap();
        assert_eq!(parsed.servers(), ["a:1", "b:2181", "[::1]:3"]);
        assert_eq!(parsed.chroot(), "/x/y");
        assert_eq!(parsed.to_string(), "a:1,b:2181,[::1]:3/x/y");
    }

    #[test]
    fn no_chroot_is_the_root() {
        for text in ["a:1", "a:1/"] {
            assert_eq!(parse(text).unwrap().chroot(), "/", "{text}");
            assert_eq!(parse(text).unwrap().to_string(), "a:1");
        }
    }

    #[test]
    fn what_is_no_list_of_servers_is_refused() {
        for text in [
            "", "a:1,", ",a:1", "a:0", "a:65536", "a:b", ":1", "/x", "a:1/x/", "a:1//x", "[::1",
            "[x]:1", "[::1]x",
        ] {
            let refused = parse(text).unwrap_err().to_string();
            assert!(refused.contains("host:port"), "{text:?}: {refused}");
        }
    }
}
