//! How sessions with an ensemble begin: servers, chroot, credentials, access lists.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use klamm_env::{Clock, Env, Loop};
use tracing::{debug, info};
use zookeeper_client::{Acl, Acls, Client, Connector, CreateMode, Error, Permission};

use super::answers::is_verdict;
use super::connect_string::ConnectString;
use super::keeper::Keeper;
use super::session::{Shared, ZooKeeperTree};
use crate::lease::Lease;
use crate::tree::{Home, Tree, TreeError, path};

/// How an ensemble is reached. Durations and counts are Kafka's keys of the same names.
#[derive(Clone, Debug)]
pub struct ZooKeeperConfig {
    /// `zookeeper.connect`.
    pub connect: ConnectString,
    /// `zookeeper.session.timeout.ms`; the ensemble may negotiate another one.
    pub session_timeout: Duration,
    /// `zookeeper.connection.timeout.ms`: longest wait for a session to begin.
    pub connection_timeout: Duration,
    /// `zookeeper.max.in.flight.requests`: requests that wait for an answer at most.
    pub in_flight_max: usize,
    /// The node that this broker's probes are written to (R4): `/brokers/probe/<id>`.
    pub probe: String,
    /// Who the broker is to the ensemble.
    pub credentials: Credentials,
    /// `zookeeper.ssl.client.enable`: TLS to every server. Needs the crate's feature `zookeeper-tls`.
    pub tls: Option<Tls>,
    /// `zookeeper.set.acl`: whether the nodes belong to who the broker is, if it is anybody.
    pub owns_nodes: bool,
    /// Whether everybody may read what is no secret, where the nodes belong to who the broker is.
    pub readable_by_all: bool,
}

/// Whether [`Credentials::Sasl`] is built in: the crate's feature `zookeeper-sasl`.
pub const HAS_SASL: bool = cfg!(feature = "zookeeper-sasl");
/// Whether [`Tls`] is built in: the crate's feature `zookeeper-tls`.
pub const HAS_TLS: bool = cfg!(feature = "zookeeper-tls");

/// TLS to the ensemble. The servers' names are always verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// `zookeeper.ssl.truststore.location`: certificates of those who vouch for the servers, in PEM.
    pub authorities: String,
    /// `zookeeper.ssl.keystore.location`: who the broker is, for servers that ask for it.
    pub identity: Option<Identity>,
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and the authority, in PEM.
    pub certificate: String,
    /// Its private key, in PEM.
    pub key: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("has_identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

/// Who a broker is to the ensemble.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody: the nodes are everybody's.
    Anonymous,
    /// ZooKeeper's scheme `digest`: name and password go over the connection as they are. The nodes
    /// belong to whoever knows both.
    Digest {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// SASL with DIGEST-MD5: the password does not go over the connection. Needs the crate's feature
    /// `zookeeper-sasl`.
    Sasl {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Anonymous => f.write_str("Anonymous"),
            Credentials::Digest { user, .. } => write!(f, "Digest({user})"),
            Credentials::Sasl { user, .. } => write!(f, "Sasl({user})"),
        }
    }
}

/// Whose the nodes are that a session makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeAccess {
    /// Everybody's.
    Everybody,
    /// The creator's.
    Creator,
    /// The creator's; everybody may read what is no secret.
    CreatorAndReaders,
}

/// Entries that the library is given, each server as often as it takes. It tries a list once without
/// a pause, then doubles the pause before each further round, until a short outage has used up the
/// session: within one long round the pauses only grow by 50 ms from entry to entry.
const ENTRIES_MIN: usize = 24;

/// Below these, settings may hold passwords and keys; the same folders as in Kafka.
const SECRETS: &[&str] = &["/config/users", "/config/brokers"];

static CREATOR_AND_READERS: [Acl; 2] = [
    Acl::new_const(Permission::ALL, "auth", ""),
    Acl::new_const(Permission::READ, "world", "anyone"),
];

impl NodeAccess {
    fn new(config: &ZooKeeperConfig) -> NodeAccess {
        let has_certificate = config.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
        let is_somebody = config.credentials != Credentials::Anonymous || has_certificate;
        if !(is_somebody && config.owns_nodes) {
            NodeAccess::Everybody
        } else if config.readable_by_all {
            NodeAccess::CreatorAndReaders
        } else {
            NodeAccess::Creator
        }
    }

    /// The access list of a new node at `path`.
    pub(super) fn of(self, path: &str) -> Acls<'static> {
        match self {
            NodeAccess::Everybody => Acls::anyone_all(),
            NodeAccess::CreatorAndReaders if !is_secret(path) => Acls::new(&CREATOR_AND_READERS),
            NodeAccess::Creator | NodeAccess::CreatorAndReaders => Acls::creator_all(),
        }
    }
}

fn is_secret(of: &str) -> bool {
    SECRETS.iter().any(|secret| path::is_within(of, secret))
}

/// A tree in an ensemble.
#[derive(Clone)]
pub struct ZooKeeperHome {
    config: Arc<ZooKeeperConfig>,
    clock: Arc<dyn Clock>,
    on: Loop,
}

impl fmt::Debug for ZooKeeperHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZooKeeperHome").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ZooKeeperHome {
    /// A home whose sessions run on `on`. Nothing is connected yet.
    pub fn new(env: &Env, config: ZooKeeperConfig, on: &Loop) -> ZooKeeperHome {
        let clock = Arc::clone(&env.clock);
        ZooKeeperHome { config: Arc::new(config), clock, on: on.clone() }
    }

    /// Begins a session.
    ///
    /// # Errors
    /// [`TreeError::Unavailable`], after `connection_timeout` at the latest.
    pub async fn begin(&self) -> Result<ZooKeeperTree, TreeError> {
        let config = &self.config;
        let unavailable = |reason: String| TreeError::Unavailable {
            reason: format!("{}: {reason}", config.connect),
        };
        // The library's tasks stay on the loop that connects.
        let job = begin(Arc::clone(&self.config), Arc::clone(&self.clock), self.on.clone());
        let task = self.on.spawn(job);
        let abort = task.abort_handle();
        let begun = tokio::time::timeout(config.connection_timeout, task).await;
        let Ok(begun) = begun else {
            abort.abort();
            let waited = config.connection_timeout;
            return Err(unavailable(format!("no server has answered within {waited:?}")));
        };
        begun.map_err(|_| unavailable("the process is stopping".to_owned()))?.map_err(|error| {
            match error {
                Error::AuthFailed => unavailable("the credentials are refused".to_owned()),
                Error::NoAuth => unavailable("access to the chroot is denied".to_owned()),
                other => unavailable(other.to_string()),
            }
        })
    }
}

impl Home for ZooKeeperHome {
    fn connect(&self) -> BoxFuture<'_, Result<Arc<dyn Tree>, TreeError>> {
        async move { Ok(Arc::new(self.begin().await?) as Arc<dyn Tree>) }.boxed()
    }
}

async fn begin(
    config: Arc<ZooKeeperConfig>,
    clock: Arc<dyn Clock>,
    on: Loop,
) -> Result<ZooKeeperTree, Error> {
    let access = NodeAccess::new(&config);
    let client = connect(&config).await?;
    let client = enter_chroot(client, config.connect.chroot(), access).await?;
    let first_ok = first_probe(&client, &config.probe, &*clock).await?;
    let timeout = client.session_timeout();
    let lease = Lease::new(timeout, first_ok);
    let states = client.state_watcher();
    if client.state().is_terminated() {
        return Err(Error::SessionExpired);
    }
    info!(session = %client.session_id(), ?timeout, servers = %config.connect, "session begun");
    let shared = Shared::new(client, clock, lease, config.in_flight_max, access);
    on.spawn(Keeper::new(&shared, states, config.probe.clone()).run());
    Ok(ZooKeeperTree::new(shared, on))
}

/// Tries server after server, round after round; the caller sets the end.
async fn connect(config: &ZooKeeperConfig) -> Result<Client, Error> {
    let servers = config.connect.servers();
    let rounds = ENTRIES_MIN.div_ceil(servers.len());
    let servers = vec![servers.join(","); rounds].join(",");
    let connector = connector(config)?;
    loop {
        let connector = connector.clone();
        #[cfg(feature = "zookeeper-tls")]
        let connected = match config.tls {
            Some(_) => connector.secure_connect(&servers).await,
            None => connector.connect(&servers).await,
        };
        #[cfg(not(feature = "zookeeper-tls"))]
        let connected = connector.connect(&servers).await;
        match connected {
            Ok(client) => return Ok(client),
            Err(error @ (Error::AuthFailed | Error::BadArguments(_))) => return Err(error),
            Err(error) => debug!(%error, servers = %config.connect, "no session yet"),
        }
    }
}

fn connector(config: &ZooKeeperConfig) -> Result<Connector, Error> {
    let connector = Client::connector().with_session_timeout(config.session_timeout);
    let connector = match &config.credentials {
        Credentials::Anonymous => connector,
        Credentials::Digest { user, password } => {
            connector.with_auth("digest", format!("{user}:{password}").as_bytes())
        }
        #[cfg(feature = "zookeeper-sasl")]
        Credentials::Sasl { user, password } => {
            let options = zookeeper_client::SaslOptions::digest_md5(user.clone(), password.clone());
            connector.with_sasl(options)
        }
        #[cfg(not(feature = "zookeeper-sasl"))]
        Credentials::Sasl { .. } => {
            return Err(Error::BadArguments(&"this program was built without SASL to ZooKeeper"));
        }
    };
    match &config.tls {
        None => Ok(connector),
        #[cfg(feature = "zookeeper-tls")]
        Some(tls) => {
            let options = zookeeper_client::TlsOptions::new().with_pem_ca(&tls.authorities)?;
            let options = match &tls.identity {
                Some(own) => options.with_pem_identity(&own.certificate, &own.key)?,
                None => options,
            };
            Ok(connector.with_tls(options))
        }
        #[cfg(not(feature = "zookeeper-tls"))]
        Some(_) => Err(Error::BadArguments(&"this program was built without TLS to ZooKeeper")),
    }
}

/// Makes the chroot if it is missing, as Kafka does, and looks at what is below it from now on.
async fn enter_chroot(client: Client, chroot: &str, access: NodeAccess) -> Result<Client, Error> {
    if chroot != "/" && client.check_stat(chroot).await?.is_none() {
        client.mkdir(chroot, &CreateMode::Persistent.with_acls(access.of("/"))).await?;
    }
    client.chroot(chroot.to_owned()).map_err(|_| Error::BadArguments(&"the chroot is no path"))
}

/// A write that the leader answers: when it was sent. It changes nothing in a tree that is not set up.
async fn first_probe(client: &Client, node: &str, clock: &dyn Clock) -> Result<Duration, Error> {
    loop {
        let sent = clock.boot_time();
        match client.set_data(node, b"", None).await {
            Ok(_) => return Ok(sent),
            Err(error) if is_verdict(&error) => return Ok(sent),
            Err(error @ (Error::SessionExpired | Error::AuthFailed | Error::ClientClosed)) => {
                return Err(error);
            }
            Err(error) => debug!(%error, "the first probe is not answered yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(credentials: Credentials, readable_by_all: bool) -> ZooKeeperConfig {
        ZooKeeperConfig {
            connect: "a:1".parse().unwrap(),
            session_timeout: Duration::from_secs(18),
            connection_timeout: Duration::from_secs(18),
            in_flight_max: 10,
            probe: "/brokers/probe/1".into(),
            credentials,
            tls: None,
            owns_nodes: true,
            readable_by_all,
        }
    }

    fn digest() -> Credentials {
        Credentials::Digest { user: "u".into(), password: "secret".into() }
    }

    #[test]
    fn nodes_belong_to_who_authenticates() {
        let access = |credentials, readable| NodeAccess::new(&config(credentials, readable));
        let open = access(Credentials::Anonymous, true);
        assert_eq!(open.of("/topics"), Acls::anyone_all());
        assert_eq!(access(digest(), false).of("/topics"), Acls::creator_all());
        let readable = access(digest(), true);
        assert_eq!(readable.of("/topics"), Acls::new(&CREATOR_AND_READERS));
        let unowned = ZooKeeperConfig { owns_nodes: false, ..config(digest(), true) };
        assert_eq!(NodeAccess::new(&unowned), NodeAccess::Everybody);
        for secret in ["/config/users", "/config/users/u", "/config/brokers/1"] {
            assert_eq!(readable.of(secret), Acls::creator_all(), "{secret}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let printed = format!("{:?}", config(digest(), true));
        assert!(printed.contains("Digest(u)") && !printed.contains("secret"), "{printed}");
        let identity = Identity { certificate: "c".into(), key: "secret".into() };
        let tls = Tls { authorities: "a".into(), identity: Some(identity) };
        assert!(!format!("{tls:?}").contains("secret"));
    }

    #[test]
    fn a_certificate_of_its_own_makes_a_broker_the_owner_of_its_nodes() {
        let identity = Identity { certificate: "c".into(), key: "k".into() };
        let tls = Some(Tls { authorities: "a".into(), identity: Some(identity) });
        let config = ZooKeeperConfig { tls, ..config(Credentials::Anonymous, false) };
        assert_eq!(NodeAccess::new(&config), NodeAccess::Creator);
    }
}
