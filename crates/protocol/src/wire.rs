//! The constants of the wire format.

/// The longest string that Kafka writes or accepts, in bytes.
pub const STRING_LEN_MAX: usize = i16::MAX as usize;
/// The most bytes of an unsigned 32-bit varint.
pub const VARINT_LEN_MAX: usize = 5;
/// The largest fifth byte of an unsigned 32-bit varint.
pub const VARINT_TAIL_MAX: u8 = 0x0f;
/// The bytes of a uuid.
pub const UUID_LEN: usize = 16;
/// Null as the length of a fixed-form string, bytes or array, and before a null structure.
pub const FIXED_NULL: i8 = -1;
/// What stands before a structure that is present and could be null.
pub const STRUCT_PRESENT: i8 = 1;
/// Null as the length of a compact string, bytes or array.
pub const COMPACT_NULL: u32 = 0;
/// The bytes of a frame's length prefix.
pub const FRAME_LEN_LEN: usize = 4;
