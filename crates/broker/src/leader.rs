//! Who leads a partition, for clients that asked the wrong broker.

use crate::request::RequestContext;

/// The leader of a partition as the metadata has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaderHint {
    /// Its broker id, -1 for none.
    pub id: i32,
    /// Its epoch, -1 where the partition is unknown.
    pub epoch: i32,
    /// Where the client of this connection reaches it.
    pub endpoint: Option<(String, i32)>,
    /// Its rack.
    pub rack: Option<String>,
}

impl RequestContext {
    /// Who leads `topic`-`index` now.
    pub(crate) fn current_leader(&self, topic: &str, index: i32) -> LeaderHint {
        let image = self.broker.image();
        let partition = image.topic(topic).and_then(|topic| topic.partition(index));
        let Some(partition) = partition else {
            return LeaderHint { id: -1, epoch: -1, endpoint: None, rack: None };
        };
        let id = partition.leader.unwrap_or(-1);
        let leader = image.broker(id);
        let listener = &self.connection.listener;
        let endpoint = leader.and_then(|leader| leader.endpoint(&listener.name));
        LeaderHint {
            id,
            epoch: partition.leader_epoch,
            endpoint: endpoint.map(|endpoint| (endpoint.host.clone(), endpoint.port.into())),
            rack: leader.and_then(|leader| leader.rack.clone()),
        }
    }
}
