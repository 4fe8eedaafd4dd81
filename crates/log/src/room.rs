//! Refusing appends while there is still room for everything else (hazard 47).
//!
//! A disk that is full to the last byte takes no registration and no checkpoint either: the broker
//! on it could neither stop in order nor start again. So appends end a little earlier.

use std::sync::atomic::{AtomicI64, Ordering};

use klamm_env::files::{Space, Volume};

/// What appends leave free, on a disk that is large enough.
const RESERVED_BYTES_MAX: u64 = 16 << 20;
/// What they leave free of a smaller one, as a divisor of its size.
const RESERVED_SHARE: u64 = 16;
/// The most that is granted between two looks, since others write to the disk too.
const GRANT_BYTES_MAX: u64 = 16 << 20;
/// The share of what is free that is granted between two looks, as a divisor.
const GRANT_SHARE: u64 = 8;

/// What the logs of one directory may append before somebody looks at the disk again.
#[derive(Debug, Default)]
pub(crate) struct Room {
    granted: AtomicI64,
}

impl Room {
    /// Whether `bytes` more may be appended.
    pub(crate) fn take(&self, bytes: u64, volume: &dyn Volume) -> bool {
        let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.granted.fetch_sub(wanted, Ordering::Relaxed) >= wanted {
            return true;
        }
        // A disk that cannot say how full it is says so when it is.
        let Ok(space) = volume.space() else { return true };
        let spare = spare(space);
        let granted = spare.saturating_sub(bytes) / GRANT_SHARE;
        let granted = i64::try_from(granted.min(GRANT_BYTES_MAX)).unwrap_or(0);
        self.granted.store(granted, Ordering::Relaxed);
        bytes <= spare
    }
}

/// What is free beyond the reserve.
fn spare(space: Space) -> u64 {
    let reserved = RESERVED_BYTES_MAX.min(space.total / RESERVED_SHARE);
    space.available.saturating_sub(reserved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::atomic::AtomicU64;

    /// A volume of 160 MiB whose free space the test says; counts the looks at it.
    struct Disk(AtomicU64, AtomicU64);

    impl Volume for Disk {
        fn sync_all(&self) -> io::Result<()> {
            Ok(())
        }

        fn space(&self) -> io::Result<Space> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(Space { available: self.0.load(Ordering::Relaxed), total: 160 << 20 })
        }
    }

    #[test]
    fn appends_end_before_the_disk_is_full_and_begin_again_with_room() {
        let disk = Disk(AtomicU64::new(100 << 20), AtomicU64::new(0));
        let room = Room::default();
        let mut left = 100 << 20;
        while room.take(1 << 20, &disk) {
            left -= 1 << 20;
            disk.0.store(left, Ordering::Relaxed);
        }
        assert_eq!(left, 10 << 20, "a sixteenth is left");
        assert!(!room.take(1, &disk));
        disk.0.store(11 << 20, Ordering::Relaxed);
        assert!(room.take(1 << 20, &disk));
    }

    #[test]
    fn a_disk_with_room_is_looked_at_rarely() {
        let disk = Disk(AtomicU64::new(150 << 20), AtomicU64::new(0));
        let room = Room::default();
        assert!((0..10_000).all(|_| room.take(1024, &disk)));
        assert!(disk.1.load(Ordering::Relaxed) <= 2);
    }
}
