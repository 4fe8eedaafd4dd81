//! What Klamm serves: the one table from which ApiVersions, dispatch, the client and the
//! documentation are fed.

use crate::api_key::ApiKey;

/// One API that Klamm serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedApi {
    /// Which API.
    pub key: ApiKey,
    /// The oldest version that is understood.
    pub min: i16,
    /// The newest version that is understood and advertised.
    pub max: i16,
    /// The oldest version in ApiVersions answers.
    pub advertised_min: i16,
}

impl ServedApi {
    /// Whether requests of this version are understood.
    pub const fn serves(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

const fn served(key: ApiKey, min: i16, max: i16) -> ServedApi {
    ServedApi { key, min, max, advertised_min: min }
}

/// The table, by number. An API or version that is not fully served is not in it.
pub const SERVED: &[ServedApi] = &[
    // Old librdkafka compresses nothing unless version 0 is advertised, though it sends newer ones.
    ServedApi { key: ApiKey::Produce, min: 3, max: 11, advertised_min: 0 },
    served(ApiKey::Fetch, 4, 18),
    served(ApiKey::ListOffsets, 1, 11),
    served(ApiKey::Metadata, 0, 13),
    served(ApiKey::OffsetCommit, 2, 10),
    served(ApiKey::OffsetFetch, 1, 10),
    served(ApiKey::FindCoordinator, 0, 5),
    served(ApiKey::JoinGroup, 0, 9),
    served(ApiKey::Heartbeat, 0, 4),
    served(ApiKey::LeaveGroup, 0, 5),
    served(ApiKey::SyncGroup, 0, 5),
    served(ApiKey::DescribeGroups, 0, 6),
    served(ApiKey::ListGroups, 0, 5),
    served(ApiKey::ApiVersions, 0, 4),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::DeleteRecords, 0, 2),
    served(ApiKey::InitProducerId, 0, 5),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::AlterConfigs, 0, 2),
    served(ApiKey::DescribeLogDirs, 1, 5),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::DeleteGroups, 0, 2),
    served(ApiKey::ElectLeaders, 0, 2),
    served(ApiKey::IncrementalAlterConfigs, 0, 1),
    served(ApiKey::AlterPartitionReassignments, 0, 1),
    served(ApiKey::ListPartitionReassignments, 0, 0),
    served(ApiKey::OffsetDelete, 0, 0),
    served(ApiKey::DescribeCluster, 0, 2),
    served(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// What the brokers of one cluster ask each other: served on their own listener, and never advertised.
pub const INTERNAL: &[ServedApi] = &[served(ApiKey::AskController, 0, 0)];

/// The row of `key`, if Klamm serves it to clients.
pub fn find(key: ApiKey) -> Option<&'static ServedApi> {
    SERVED.iter().find(|api| api.key == key)
}

/// The row of `key`, if Klamm serves it to clients or to other brokers.
pub fn find_any(key: ApiKey) -> Option<&'static ServedApi> {
    find(key).or_else(|| INTERNAL.iter().find(|api| api.key == key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::RequestBody;

    #[test]
    fn rows_are_in_order_and_their_versions_have_messages() {
        assert!(SERVED.is_sorted_by_key(|api| api.key));
        for api in SERVED.iter().chain(INTERNAL) {
            assert!(api.advertised_min <= api.min && api.min <= api.max, "{api:?}");
            let (oldest, newest) =
                RequestBody::versions(api.key).expect("a served API has messages");
            assert!(oldest <= api.min && api.max <= newest, "{api:?} in {oldest}-{newest}");
        }
    }

    #[test]
    fn produce_advertises_more_than_it_understands() {
        let produce = find(ApiKey::Produce).expect("served");
        assert_eq!(produce.advertised_min, 0);
        assert!(!produce.serves(2) && produce.serves(3) && !produce.serves(12));
        assert_eq!(find(ApiKey::EndTxn), None);
    }

    #[test]
    fn what_brokers_ask_each_other_is_not_for_clients() {
        let key = ApiKey::AskController;
        assert_eq!(find(key), None);
        assert_eq!(find_any(key).map(|api| api.key), Some(key));
        assert_eq!(find_any(ApiKey::Fetch), find(ApiKey::Fetch));
        assert_eq!(find_any(ApiKey::EndTxn), None);
    }
}
