//! Writing the wire's primitives.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::codec::{Encode, EncodeError, Records};
use crate::wire::{COMPACT_NULL, FIXED_NULL, STRING_LEN_MAX, STRUCT_PRESENT};

/// A place in encoded bytes where bytes from elsewhere (a file) go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The index in [`Encoded::bytes`] before which the foreign bytes are sent.
    pub at: usize,
    /// How many bytes are sent there.
    pub len: u32,
}

/// What a [`Writer`] has collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The bytes written, without those that belong into the gaps.
    pub bytes: Bytes,
    /// Where foreign bytes go, in ascending order.
    pub gaps: Vec<Gap>,
}

impl Encoded {
    /// The length on the wire, gaps included.
    pub fn wire_len(&self) -> usize {
        self.bytes.len() + gaps_len(&self.gaps)
    }
}

fn gaps_len(gaps: &[Gap]) -> usize {
    gaps.iter().map(|gap| gap.len as usize).sum()
}

/// A growing buffer that knows the wire's forms.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: BytesMut,
    gaps: Vec<Gap>,
}

impl Writer {
    /// Starts empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(capacity), gaps: Vec::new() }
    }

    /// Bytes written so far, without gaps.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes written so far, with what the gaps will hold.
    pub fn wire_len(&self) -> usize {
        self.bytes.len() + gaps_len(&self.gaps)
    }

    /// Ends writing.
    pub fn finish(self) -> Encoded {
        Encoded { bytes: self.bytes.freeze(), gaps: self.gaps }
    }

    /// Overwrites four bytes written before.
    ///
    /// # Panics
    /// If fewer than four bytes have been written from `at` on.
    pub fn set_i32(&mut self, at: usize, value: i32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.put_slice(bytes);
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.bytes.put_u8(value.into());
    }

    /// A signed byte.
    pub fn i8(&mut self, value: i8) {
        self.bytes.put_i8(value);
    }

    /// Two bytes, big-endian, signed.
    pub fn i16(&mut self, value: i16) {
        self.bytes.put_i16(value);
    }

    /// Two bytes, big-endian, unsigned.
    pub fn u16(&mut self, value: u16) {
        self.bytes.put_u16(value);
    }

    /// Four bytes, big-endian, signed.
    pub fn i32(&mut self, value: i32) {
        self.bytes.put_i32(value);
    }

    /// Four bytes, big-endian, unsigned.
    pub fn u32(&mut self, value: u32) {
        self.bytes.put_u32(value);
    }

    /// Eight bytes, big-endian, signed.
    pub fn i64(&mut self, value: i64) {
        self.bytes.put_i64(value);
    }

    /// Eight bytes, IEEE 754.
    pub fn f64(&mut self, value: f64) {
        self.bytes.put_f64(value);
    }

    /// Sixteen bytes, most significant first.
    pub fn uuid(&mut self, value: Uuid) {
        self.bytes.put_slice(value.as_bytes());
    }

    /// Seven bits a byte, least significant first.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }

    fn compact_len(&mut self, len: usize) -> Result<(), EncodeError> {
        let len = i32::try_from(len).map_err(|_| EncodeError::TooLong { len })?;
        self.unsigned_varint(len as u32 + 1);
        Ok(())
    }

    fn len_i32(&mut self, len: usize, flexible: bool) -> Result<(), EncodeError> {
        if flexible {
            return self.compact_len(len);
        }
        self.i32(i32::try_from(len).map_err(|_| EncodeError::TooLong { len })?);
        Ok(())
    }

    /// The null of bytes and arrays.
    fn null_i32(&mut self, flexible: bool) {
        if flexible {
            self.unsigned_varint(COMPACT_NULL);
        } else {
            self.i32(FIXED_NULL.into());
        }
    }

    /// A string.
    pub fn string(&mut self, value: &str, flexible: bool) -> Result<(), EncodeError> {
        let len = value.len();
        if len > STRING_LEN_MAX {
            return Err(EncodeError::TooLong { len });
        }
        if flexible {
            self.compact_len(len)?;
        } else {
            self.i16(len as i16);
        }
        self.raw(value.as_bytes());
        Ok(())
    }

    /// A string or null.
    pub fn nullable_string(
        &mut self,
        value: Option<&str>,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => return self.string(value, flexible),
            None if flexible => self.unsigned_varint(COMPACT_NULL),
            None => self.i16(FIXED_NULL.into()),
        }
        Ok(())
    }

    /// Bytes with their length before them.
    pub fn bytes(&mut self, value: &[u8], flexible: bool) -> Result<(), EncodeError> {
        self.len_i32(value.len(), flexible)?;
        self.raw(value);
        Ok(())
    }

    /// Bytes or null.
    pub fn nullable_bytes(
        &mut self,
        value: Option<&[u8]>,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(value, flexible),
            None => {
                self.null_i32(flexible);
                Ok(())
            }
        }
    }

    /// Record batches, inline or as a gap.
    pub fn records(&mut self, value: &Records, flexible: bool) -> Result<(), EncodeError> {
        match *value {
            Records::Inline(ref bytes) => self.bytes(bytes, flexible),
            Records::External { len } => {
                self.len_i32(len as usize, flexible)?;
                if len > 0 {
                    self.gaps.push(Gap { at: self.bytes.len(), len });
                }
                Ok(())
            }
        }
    }

    /// An array, element by element.
    pub fn array<T>(
        &mut self,
        elements: &[T],
        flexible: bool,
        mut element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.len_i32(elements.len(), flexible)?;
        elements.iter().try_for_each(|value| element(self, value))
    }

    /// An array or null.
    pub fn nullable_array<T>(
        &mut self,
        elements: Option<&[T]>,
        flexible: bool,
        element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match elements {
            Some(elements) => self.array(elements, flexible, element),
            None => {
                self.null_i32(flexible);
                Ok(())
            }
        }
    }

    /// An array of structures.
    pub fn structs<T: Encode>(
        &mut self,
        elements: &[T],
        flexible: bool,
        version: i16,
    ) -> Result<(), EncodeError> {
        self.array(elements, flexible, |w, value| value.encode(w, version))
    }

    /// An array of structures or null.
    pub fn nullable_structs<T: Encode>(
        &mut self,
        elements: Option<&[T]>,
        flexible: bool,
        version: i16,
    ) -> Result<(), EncodeError> {
        self.nullable_array(elements, flexible, |w, value| value.encode(w, version))
    }

    /// A structure or null.
    pub fn nullable_struct<T: Encode>(
        &mut self,
        value: Option<&T>,
        version: i16,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => {
                self.i8(STRUCT_PRESENT);
                value.encode(self, version)
            }
            None => {
                self.i8(FIXED_NULL);
                Ok(())
            }
        }
    }

    /// The end of a structure that has no tagged field to write.
    pub fn no_tagged_fields(&mut self) {
        self.unsigned_varint(0);
    }

    /// The tagged fields of a structure.
    pub fn tagged_fields(&mut self, fields: &TaggedFields) -> Result<(), EncodeError> {
        self.unsigned_varint(fields.count);
        self.raw(&fields.encoded.bytes);
        Ok(())
    }
}

/// Tagged fields in the making, in ascending order of their tags.
#[derive(Debug, Default)]
pub struct TaggedFields {
    count: u32,
    encoded: Writer,
}

impl TaggedFields {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the field `tag` with what `value` writes.
    pub fn add(
        &mut self,
        tag: u32,
        value: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut field = Writer::new();
        value(&mut field)?;
        let len = field.len();
        self.encoded.unsigned_varint(tag);
        self.encoded.unsigned_varint(u32::try_from(len).map_err(|_| EncodeError::TooLong { len })?);
        self.encoded.raw(&field.bytes);
        self.count += 1;
        Ok(())
    }
}
