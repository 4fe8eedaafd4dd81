//! Three machines as network namespaces on two bridges, and the ways between them, which can be cut.
//!
//! ```text
//!  namespace b1                     the test's own namespace
//!   data 10.99.0.1 ───── bridge data ───── 10.99.0.254          clients
//!   tree 10.98.0.1 ───── bridge tree ───── 10.98.0.101 to .103  ZooKeeper's servers
//! ```
//!
//! What brokers say to the ensemble has a network of its own, so that one can be cut off from it and
//! go on talking to clients. Neighbours are set by hand. A way is cut by giving the receiver a hardware
//! address that nobody has: the sender's packets vanish without a word, and those of the other
//! direction still arrive. Only the bridge and the veth of the kernel are needed for that.
//!
//! All of it lies in namespaces that `run` made for this process: it ends with it.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

/// The brokers' ids.
pub(crate) const BROKERS: [i32; 3] = [1, 2, 3];
/// How many servers the ensemble has.
pub(crate) const SERVERS: u8 = 3;

/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:ff:ff";
const CLIENTS: &str = "10.99.0.254/24";
/// The longest that a probe waits to be let through.
const PROBE_S: &str = "0.5";

/// One end of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Broker(i32),
    /// All servers of the ensemble.
    Ensemble,
}

/// What one sends to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) from: Place,
    pub(crate) to: Place,
}

/// Both directions between two.
pub(crate) fn both(one: Place, other: Place) -> [Way; 2] {
    [Way { from: one, to: other }, Way { from: other, to: one }]
}

/// Where a broker is for clients and for other brokers.
pub(crate) fn broker_host(id: i32) -> String {
    format!("10.99.0.{id}")
}

/// Where the ensemble's servers are.
pub(crate) fn server_hosts() -> Vec<IpAddr> {
    (0..SERVERS).map(|server| IpAddr::V4(Ipv4Addr::new(10, 98, 0, 101 + server))).collect()
}

/// A command that runs on a broker's machine, and ends when this process does.
pub(crate) fn on_machine(id: i32) -> Vec<String> {
    let namespace = format!("--net=/run/netns/b{id}");
    ["setpriv", "--pdeathsig", "KILL", "nsenter", &namespace].map(str::to_owned).to_vec()
}

/// Makes the machines and their networks.
pub(crate) fn make() -> io::Result<()> {
    let mut host = String::from("link set lo up\n");
    for (net, mac) in [("data", mac_of_host("data")), ("tree", mac_of_host("tree"))] {
        host += &format!("link add {net} address {mac} type bridge\nlink set {net} up\n");
    }
    host += &format!("addr add {CLIENTS} dev data\n");
    for server in server_hosts() {
        host += &format!("addr add {server}/24 dev tree\n");
    }
    for id in BROKERS {
        host += &format!("netns add b{id}\n");
    }
    for id in BROKERS {
        for net in ["data", "tree"] {
            host += &format!("link add {net}{id} type veth peer name {net} netns b{id}\n");
            host += &format!("link set {net}{id} master {net} up\n");
        }
    }
    ip(None, &host)?;
    for id in BROKERS {
        let mut machine = String::from("link set lo up\n");
        for (net, number) in [("data", 99), ("tree", 98)] {
            let mac = mac_of_broker(net, id);
            machine += &format!("link set {net} address {mac} up\n");
            machine += &format!("addr add 10.{number}.0.{id}/24 dev {net}\n");
        }
        ip(Some(id), &machine)?;
    }
    for one in BROKERS {
        mend(&both(Place::Broker(one), Place::Ensemble))?;
        for other in BROKERS.into_iter().filter(|other| *other != one) {
            mend(&[Way { from: Place::Broker(one), to: Place::Broker(other) }])?;
        }
    }
    Ok(())
}

/// From now on nothing passes.
pub(crate) fn cut(ways: &[Way]) -> io::Result<()> {
    ways.iter().try_for_each(|way| set(*way, true))
}

/// Everything passes again.
pub(crate) fn mend(ways: &[Way]) -> io::Result<()> {
    ways.iter().try_for_each(|way| set(*way, false))
}

/// Whether a connection can be made: it takes both directions.
pub(crate) fn reaches(from: i32, to: SocketAddr) -> io::Result<bool> {
    let connect = format!("</dev/tcp/{}/{}", to.ip(), to.port());
    let words = on_machine(from);
    let status = Command::new(&words[0])
        .args(&words[1..])
        .args(["timeout", PROBE_S, "bash", "-c", &connect])
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

fn set(way: Way, is_cut: bool) -> io::Result<()> {
    let (machine, net, receivers) = match (way.from, way.to) {
        (Place::Broker(from), Place::Broker(to)) => {
            (Some(from), "data", vec![(broker_host(to), mac_of_broker("data", to))])
        }
        (Place::Broker(from), Place::Ensemble) => {
            let servers = server_hosts().into_iter();
            (Some(from), "tree", servers.map(|ip| (ip.to_string(), mac_of_host("tree"))).collect())
        }
        (Place::Ensemble, Place::Broker(to)) => {
            (None, "tree", vec![(format!("10.98.0.{to}"), mac_of_broker("tree", to))])
        }
        (Place::Ensemble, Place::Ensemble) => unreachable!("servers talk over loopback"),
    };
    let mut lines = String::new();
    for (address, mac) in receivers {
        let mac = if is_cut { NOBODY.to_owned() } else { mac };
        lines += &format!("neigh replace {address} lladdr {mac} dev {net} nud permanent\n");
    }
    ip(machine, &lines)
}

fn mac_of_broker(net: &str, id: i32) -> String {
    format!("02:00:00:00:{}:{id:02x}", if net == "data" { "99" } else { "98" })
}

fn mac_of_host(net: &str) -> String {
    mac_of_broker(net, 0xfe)
}

/// Runs lines of `ip`, on a broker's machine or on this one.
fn ip(machine: Option<i32>, lines: &str) -> io::Result<()> {
    let mut command = Command::new("ip");
    if let Some(id) = machine {
        command.args(["-n", &format!("b{id}")]);
    }
    let mut child = command.args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().expect("it is piped").write_all(lines.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("ip refused {lines:?}"))) }
}
