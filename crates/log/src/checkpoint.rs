//! Small files that are replaced as a whole: Kafka's checkpoints and those in its form.
//!
//! A checkpoint is text: a version, a count, one entry a line.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use klamm_env::Files;
use klamm_env::files::{File, OpenMode};

use crate::epochs::EpochCache;
use crate::names::{OFFSET_MAX, TEMPORARY_SUFFIX, TopicPartition};

/// Version of all checkpoints.
const VERSION: &str = "0";
/// Nothing that is read whole is larger.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Replaces the file at `path`: whatever happens, either the old or the new content is there
/// afterwards, if `sync` makes it durable before the name changes; the new one for good once the
/// directory is synced, which is the caller's.
pub(crate) fn replace_file_unsynced(
    files: &dyn Files,
    path: &Path,
    content: &[u8],
    sync: impl FnOnce(&dyn File) -> io::Result<()>,
) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY_SUFFIX);
    let temporary = Path::new(&temporary);
    let file = files.open(temporary, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_all_at(content, 0)?;
    sync(&*file)?;
    files.rename(temporary, path)
}

/// The content of a small file; `None` where there is none.
pub(crate) fn read_file(files: &dyn Files, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match files.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > FILE_BYTES_MAX {
        return Err(invalid(path, &format!("{len} bytes are too many")));
    }
    let mut content = vec![0; usize::try_from(len).expect("bounded above")];
    file.read_exact_at(&mut content, 0)?;
    Ok(Some(content))
}

/// As [`read_file`], for text.
pub(crate) fn read_text(files: &dyn Files, path: &Path) -> io::Result<Option<String>> {
    match read_file(files, path)? {
        None => Ok(None),
        Some(content) => {
            String::from_utf8(content).map(Some).map_err(|_| invalid(path, "not UTF-8"))
        }
    }
}

pub(crate) fn invalid(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}

/// Text of a checkpoint of offsets by partition.
pub(crate) fn encode_offsets(offsets: &BTreeMap<TopicPartition, i64>) -> String {
    let lines = offsets
        .iter()
        .map(|(partition, offset)| format!("{} {} {offset}", partition.topic, partition.partition));
    encode_lines(offsets.len(), lines)
}

/// Reads what [`encode_offsets`] wrote; `None` also where an offset is none that a log can have.
pub(crate) fn decode_offsets(text: &str) -> Option<BTreeMap<TopicPartition, i64>> {
    decode_lines(text, |fields| match fields {
        [topic, partition, offset] => {
            let partition = TopicPartition::new(*topic, partition.parse().ok()?);
            let offset = offset.parse().ok().filter(|offset| (0..=OFFSET_MAX).contains(offset))?;
            Some((partition, offset))
        }
        _ => None,
    })
}

/// Text of a leader-epoch checkpoint.
pub(crate) fn encode_epochs(epochs: &EpochCache) -> String {
    let entries = epochs.entries();
    let lines = entries.iter().map(|entry| format!("{} {}", entry.epoch, entry.start_offset));
    encode_lines(entries.len(), lines)
}

/// Reads what [`encode_epochs`] wrote; `None` also where a column does not rise.
pub(crate) fn decode_epochs(text: &str) -> Option<EpochCache> {
    let entries: Vec<(i32, i64)> = decode_lines(text, |fields| match fields {
        [epoch, start] => Some((epoch.parse().ok()?, start.parse().ok()?)),
        _ => None,
    })?;
    let mut epochs = EpochCache::default();
    for (epoch, start_offset) in &entries {
        if *epoch < 0 || *start_offset < 0 {
            return None;
        }
        epochs.assign(*epoch, *start_offset);
    }
    (epochs.entries().len() == entries.len()).then_some(epochs)
}

fn encode_lines(count: usize, lines: impl Iterator<Item = String>) -> String {
    let mut text = format!("{VERSION}\n{count}\n");
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn decode_lines<T, C: FromIterator<T>>(
    text: &str,
    entry: impl Fn(&[&str]) -> Option<T>,
) -> Option<C> {
    let mut lines = text.lines();
    if lines.next()?.trim() != VERSION {
        return None;
    }
    let count: usize = lines.next()?.trim().parse().ok()?;
    let mut found = 0;
    let entries = lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            found += 1;
            entry(&line.split_whitespace().collect::<Vec<_>>())
        })
        .collect::<Option<C>>()?;
    (found == count).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_kafka_writes_them() {
        let offsets = BTreeMap::from([
            (TopicPartition::new("a", 0), 5),
            (TopicPartition::new("b-c", 11), 1 << 40),
        ]);
        let text = encode_offsets(&offsets);
        assert_eq!(text, "0\n2\na 0 5\nb-c 11 1099511627776\n");
        assert_eq!(decode_offsets(&text), Some(offsets));
    }

    #[test]
    fn a_damaged_checkpoint_is_none() {
        for text in ["", "1\n0\n", "0\n", "0\n2\na 0 1\n", "0\n1\na 0\n", "0\n1\na 0 x\n", "0\nx\n"]
        {
            assert_eq!(decode_offsets(text), None, "{text:?}");
        }
        for text in ["0\n1\na 0 -1\n", "0\n1\na 0 9223372036854775807\n"] {
            assert_eq!(decode_offsets(text), None, "{text:?}");
        }
        for text in ["0\n2\n1 0\n1 5\n", "0\n2\n1 5\n2 5\n", "0\n1\n-1 0\n"] {
            assert_eq!(decode_epochs(text), None, "{text:?}");
        }
        assert_eq!(decode_epochs("0\n0\n"), Some(EpochCache::default()));
    }
}
