//! What the records of a benchmark say, so that a reader can tell whether it is what was written.
//!
//! A value begins with a mark of [`MARK_BYTES`]: CRC-32C of all that follows it, the run, the
//! number of the record in the run and when it was sent. The rest is filling.

use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;
use klamm_env::Random;

/// The shortest value: a mark and nothing else.
pub(crate) const MARK_BYTES: usize = 24;
/// Bytes of the CRC, which does not cover itself.
const CRC_BYTES: usize = 4;
/// Filling that is made once; records take theirs from different places.
const POOL_BYTES: usize = 1 << 20;
/// A prime, so that the places come round late.
const POOL_STEP: u64 = 7919;
/// Few enough words that the text compresses as logs and JSON do: 2.5 times by lz4, 3.8 by zstd.
const WORDS: usize = 128;
const WORD_BYTES_MIN: usize = 3;
const WORD_BYTES_SPREAD: u64 = 8;

/// What records are filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Content {
    /// Random bytes: no codec makes them smaller
    Random,
    /// Words: codecs make them two to four times smaller
    Text,
}

/// The numbers of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Whose record it is: a random number of each producer of each run.
    pub(crate) run: u32,
    /// From 0 on, in the order of sending.
    pub(crate) sequence: u64,
    /// By the sender's monotonic clock.
    pub(crate) sent_us: u64,
}

/// Makes values.
pub(crate) struct Payload {
    run: u32,
    pool: Vec<u8>,
    value_bytes: usize,
}

impl Payload {
    /// Values of `value_bytes`, which are at least [`MARK_BYTES`].
    pub(crate) fn new(random: &dyn Random, content: Content, value_bytes: usize) -> Payload {
        assert!(value_bytes >= MARK_BYTES, "{value_bytes} bytes hold no mark");
        let mut pool = vec![0; POOL_BYTES + value_bytes];
        match content {
            Content::Random => random.fill(&mut pool),
            Content::Text => fill_with_words(random, &mut pool),
        }
        // Half of the number is enough to tell runs apart.
        Payload { run: random.u64() as u32, pool, value_bytes }
    }

    pub(crate) fn run(&self) -> u32 {
        self.run
    }

    /// The value of record `sequence`.
    pub(crate) fn value(&self, sequence: u64, sent_us: u64) -> Bytes {
        let place = (sequence.wrapping_mul(POOL_STEP) % POOL_BYTES as u64) as usize;
        let mut value = BytesMut::with_capacity(self.value_bytes);
        value.put_u32(0);
        value.put_u32(self.run);
        value.put_u64(sequence);
        value.put_u64(sent_us);
        value.put_slice(&self.pool[place..place + self.value_bytes - MARK_BYTES]);
        let crc = crc32c::crc32c(&value[CRC_BYTES..]);
        value[..CRC_BYTES].copy_from_slice(&crc.to_be_bytes());
        value.freeze()
    }
}

/// The mark of a value, unless it is not what a benchmark wrote.
pub(crate) fn read(value: &[u8]) -> Option<Mark> {
    let (crc, rest) = value.split_first_chunk::<CRC_BYTES>()?;
    let (run, numbers) = rest.split_first_chunk()?;
    let (sequence, numbers) = numbers.split_first_chunk()?;
    let (sent_us, _) = numbers.split_first_chunk()?;
    (crc32c::crc32c(rest) == u32::from_be_bytes(*crc)).then(|| Mark {
        run: u32::from_be_bytes(*run),
        sequence: u64::from_be_bytes(*sequence),
        sent_us: u64::from_be_bytes(*sent_us),
    })
}

fn fill_with_words(random: &dyn Random, pool: &mut [u8]) {
    let mut numbers = vec![0; pool.len().next_multiple_of(2)];
    random.fill(&mut numbers);
    let mut letters = vec![0; WORDS * (WORD_BYTES_MIN + WORD_BYTES_SPREAD as usize)];
    random.fill(&mut letters);
    for letter in &mut letters {
        *letter = b'a' + *letter % 26;
    }
    let word_bytes_max = letters.len() / WORDS;
    let mut words = numbers.chunks_exact(2).map(|pair| {
        let word = usize::from(u16::from_be_bytes([pair[0], pair[1]])) % WORDS;
        let bytes = WORD_BYTES_MIN + word % WORD_BYTES_SPREAD as usize;
        &letters[word * word_bytes_max..][..bytes]
    });
    let mut filled = 0;
    while filled < pool.len() {
        let word = words.next().expect("a word for every two bytes");
        let rest = &mut pool[filled..];
        let bytes = word.len().min(rest.len());
        rest[..bytes].copy_from_slice(&word[..bytes]);
        filled += bytes + 1;
        if let Some(space) = rest.get_mut(bytes) {
            *space = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use klamm_env::Env;
    use klamm_protocol::compression::{Compression, compress};

    use super::*;

    fn payload(content: Content, value_bytes: usize) -> Payload {
        let env = Env::real().expect("the machine's seams");
        Payload::new(&*env.random, content, value_bytes)
    }

    #[test]
    fn a_value_is_read_back_and_any_flipped_bit_is_seen() {
        for value_bytes in [MARK_BYTES, MARK_BYTES + 1, 100] {
            let payload = payload(Content::Random, value_bytes);
            let value = payload.value(u64::MAX - 3, 77);
            assert_eq!(value.len(), value_bytes);
            let mark = Mark { run: payload.run(), sequence: u64::MAX - 3, sent_us: 77 };
            assert_eq!(read(&value), Some(mark));
            for at in 0..value_bytes {
                let mut spoilt = value.to_vec();
                spoilt[at] ^= 4;
                assert_eq!(read(&spoilt), None, "at {at}");
            }
            assert_eq!(read(&value[..value_bytes - 1]), None);
        }
        assert_eq!(read(b""), None);
        assert_eq!(read(b"somebody else's record, long enough"), None);
    }

    #[test]
    fn text_compresses_two_to_four_times_and_random_bytes_do_not() {
        for (content, codec, least, most) in [
            (Content::Text, Compression::Lz4, 0.35, 0.50),
            (Content::Text, Compression::Zstd, 0.23, 0.35),
            (Content::Random, Compression::Zstd, 0.95, 1.05),
        ] {
            let payload = payload(content, 1000);
            let values: Vec<u8> = (0..64).flat_map(|n| payload.value(n, 0)).collect();
            let compressed = compress(codec, None, &values).expect("compresses");
            let ratio = compressed.len() as f64 / values.len() as f64;
            assert!((least..most).contains(&ratio), "{content:?} by {codec:?}: {ratio}");
        }
    }
}
