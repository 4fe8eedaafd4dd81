//! Reading a log directory as it was found.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use klamm_env::Files;

use super::{
    CLEAN_MARKER, CLEANER_OFFSETS, Checkpoints, DirRegistration, FoundDir, HIGH_WATERMARKS,
    LOG_STARTS, META, MetaProperties, OFFLINE_MARKER, RECOVERY_POINTS, REGISTRATION,
    RegisteredPair, Registration,
};
use crate::checkpoint::{decode_offsets, read_text};
use crate::error::LogDirError;
use crate::names::{TopicPartition, uuid_from_base64};
use crate::properties::Properties;

/// Reads a directory before anything is written to it.
pub(crate) struct Reader<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) path: &'a Path,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, LogDirError> {
        read_text(self.files, &self.path.join(name)).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                let reason = error.to_string();
                let path = format!("{}: ", self.path.join(name).display());
                self.damaged(name, reason.strip_prefix(&path).unwrap_or(&reason))
            }
            _ => LogDirError::Io { path: self.path.display().to_string(), error },
        })
    }

    fn damaged(&self, name: &str, reason: &str) -> LogDirError {
        let path = self.path.join(name).display().to_string();
        LogDirError::Damaged { path, reason: reason.to_owned() }
    }

    /// Checkpoints are replaced as a whole, so a damaged one was not written by us; without it
    /// more is read than need be, but nothing is trusted that should not be.
    fn offsets(&self, name: &str) -> Result<BTreeMap<TopicPartition, i64>, LogDirError> {
        let text = match self.text(name) {
            Ok(None) => return Ok(BTreeMap::new()),
            Ok(text) => text,
            Err(LogDirError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(text.as_deref().and_then(decode_offsets).unwrap_or_else(|| {
            tracing::warn!(dir = %self.path.display(), name, "damaged checkpoint is ignored");
            BTreeMap::new()
        }))
    }

    pub(super) fn checkpoints(&self) -> Result<Checkpoints, LogDirError> {
        Ok(Checkpoints {
            recovery_points: self.offsets(RECOVERY_POINTS)?,
            log_starts: self.offsets(LOG_STARTS)?,
            high_watermarks: self.offsets(HIGH_WATERMARKS)?,
            cleaner_offsets: self.offsets(CLEANER_OFFSETS)?,
        })
    }

    pub(super) fn directories(&self) -> Result<(Vec<TopicPartition>, Vec<String>), LogDirError> {
        let entries = self.files.list(self.path);
        let entries = entries
            .map_err(|error| LogDirError::Io { path: self.path.display().to_string(), error })?;
        let (mut partitions, mut others) = (Vec::new(), Vec::new());
        for entry in entries.into_iter().filter(|entry| entry.is_dir) {
            match TopicPartition::from_dir_name(&entry.name) {
                Some(partition) => partitions.push(partition),
                None => others.push(entry.name),
            }
        }
        partitions.sort_unstable();
        Ok((partitions, others))
    }

    pub(super) fn found(
        &self,
        checkpoints: &Checkpoints,
        partitions: &[TopicPartition],
    ) -> Result<FoundDir, LogDirError> {
        let start = |partition| checkpoints.log_starts.get(partition).copied().unwrap_or(0);
        let missing = checkpoints
            .recovery_points
            .iter()
            .filter(|(partition, offset)| **offset > start(partition))
            .filter(|(partition, _)| partitions.binary_search(partition).is_err())
            .map(|(partition, _)| partition.clone())
            .collect();
        Ok(FoundDir {
            path: self.path.to_owned(),
            meta: self.meta()?,
            registration: self.registration()?,
            clean_marker: self.clean_marker()?,
            offline_boot_id: self.offline_boot_id()?,
            missing,
        })
    }

    pub(crate) fn meta(&self) -> Result<Option<MetaProperties>, LogDirError> {
        let Some(text) = self.text(META)? else {
            return Ok(None);
        };
        let properties = Properties::decode(&text);
        let get = |name: &str| properties.get(name);
        match get("version") {
            Some("0" | "1") => {}
            other => return Err(self.damaged(META, &format!("version is {other:?}"))),
        }
        let broker_id = get("node.id").or_else(|| get("broker.id"));
        let broker_id = broker_id
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| self.damaged(META, "no node.id"))?;
        let cluster_id = get("cluster.id").ok_or_else(|| self.damaged(META, "no cluster.id"))?;
        let directory_id = get("directory.id")
            .and_then(uuid_from_base64)
            .ok_or_else(|| self.damaged(META, "no directory.id"))?;
        Ok(Some(MetaProperties { cluster_id: cluster_id.to_owned(), broker_id, directory_id }))
    }

    pub(crate) fn registration(&self) -> Result<Option<Registration>, LogDirError> {
        let Some(properties) = self.checked(REGISTRATION)? else {
            return Ok(None);
        };
        Ok(Some(Registration {
            registered: self.registration_of(&properties, "registered")?,
            attempted: self.registration_of(&properties, "attempted")?,
        }))
    }

    fn registration_of(
        &self,
        properties: &Properties,
        name: &str,
    ) -> Result<Option<DirRegistration>, LogDirError> {
        let Some(pair) = pair(properties, name) else {
            return Ok(None);
        };
        let damaged = || self.damaged(REGISTRATION, "a field is missing or wrong");
        let get = |field: &str| properties.get(&format!("{name}.{field}")).ok_or_else(damaged);
        let ids = get("directories")?.split(',').filter(|id| !id.is_empty());
        let directories = ids.map(uuid_from_base64).collect::<Option<_>>().ok_or_else(damaged)?;
        Ok(Some(DirRegistration { pair, directories, boot_id: get("boot.id")?.to_owned() }))
    }

    pub(crate) fn clean_marker(&self) -> Result<Option<RegisteredPair>, LogDirError> {
        let Some(properties) = self.checked(CLEAN_MARKER)? else {
            return Ok(None);
        };
        let found = pair(&properties, "registered");
        found.map(Some).ok_or_else(|| self.damaged(CLEAN_MARKER, "no registered pair"))
    }

    fn offline_boot_id(&self) -> Result<Option<String>, LogDirError> {
        let Some(text) = self.text(OFFLINE_MARKER)? else {
            return Ok(None);
        };
        // A marker that was torn by the failing disk counts as one of this boot.
        let properties = Properties::decode_checked(&text);
        let boot_id = properties.as_ref().and_then(|properties| properties.get("boot.id"));
        Ok(Some(boot_id.map_or_else(|| self.files.boot_id(), str::to_owned)))
    }

    fn checked(&self, name: &str) -> Result<Option<Properties>, LogDirError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let properties = Properties::decode_checked(&text);
        let properties = properties.ok_or_else(|| self.damaged(name, "the checksum is wrong"))?;
        match properties.get("version") {
            Some("1") => Ok(Some(properties)),
            other => Err(self.damaged(name, &format!("version is {other:?}"))),
        }
    }
}

fn pair(properties: &Properties, name: &str) -> Option<RegisteredPair> {
    let broker_epoch = properties.get(&format!("{name}.broker.epoch"))?.parse().ok()?;
    let incarnation = uuid_from_base64(properties.get(&format!("{name}.incarnation"))?)?;
    Some(RegisteredPair { broker_epoch, incarnation })
}
