//! Control records: what coordinators write among an application's records. The key tells the
//! type; the value of a transaction's end tells who ended it.

/// The newest version of key and value that Kafka defines.
const VERSION: i16 = 0;

/// The control records that are defined; more may come, and readers skip what they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// A transaction's records are void.
    Abort,
    /// A transaction's records count.
    Commit,
    /// Any other, by its number.
    Other(i16),
}

/// The key of a control record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ControlKey {
    /// Of the key's form; later ones only add to its end.
    pub version: i16,
    /// What the record means.
    pub control_type: ControlType,
}

/// The value of a commit or an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndTxnMarker {
    /// Commit or abort; this stands in the key.
    pub control_type: ControlType,
    /// Epoch of the transaction coordinator that ended the transaction.
    pub coordinator_epoch: i32,
}

/// What is wrong with a control record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Too short.
    #[error("{bytes} bytes are too few for a control record's {what}")]
    Truncated {
        /// Key or value.
        what: &'static str,
        /// The bytes there are.
        bytes: usize,
    },
    /// A version below the first.
    #[error("a control record's {what} has version {version}")]
    BadVersion {
        /// Key or value.
        what: &'static str,
        /// As found.
        version: i16,
    },
}

impl ControlType {
    /// The number on the wire.
    pub const fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(id) => id,
        }
    }

    /// The type of a number.
    pub const fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            id => Self::Other(id),
        }
    }

    /// The key of this type in its newest form.
    pub const fn key(self) -> ControlKey {
        ControlKey { version: VERSION, control_type: self }
    }
}

impl ControlKey {
    /// Reads a control record's key.
    pub fn decode(key: &[u8]) -> Result<Self, ControlError> {
        let what = "key";
        let truncated = ControlError::Truncated { what, bytes: key.len() };
        let (version, rest) = key.split_first_chunk().ok_or(truncated)?;
        let (id, _) = rest.split_first_chunk().ok_or(truncated)?;
        let version = i16::from_be_bytes(*version);
        if version < 0 {
            return Err(ControlError::BadVersion { what, version });
        }
        Ok(Self { version, control_type: ControlType::from_id(i16::from_be_bytes(*id)) })
    }

    /// The key's bytes.
    pub fn encode(self) -> [u8; 4] {
        let [v0, v1] = self.version.to_be_bytes();
        let [t0, t1] = self.control_type.id().to_be_bytes();
        [v0, v1, t0, t1]
    }
}

impl EndTxnMarker {
    /// Reads the value that belongs to a commit's or abort's key.
    pub fn decode(control_type: ControlType, value: &[u8]) -> Result<Self, ControlError> {
        let what = "value";
        let truncated = ControlError::Truncated { what, bytes: value.len() };
        let (version, rest) = value.split_first_chunk().ok_or(truncated)?;
        let (epoch, _) = rest.split_first_chunk().ok_or(truncated)?;
        let version = i16::from_be_bytes(*version);
        if version < 0 {
            return Err(ControlError::BadVersion { what, version });
        }
        Ok(Self { control_type, coordinator_epoch: i32::from_be_bytes(*epoch) })
    }

    /// The value's bytes.
    pub fn encode(self) -> [u8; 6] {
        let [v0, v1] = VERSION.to_be_bytes();
        let [e0, e1, e2, e3] = self.coordinator_epoch.to_be_bytes();
        [v0, v1, e0, e1, e2, e3]
    }
}
