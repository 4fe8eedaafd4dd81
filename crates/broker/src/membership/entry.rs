//! The first registration of a process: judged by what the disk says, noted there before and after (R1,
//! R2).

use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::FlushClass;
use klamm_cluster::controller::{ControllerSettings, LeaderRebalance, PartitionDefaults};
use klamm_cluster::nodes::broker::{Endpoint, EpochNode, RegistrationNode};
use klamm_cluster::registration::{self, agree_on_offsets, settled_registration};
use klamm_cluster::restart::{self, Pair};
use klamm_cluster::tree::Tree;
use klamm_env::Env;
use klamm_env::threads::run_blocking;
use klamm_log::{DirRegistration, LogDir, MetaProperties, RegisteredPair, Registration};
use tracing::{info, warn};
use uuid::Uuid;

use super::{MembershipError, log_dirs};
use crate::config::{self, BrokerConfig, TableRules};
use crate::request::ListenerInfo;

/// How long a deleted topic stays in the tree, so that every broker sees its mark.
const PURGE_DELAY: Duration = Duration::from_secs(60);

/// A broker on its way in.
pub(super) struct Entry<'a> {
    pub(super) env: &'a Env,
    pub(super) config: &'a BrokerConfig,
    pub(super) broker_id: i32,
    pub(super) log_dirs: &'a [Arc<LogDir>],
}

impl Entry<'_> {
    pub(super) async fn register(
        &self,
        tree: &dyn Tree,
        cluster_id: &str,
        listeners: &[ListenerInfo],
    ) -> Result<(EpochNode, RegistrationNode, DirRegistration), MembershipError> {
        agree_on_offsets(tree, self.broker_id, self.config.keeps_offsets_in_tree()).await?;
        let last = settled_registration(tree, self.broker_id, &self.attempted()).await?;
        let in_tree = last.as_ref().map(|last| Pair::from(&last.value));
        let boot_id = self.log_dirs[0].boot_id();
        let found: Vec<_> = self.log_dirs.iter().map(|dir| log_dirs::found(dir)).collect();
        let judgement = restart::judge(&found, in_tree, boot_id)?;
        if judgement.log_dir_missing {
            warn!(missing = ?judgement.missing_dirs, "log directories of the last run are missing");
        }
        let incarnation = self.env.random.uuid();
        let last_node = last.as_ref().map(|last| &last.value);
        let epoch = restart::next_epoch(last_node, incarnation, judgement.restart);
        info!(restart = ?judgement.restart, epoch = epoch.epoch, "judged by the log directories");
        let pair = RegisteredPair { broker_epoch: epoch.epoch, incarnation };
        let directories = self.write_meta(cluster_id).await?;
        let own = DirRegistration { pair, directories, boot_id: boot_id.to_owned() };
        self.note_attempt(in_tree, &own).await?;
        let node = self.node(&epoch, listeners, judgement.log_dir_missing);
        let registration = registration::Registration {
            id: self.broker_id,
            node: node.clone(),
            epoch: epoch.clone(),
            expected: last.as_ref().map(|last| last.version),
            earlier_incarnations: log_dirs::earlier_incarnations(self.log_dirs),
        };
        registration::register(tree, &registration).await?;
        self.note_success(&own).await?;
        // Another one may have come at the same time.
        agree_on_offsets(tree, self.broker_id, node.offsets_in_tree).await?;
        self.in_every_dir(|dir| dir.remove_clean_marker()).await?;
        Ok((epoch, node, own))
    }

    /// Epochs that earlier processes on these directories tried to register in.
    fn attempted(&self) -> Vec<i64> {
        let registrations =
            self.log_dirs.iter().filter_map(|dir| dir.found().registration.as_ref());
        let attempts = registrations.filter_map(|registration| registration.attempted.as_ref());
        attempts.map(|attempted| attempted.pair.broker_epoch).collect()
    }

    /// Names the new directories; answers the ids of all.
    async fn write_meta(&self, cluster_id: &str) -> Result<Vec<Uuid>, MembershipError> {
        let mut ids = Vec::new();
        for dir in self.log_dirs {
            if let Some(meta) = &dir.found().meta {
                ids.push(meta.directory_id);
                continue;
            }
            let meta = MetaProperties {
                cluster_id: cluster_id.to_owned(),
                broker_id: self.broker_id,
                directory_id: self.env.random.uuid(),
            };
            ids.push(meta.directory_id);
            self.in_dir(dir, move |dir| dir.write_meta(&meta)).await?;
        }
        Ok(ids)
    }

    /// A directory's registered pair only ever comes from its own earlier attempt (R2), and keeps
    /// the directories and the boot of that attempt.
    async fn note_attempt(
        &self,
        in_tree: Option<Pair>,
        own: &DirRegistration,
    ) -> Result<(), MembershipError> {
        for dir in self.log_dirs {
            let registered = in_tree.and_then(|pair| log_dirs::known(dir, pair)).cloned();
            let noted = Registration { registered, attempted: Some(own.clone()) };
            self.in_dir(dir, move |dir| dir.write_registration(&noted)).await?;
        }
        Ok(())
    }

    async fn note_success(&self, own: &DirRegistration) -> Result<(), MembershipError> {
        let noted = Registration { registered: Some(own.clone()), attempted: Some(own.clone()) };
        self.in_every_dir(move |dir| dir.write_registration(&noted)).await
    }

    async fn in_every_dir(
        &self,
        job: impl Fn(&LogDir) -> std::io::Result<()> + Send + Clone + 'static,
    ) -> Result<(), MembershipError> {
        for dir in self.log_dirs {
            self.in_dir(dir, job.clone()).await?;
        }
        Ok(())
    }

    async fn in_dir(
        &self,
        dir: &Arc<LogDir>,
        job: impl FnOnce(&LogDir) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), MembershipError> {
        let job_dir = Arc::clone(dir);
        let done = run_blocking(&*self.env.threads, move || job(&job_dir)).await;
        done.map_err(|error| MembershipError::io(dir.path(), error))
    }

    fn node(
        &self,
        epoch: &EpochNode,
        listeners: &[ListenerInfo],
        log_dir_missing: bool,
    ) -> RegistrationNode {
        let endpoint = |info: &ListenerInfo| Endpoint {
            listener: info.name.clone(),
            host: info.advertised_host.clone(),
            port: info.advertised_port,
        };
        let inter_broker = self.config.inter_broker_listener_name.clone();
        RegistrationNode {
            endpoints: listeners.iter().map(endpoint).collect(),
            security_protocols: Default::default(),
            inter_broker_listener: inter_broker.unwrap_or_else(|| listeners[0].name.clone()),
            rack: self.config.broker_rack.clone(),
            incarnation: epoch.incarnation,
            broker_epoch: epoch.epoch,
            features: Default::default(),
            log_dir_missing,
            offsets_in_tree: self.config.keeps_offsets_in_tree(),
        }
    }

    pub(super) fn controller_settings(&self) -> ControllerSettings {
        ControllerSettings {
            broker_id: self.broker_id,
            defaults: PartitionDefaults {
                min_insync_replicas: self.config.min_insync_replicas,
                unclean_election: self.config.unclean_leader_election_enable,
                flush: match self.config.flush {
                    config::FlushClass::Acked => FlushClass::Acked,
                    config::FlushClass::Os => FlushClass::Os,
                },
            },
            rules: Arc::new(TableRules),
            purge_delay: PURGE_DELAY,
            leader_rebalance: self.config.auto_leader_rebalance_enable.then(|| LeaderRebalance {
                interval: Duration::from_secs(
                    self.config.leader_imbalance_check_interval_seconds.unsigned_abs(),
                ),
                percentage: self.config.leader_imbalance_per_broker_percentage,
            }),
        }
    }
}
