//! Reading the wire's primitives out of one frame, without trusting a byte of it.

use bytes::Bytes;
use uuid::Uuid;

use crate::codec::{Decode, DecodeError};
use crate::wire::{COMPACT_NULL, STRING_LEN_MAX, UUID_LEN, VARINT_LEN_MAX, VARINT_TAIL_MAX};

/// What decoding may allocate whatever the input's length (see [`Reader::new`]).
pub const ALLOCATION_BASE: usize = 1024 * 1024;
/// What decoding may allocate in addition for each byte of input.
pub const ALLOCATION_PER_BYTE: usize = 16;

/// A cursor over one frame.
///
/// Every length is checked against the bytes that remain before anything is allocated, and all
/// allocations of one reader together stay within [`ALLOCATION_BASE`] plus
/// [`ALLOCATION_PER_BYTE`] times the input's length: values in memory are larger than on the wire
/// (an empty string is one byte there and 24 here), so that counts alone would not bound them.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    at: usize,
    end: usize,
    budget: usize,
}

impl Reader {
    /// Starts at the first byte of `frame`; byte fields will be slices that share it.
    pub fn new(frame: Bytes) -> Self {
        let end = frame.len();
        let budget = ALLOCATION_BASE.saturating_add(end.saturating_mul(ALLOCATION_PER_BYTE));
        Self { frame, at: 0, end, budget }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// The bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Everything that is left, without copying it.
    pub fn rest(&mut self) -> Bytes {
        let rest = self.frame.slice(self.at..self.end);
        self.at = self.end;
        rest
    }

    /// Succeeds if every byte has been read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { count }),
        }
    }

    fn take(&mut self, len: usize) -> Result<&[u8], DecodeError> {
        let from = self.at;
        self.skip(len)?;
        Ok(&self.frame[from..self.at])
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N)?);
        Ok(value)
    }

    /// Passes over `len` bytes.
    pub fn skip(&mut self, len: usize) -> Result<(), DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::UnexpectedEnd { needed: len, remaining: self.remaining() });
        }
        self.at += len;
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(DecodeError::OverBudget { wanted: bytes, left: self.budget }),
        }
    }

    /// Any byte but zero is true, as in Kafka.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// A signed byte.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.fixed().map(i8::from_be_bytes)
    }

    /// Two bytes, big-endian, signed.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.fixed().map(i16::from_be_bytes)
    }

    /// Two bytes, big-endian, unsigned.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.fixed().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian, signed.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// Four bytes, big-endian, unsigned.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian, signed.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// Eight bytes, IEEE 754.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.fixed().map(f64::from_be_bytes)
    }

    /// Sixteen bytes, most significant first.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.fixed::<UUID_LEN>().map(Uuid::from_bytes)
    }

    /// Seven bits a byte, least significant first, at most five bytes.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for nth in 0..VARINT_LEN_MAX {
            let byte = self.fixed::<1>()?[0];
            if nth == VARINT_LEN_MAX - 1 && byte > VARINT_TAIL_MAX {
                break;
            }
            value |= u32::from(byte & 0x7f) << (7 * nth);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// A length of the flexible (one more than it says, as a varint) or of the fixed form; `None`
    /// is null: any negative length, as in Kafka.
    fn length(
        &mut self,
        fixed: impl FnOnce(&mut Self) -> Result<i32, DecodeError>,
        flexible: bool,
    ) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return Ok(match self.unsigned_varint()? {
                COMPACT_NULL => None,
                len => Some(len as usize - 1),
            });
        }
        Ok(usize::try_from(fixed(self)?).ok())
    }

    /// A string that may be null.
    ///
    /// What is not UTF-8 is replaced as Kafka's own decoder does, not refused.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<String>, DecodeError> {
        let Some(len) = self.length(|r| r.i16().map(i32::from), flexible)? else {
            return Ok(None);
        };
        if len > STRING_LEN_MAX {
            return Err(DecodeError::StringTooLong { len });
        }
        let from = self.at;
        self.skip(len)?;
        // Worst case: each byte becomes a replacement character of three.
        self.charge(if self.frame[from..self.at].is_ascii() { len } else { 3 * len })?;
        let raw = &self.frame[from..self.at];
        Ok(Some(match std::str::from_utf8(raw) {
            Ok(valid) => valid.to_owned(),
            Err(_) => replace_malformed(raw),
        }))
    }

    /// A string that must not be null.
    pub fn string(&mut self, flexible: bool) -> Result<String, DecodeError> {
        self.nullable_string(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// Bytes that may be null, as a slice that shares the frame.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        let Some(len) = self.length(Self::i32, flexible)? else {
            return Ok(None);
        };
        let from = self.at;
        self.skip(len)?;
        Ok(Some(self.frame.slice(from..self.at)))
    }

    /// Bytes that must not be null, as a slice that shares the frame.
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// An array that may be null, whose elements take at least `element_len_min` bytes each.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        element_len_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(Self::i32, flexible)? else {
            return Ok(None);
        };
        let count_max = self.remaining() / element_len_min.max(1);
        if count > count_max {
            return Err(DecodeError::CountTooLarge { count, remaining: self.remaining() });
        }
        self.charge(count.saturating_mul(size_of::<T>()))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// An array that must not be null; see [`Reader::nullable_array`].
    pub fn array<T>(
        &mut self,
        flexible: bool,
        element_len_min: usize,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, element_len_min, element)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// An array of structures that may be null.
    pub fn nullable_structs<T: Decode>(
        &mut self,
        flexible: bool,
        version: i16,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        self.nullable_array(flexible, T::WIRE_LEN_MIN, |r| T::decode(r, version))
    }

    /// An array of structures that must not be null.
    pub fn structs<T: Decode>(
        &mut self,
        flexible: bool,
        version: i16,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_structs(flexible, version)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// A structure that may be null: a byte, negative for null, stands before it.
    pub fn nullable_struct<T: Decode>(&mut self, version: i16) -> Result<Option<T>, DecodeError> {
        if self.i8()? < 0 {
            return Ok(None);
        }
        T::decode(self, version).map(Some)
    }

    /// The tagged fields at a structure's end: `known` reads the ones it knows and answers true,
    /// the others are skipped. A field must fill its stated length exactly.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        if count as usize > self.remaining() / 2 {
            return Err(DecodeError::CountTooLarge {
                count: count as usize,
                remaining: self.remaining(),
            });
        }
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let len = self.unsigned_varint()? as usize;
            let from = self.at;
            self.skip(len)?;
            let (field_end, outer_end) = (self.at, self.end);
            (self.at, self.end) = (from, field_end);
            let is_known = known(self, tag)?;
            if is_known {
                self.finish()?;
            }
            (self.at, self.end) = (field_end, outer_end);
        }
        Ok(())
    }

    /// Passes over the tagged fields of a structure that knows none.
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(false))
    }
}

fn replace_malformed(raw: &[u8]) -> String {
    let mut text = String::with_capacity(3 * raw.len());
    for chunk in raw.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}
