//! Randomness.

use uuid::Uuid;

/// A source of random bytes, good enough for identifiers and nonces.
pub trait Random: Send + Sync + 'static {
    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);

    /// A random number.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A version 4 UUID that is none of those Kafka reserves (zero and one) and whose base64 form
    /// does not begin with a dash, so that command lines can carry it.
    fn uuid(&self) -> Uuid {
        loop {
            let mut bytes = [0; 16];
            self.fill(&mut bytes);
            let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
            // 62 is '-' in the URL-safe alphabet.
            if bytes[0] >> 2 != 62 {
                return id;
            }
        }
    }
}
