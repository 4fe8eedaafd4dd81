//! One member of a classic group.

use bytes::Bytes;

use crate::record::MemberImage;
use crate::request::{Join, Protocol, Ticket};

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// In the member's order of preference.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// Its parked join; answered when the joining phase ends.
    pub(crate) awaiting_join: Option<Ticket>,
    /// Its parked sync; answered when the leader's assignment is in.
    pub(crate) awaiting_sync: Option<Ticket>,
    /// It has never seen a generation, so it cannot send heartbeats and its join may time out.
    pub(crate) is_new: bool,
}

impl Member {
    pub(crate) fn joining(member_id: String, join: Join) -> Member {
        Member {
            id: member_id,
            instance_id: join.group_instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            awaiting_join: Some(join.ticket),
            awaiting_sync: None,
            is_new: true,
        }
    }

    pub(crate) fn loaded(image: &MemberImage, protocol: Option<&str>) -> Member {
        let rebalance_timeout_ms = match image.rebalance_timeout_ms {
            -1 => image.session_timeout_ms,
            ms => ms,
        };
        Member {
            id: image.member_id.clone(),
            instance_id: image.group_instance_id.clone(),
            client_id: image.client_id.clone(),
            client_host: image.client_host.clone(),
            session_timeout_ms: image.session_timeout_ms,
            rebalance_timeout_ms,
            protocols: vec![Protocol {
                name: protocol.unwrap_or_default().to_owned(),
                metadata: image.subscription.clone(),
            }],
            assignment: image.assignment.clone(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    pub(crate) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// What it sent under `protocol`; empty if it does not offer it.
    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|offered| Some(offered.name.as_str()) == protocol)
            .map(|offered| offered.metadata.clone())
            .unwrap_or_default()
    }

    pub(crate) fn offers(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|offered| offered.name == protocol)
    }

    /// A parked request stands for a heartbeat, except for a member that has never been told it is
    /// one: its parked join may time out.
    pub(crate) fn is_heard(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub(crate) fn image(&self, protocol: Option<&str>, assignment: Bytes) -> MemberImage {
        MemberImage {
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }
}
