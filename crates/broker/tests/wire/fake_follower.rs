//! Fetches in the name of a broker that hangs, as its leader takes them for its word.

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::FetchRequest;
use klamm_protocol::messages::fetch::{PartitionData, ReplicaState};
use uuid::Uuid;

use crate::cluster::{Cluster, Hanging};
use crate::socket::{Socket, fetch_request};

/// A connection to the leader of partition 0 of a topic.
pub(crate) struct FakeFollower {
    socket: Socket,
    topic: Uuid,
    id: i32,
    broker_epoch: i64,
    leader_epoch: i32,
}

impl FakeFollower {
    /// Takes the place of broker `id`, which hangs from now on.
    pub(crate) fn of(cluster: &mut Cluster, topic: &str, id: i32) -> (FakeFollower, Hanging) {
        let leader = cluster.leader(topic, 0, None);
        assert_ne!(leader, id, "it is to follow");
        let follower = FakeFollower {
            socket: cluster.connect(leader),
            topic: cluster.topic_id(topic),
            id,
            broker_epoch: cluster.broker_epoch(id),
            leader_epoch: cluster.partition(leader, topic, 0).leader_epoch,
        };
        let hanging = cluster.hang(id);
        (follower, hanging)
    }

    /// Asks for what is at `offset`, and so says that it holds all below.
    pub(crate) fn asks(&mut self, offset: i64) -> PartitionData {
        let mut request: FetchRequest = fetch_request("", 0, offset, 0);
        let (replica_id, replica_epoch) = (self.id, self.broker_epoch);
        request.replica_state = ReplicaState { replica_id, replica_epoch };
        request.topics[0].topic_id = self.topic;
        request.topics[0].partitions[0].current_leader_epoch = self.leader_epoch;
        let response = self.socket.call(17, &request);
        assert_eq!(response.error_code, 0);
        response.responses[0].partitions[0].clone()
    }

    /// The same; what the answer says of the partition.
    pub(crate) fn told(&mut self, offset: i64) -> ErrorCode {
        ErrorCode::from_i16(self.asks(offset).error_code).expect("a known code")
    }
}
