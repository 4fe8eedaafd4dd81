//! Questions about leaders.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use klamm_cluster::controller::{ElectionType, PartitionElection};
use klamm_cluster::{ControllerHandle, Refusal};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::ask_controller::{
    AskControllerRequest, AskedElected, AskedElection, AskedResult,
};

use super::question::{Again, Answers, Question, shortened};

/// Where no election is asked for.
pub(super) const NO_ELECTION: i8 = -1;
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Elects leaders.
pub(crate) struct ElectLeaders {
    /// Which.
    pub how: ElectionType,
    /// Of which partitions, by topic and number; none: of all.
    pub partitions: Option<Vec<(Arc<str>, i32)>>,
}

impl ElectLeaders {
    /// As another broker asks, unless it makes no sense.
    pub(super) fn from_wire(how: i8, asked: Option<Vec<AskedElection>>) -> Option<ElectLeaders> {
        let how = match how {
            PREFERRED => ElectionType::Preferred,
            UNCLEAN => ElectionType::Unclean,
            _ => return None,
        };
        let named = |asked: AskedElection| (Arc::from(asked.topic), asked.partition_index);
        let partitions = asked.map(|asked| asked.into_iter().map(named).collect());
        Some(ElectLeaders { how, partitions })
    }
}

impl Question for ElectLeaders {
    /// One for each partition.
    type Done = Vec<PartitionElection>;

    fn items(&self) -> usize {
        1
    }

    /// An unclean election is never to come when nobody expects it any more.
    fn again(&self) -> Again {
        match self.how {
            ElectionType::Preferred => Again::AtOnce,
            ElectionType::Unclean => Again::NextEpoch,
        }
    }

    fn ask<'a>(&'a self, controller: &'a ControllerHandle) -> BoxFuture<'a, Answers<Self>> {
        let partitions = self.partitions.clone();
        Box::pin(async move { vec![controller.elect_leaders(self.how, partitions).await] })
    }

    fn to_wire(&self) -> AskControllerRequest {
        let asked = |(topic, index): &(Arc<str>, i32)| AskedElection {
            topic: topic.to_string(),
            partition_index: *index,
        };
        let partitions = self.partitions.as_ref();
        AskControllerRequest {
            election_type: match self.how {
                ElectionType::Preferred => PREFERRED,
                ElectionType::Unclean => UNCLEAN,
            },
            elections: partitions.map(|all| all.iter().map(asked).collect()),
            ..Default::default()
        }
    }

    fn from_result(result: AskedResult) -> Vec<PartitionElection> {
        let election = |elected: AskedElected| PartitionElection {
            topic: Arc::from(elected.topic),
            partition: elected.partition_index,
            outcome: match ErrorCode::from_wire(elected.error_code) {
                ErrorCode::None => Ok(elected.leader_epoch),
                code => Err(Refusal::new(code, elected.error_message.unwrap_or_default())),
            },
        };
        result.elections.into_iter().map(election).collect()
    }

    fn to_result(elections: Vec<PartitionElection>) -> AskedResult {
        let elected = |election: PartitionElection| {
            let (topic, partition_index) = (election.topic.to_string(), election.partition);
            match election.outcome {
                Ok(leader_epoch) => {
                    AskedElected { topic, partition_index, leader_epoch, ..Default::default() }
                }
                Err(refusal) => AskedElected {
                    topic,
                    partition_index,
                    error_code: refusal.code.as_i16(),
                    error_message: Some(shortened(refusal.message)),
                    ..Default::default()
                },
            }
        };
        let elections = elections.into_iter().map(elected).collect();
        AskedResult { elections, ..Default::default() }
    }
}
