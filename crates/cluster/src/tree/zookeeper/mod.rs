//! The tree in a ZooKeeper ensemble: the home of a cluster.
//!
//! ```text
//! home.rs      connects: servers, chroot, credentials     -> one session
//! session.rs   the session: reads, multis, watches
//! keeper.rs    one task a session: probes, lease, state
//! watches.rs   one task a watch: events, and the watch itself again after every reconnect
//! ```
//!
//! The protocol is spoken by the crate `zookeeper-client`; no type of it is seen outside of this
//! folder. What it adds to a plain client is what CLUSTER.md asks for: a lease of its own (R4), nothing
//! written once that has run out (R5), [`super::EventKind::Missed`] after every reconnect (R6), unclear
//! results that stay unclear (R27). Why it is built like this:
//! `docs/decisions/0009-zookeeper-home.md`.

mod answers;
mod connect_string;
mod home;
mod keeper;
mod session;
mod watches;

pub use connect_string::{BadConnectString, ConnectString};
pub use home::{Credentials, HAS_SASL, HAS_TLS, Identity, Tls, ZooKeeperConfig, ZooKeeperHome};
pub use session::ZooKeeperTree;
