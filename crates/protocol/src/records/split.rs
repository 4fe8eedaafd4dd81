//! A concatenation of batches, one by one.

use bytes::Bytes;

use super::batch::Batch;
use super::header::{BATCH_LENGTH_OFFSET, HEADER_LEN, LENGTH_PREFIX_LEN};
use super::validate::BatchError;

/// The batches of `bytes`; a batch that is cut off at the end is left out silently, as consumers
/// must expect of Fetch. CRCs are not checked.
pub fn split(bytes: Bytes) -> Batches {
    Batches { rest: bytes, strict: false }
}

/// The batches of `bytes`; one that is cut off at the end is an error, as in Produce. CRCs are
/// not checked.
pub fn split_strict(bytes: Bytes) -> Batches {
    Batches { rest: bytes, strict: true }
}

/// Iterator over a concatenation of batches; ends at the first error.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    strict: bool,
}

impl Batches {
    /// What has not been taken yet; after the end, the partial batch if there is one.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }

    fn cut_off(&self) -> bool {
        if self.rest.len() < HEADER_LEN {
            return true;
        }
        let length = self.rest[BATCH_LENGTH_OFFSET..].first_chunk().copied();
        let length = i32::from_be_bytes(length.expect("the header is there"));
        usize::try_from(length).is_ok_and(|length| length > self.rest.len() - LENGTH_PREFIX_LEN)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || (!self.strict && self.cut_off()) {
            return None;
        }
        let batch = Batch::parse(&self.rest);
        match &batch {
            Ok(batch) => drop(self.rest.split_to(batch.size())),
            Err(_) => self.rest.clear(),
        }
        Some(batch)
    }
}
