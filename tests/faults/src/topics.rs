//! The topics that the load goes to.

use klamm_client::{Admin, ClientError, NewTopic};

pub(crate) const PARTITIONS: i32 = 2;

/// A kind of topic.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) compacts: bool,
    pub(crate) deletes: bool,
}

pub(crate) const KINDS: [Kind; 3] = [
    Kind { name: "plain", compacts: false, deletes: true },
    Kind { name: "compacted", compacts: true, deletes: false },
    Kind { name: "both", compacts: true, deletes: true },
];

impl Kind {
    fn settings(self) -> Vec<(&'static str, &'static str)> {
        let policy = match (self.compacts, self.deletes) {
            (true, true) => "compact,delete",
            (true, false) => "compact",
            (false, _) => "delete",
        };
        // The least size; most segments are begun by age, before they reach it.
        let mut settings =
            vec![("cleanup.policy", policy), ("segment.bytes", "1048576"), ("segment.ms", "200")];
        if self.deletes {
            settings.push(("retention.bytes", "32768"));
        }
        if self.compacts {
            settings.push(("min.cleanable.dirty.ratio", "0.01"));
            settings.push(("delete.retention.ms", "500"));
        }
        settings
    }
}

pub(crate) async fn create(admin: &Admin) -> Result<(), ClientError> {
    for kind in KINDS {
        let configs = kind.settings().into_iter();
        let topic = NewTopic {
            partitions: Some(PARTITIONS),
            configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ..NewTopic::new(kind.name)
        };
        admin.create_topic(&topic).await?;
    }
    Ok(())
}
