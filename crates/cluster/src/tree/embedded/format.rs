//! Bytes of the journal and the snapshot of an embedded tree; `docs/format.md` describes them.
//!
//! A frame is `magic (4) | length of the body (4) | CRC32C of length and body (4) | body`, all numbers
//! big-endian. A body is `commit number (8) | number of changes (4) | changes`. The journal is a
//! row of frames, each synced before the next is written; the snapshot is one frame.

use std::sync::Arc;

use bytes::Bytes;

use crate::tree::state::Change;

/// Begins with a byte that no text in UTF-8 has, so that no node's content looks like a frame.
const JOURNAL_MAGIC: [u8; 4] = [0xff, b'K', b'J', 1];
const SNAPSHOT_MAGIC: [u8; 4] = [0xff, b'K', b'S', 1];
const HEADER_LEN: usize = 12;

const TAG_PUT: u8 = 1;
const TAG_DELETE: u8 = 2;

/// Which file a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Journal,
    Snapshot,
}

impl Kind {
    fn magic(self) -> [u8; 4] {
        match self {
            Kind::Journal => JOURNAL_MAGIC,
            Kind::Snapshot => SNAPSHOT_MAGIC,
        }
    }
}

/// A frame as read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Number of the commit; for a snapshot, of the last one that it holds.
    pub(super) commit: u64,
    pub(super) changes: Vec<Change>,
    /// Bytes that it takes.
    pub(super) len: usize,
}

/// The bytes of a frame; `None` when it would be larger than a frame can be.
pub(super) fn encode(
    kind: Kind,
    commit: u64,
    changes: impl Iterator<Item = Change>,
) -> Option<Vec<u8>> {
    let mut frame = kind.magic().to_vec();
    frame.extend([0; 8]);
    frame.extend(commit.to_be_bytes());
    frame.extend([0; 4]);
    let mut count: u32 = 0;
    for change in changes {
        count = count.checked_add(1)?;
        encode_change(&mut frame, &change)?;
    }
    let body_len = u32::try_from(frame.len() - HEADER_LEN).ok()?;
    frame[4..8].copy_from_slice(&body_len.to_be_bytes());
    frame[20..24].copy_from_slice(&count.to_be_bytes());
    let crc = checksum(body_len, &frame[HEADER_LEN..]);
    frame[8..12].copy_from_slice(&crc.to_be_bytes());
    Some(frame)
}

fn checksum(body_len: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&body_len.to_be_bytes()), body)
}

fn encode_change(frame: &mut Vec<u8>, change: &Change) -> Option<()> {
    match change {
        Change::Put { path, version, data } => {
            frame.push(TAG_PUT);
            put_bytes(frame, path.as_bytes())?;
            frame.extend(version.to_be_bytes());
            put_bytes(frame, data)
        }
        Change::Delete { path } => {
            frame.push(TAG_DELETE);
            put_bytes(frame, path.as_bytes())
        }
    }
}

fn put_bytes(frame: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    frame.extend(u32::try_from(bytes.len()).ok()?.to_be_bytes());
    frame.extend(bytes);
    Some(())
}

/// The frame at the beginning of `bytes`; `None` when it is not whole.
pub(super) fn decode(kind: Kind, bytes: &[u8]) -> Option<Frame> {
    let mut header = Cursor(bytes);
    if header.take(4)? != kind.magic() {
        return None;
    }
    let body_len = header.u32()?;
    let crc = header.u32()?;
    let body = header.take(usize::try_from(body_len).ok()?)?;
    if checksum(body_len, body) != crc {
        return None;
    }
    let mut body_left = Cursor(body);
    let commit = body_left.u64()?;
    let count = body_left.u32()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        changes.push(body_left.change()?);
    }
    if !body_left.0.is_empty() {
        return None;
    }
    Some(Frame { commit, changes, len: HEADER_LEN + body.len() })
}

/// Whether a whole frame of a commit after `last` begins anywhere in `bytes`.
pub(super) fn holds_frame_after(kind: Kind, bytes: &[u8], last: u64) -> bool {
    let magic = kind.magic();
    (0..bytes.len()).any(|at| {
        bytes[at] == magic[0]
            && bytes[at..].starts_with(&magic)
            && decode(kind, &bytes[at..]).is_some_and(|frame| frame.commit > last)
    })
}

/// Whether a crash can have left `bytes` where a frame should begin: a part of one, or zeros where
/// nothing was written yet.
pub(super) fn may_be_torn(kind: Kind, bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(4)];
    kind.magic().starts_with(head) || head.iter().all(|byte| *byte == 0)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len).ok()?)
    }

    fn path(&mut self) -> Option<Arc<str>> {
        std::str::from_utf8(self.bytes()?).ok().map(Arc::from)
    }

    fn change(&mut self) -> Option<Change> {
        match self.take(1)? {
            [TAG_PUT] => {
                let path = self.path()?;
                let version = self.array().map(i32::from_be_bytes)?;
                let data = Bytes::copy_from_slice(self.bytes()?);
                Some(Change::Put { path, version, data })
            }
            [TAG_DELETE] => Some(Change::Delete { path: self.path()? }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changes() -> Vec<Change> {
        let put = |path: &str, version, data: &'static [u8]| Change::Put {
            path: path.into(),
            version,
            data: Bytes::from_static(data),
        };
        vec![put("/a", 0, b"x"), put("/ä", -1, b""), Change::Delete { path: "/a".into() }]
    }

    #[test]
    fn what_no_crash_leaves_is_told_from_what_one_may_leave() {
        let whole = encode(Kind::Journal, 1, changes().into_iter()).expect("small");
        assert!((0..whole.len()).all(|cut| may_be_torn(Kind::Journal, &whole[..cut])));
        assert!(may_be_torn(Kind::Journal, &[0; 100]));
        assert!(!may_be_torn(Kind::Journal, b"garbage"));
        let mut future = whole;
        future[3] += 1;
        assert!(!may_be_torn(Kind::Journal, &future));
    }

    #[test]
    fn a_frame_reads_back() {
        for kind in [Kind::Journal, Kind::Snapshot] {
            let mut bytes = encode(kind, 7, changes().into_iter()).unwrap();
            let len = bytes.len();
            bytes.extend(b"more");
            let frame = decode(kind, &bytes).unwrap();
            assert_eq!(frame, Frame { commit: 7, changes: changes(), len });
        }
    }

    #[test]
    fn no_single_changed_bit_goes_unnoticed() {
        let bytes = encode(Kind::Journal, 7, changes().into_iter()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(Kind::Journal, &bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_later_frame_is_found_behind_damage() {
        let bytes = encode(Kind::Journal, 7, changes().into_iter()).unwrap();
        let damaged = [&[0; 33][..], &bytes].concat();
        assert!(holds_frame_after(Kind::Journal, &damaged, 6));
        assert!(!holds_frame_after(Kind::Journal, &damaged, 7));
        assert!(!holds_frame_after(Kind::Journal, &damaged[..damaged.len() - 1], 6));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let framed = [&JOURNAL_MAGIC[..], &bytes].concat();
            let _ = decode(Kind::Journal, &framed);
            let _ = holds_frame_after(Kind::Journal, &framed, 0);
        }
    }
}
