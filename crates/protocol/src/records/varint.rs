//! The zigzag variable-length integers inside of records, which are bounded: five bytes for 32
//! bits, ten for 64.

/// Why a number could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VarintError {
    Truncated,
    TooLong,
}

pub(super) fn read_i32(bytes: &mut &[u8]) -> Result<i32, VarintError> {
    let raw = read_u64(bytes, 5)?;
    // Java, too, drops what a fifth byte holds beyond 32 bits.
    let raw = raw as u32;
    Ok(((raw >> 1) as i32) ^ -((raw & 1) as i32))
}

pub(super) fn read_i64(bytes: &mut &[u8]) -> Result<i64, VarintError> {
    let raw = read_u64(bytes, 10)?;
    Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
}

fn read_u64(bytes: &mut &[u8], len_max: usize) -> Result<u64, VarintError> {
    let mut value = 0;
    for at in 0..len_max {
        let Some(&byte) = bytes.get(at) else { return Err(VarintError::Truncated) };
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Ok(value);
        }
    }
    Err(VarintError::TooLong)
}

pub(super) fn put_i32(output: &mut Vec<u8>, value: i32) {
    put_u64(output, u64::from(zigzag_i32(value)));
}

pub(super) fn put_i64(output: &mut Vec<u8>, value: i64) {
    put_u64(output, zigzag_i64(value));
}

pub(super) fn len_i32(value: i32) -> usize {
    len_u64(u64::from(zigzag_i32(value)))
}

pub(super) fn len_i64(value: i64) -> usize {
    len_u64(zigzag_i64(value))
}

fn zigzag_i32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn zigzag_i64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn put_u64(output: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        output.push(value as u8 | 0x80);
        value >>= 7;
    }
    output.push(value as u8);
}

fn len_u64(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
