//! `listeners`, `advertised.listeners` and `listener.security.protocol.map`.

use super::broker_keys::BrokerValues;

/// One address that the broker listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, in capitals.
    pub name: String,
    /// The host to bind; empty for every interface.
    pub host: String,
    /// The port to bind; 0 picks a free one.
    pub port: u16,
    /// What clients are told; `None` means the bound address.
    pub advertised: Option<Endpoint>,
}

/// Where a client connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Listener {
    /// The address to bind, `host:port`.
    pub fn bind_address(&self) -> String {
        let host = if self.host.is_empty() { "0.0.0.0" } else { &self.host };
        join(host, self.port)
    }
}

/// `host:port`, with brackets round an IPv6 address.
fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The listeners to open, or what is wrong: the key and a phrase.
pub(crate) fn listeners(values: &BrokerValues) -> Result<Vec<Listener>, (&'static str, String)> {
    let protocols = protocol_map(&values.listener_security_protocol_map)?;
    let advertised = parse_all("advertised.listeners", &values.advertised_listeners)?;
    let skipped = |name: &str| {
        values.controller_listener_names.iter().any(|other| other.eq_ignore_ascii_case(name))
    };
    let mut open: Vec<Listener> = Vec::new();
    for (name, endpoint) in parse_all("listeners", &values.listeners)? {
        if skipped(&name) {
            continue;
        }
        plaintext_only(&name, &protocols)?;
        if open.iter().any(|other| other.name == name) {
            return Err(("listeners", format!("has {name} twice")));
        }
        let advertised = advertised.iter().find(|(other, _)| *other == name);
        let advertised = advertised.map(|(_, endpoint)| endpoint.clone());
        open.push(Listener { name, host: endpoint.host, port: endpoint.port, advertised });
    }
    if open.is_empty() {
        return Err(("listeners", "needs at least one listener for clients".to_owned()));
    }
    for (name, endpoint) in &advertised {
        if skipped(name) {
            continue;
        }
        if !open.iter().any(|listener| listener.name == *name) {
            let problem = format!("has {name}, which listeners does not have");
            return Err(("advertised.listeners", problem));
        }
        if endpoint.host.is_empty() || endpoint.host == "0.0.0.0" {
            let problem = format!("needs a host that clients can reach for {name}");
            return Err(("advertised.listeners", problem));
        }
    }
    Ok(open)
}

fn plaintext_only(
    name: &str,
    protocols: &[(String, String)],
) -> Result<(), (&'static str, String)> {
    match protocols.iter().find(|(other, _)| other == name) {
        Some((_, protocol)) if protocol == "PLAINTEXT" => Ok(()),
        Some((_, protocol)) => {
            Err(("listeners", format!("has {name} with {protocol}; only PLAINTEXT is offered yet")))
        }
        None => Err(("listener.security.protocol.map", format!("has no protocol for {name}"))),
    }
}

fn protocol_map(entries: &[String]) -> Result<Vec<(String, String)>, (&'static str, String)> {
    entries
        .iter()
        .map(|entry| {
            let (name, protocol) = entry.split_once(':').ok_or_else(|| {
                ("listener.security.protocol.map", format!("has {entry}, not NAME:PROTOCOL"))
            })?;
            Ok((name.trim().to_ascii_uppercase(), protocol.trim().to_ascii_uppercase()))
        })
        .collect()
}

fn parse_all(
    key: &'static str,
    entries: &[String],
) -> Result<Vec<(String, Endpoint)>, (&'static str, String)> {
    entries
        .iter()
        .map(|entry| {
            parse(entry).ok_or_else(|| (key, format!("has {entry}, not NAME://HOST:PORT")))
        })
        .collect()
}

fn parse(entry: &str) -> Option<(String, Endpoint)> {
    let (name, address) = entry.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let named = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let endpoint = Endpoint { host: host.to_owned(), port: port.parse().ok()? };
    named.then(|| (name.to_ascii_uppercase(), endpoint))
}
