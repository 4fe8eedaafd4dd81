//! The rules that can be switched off, each by its number.

use std::fmt;

/// A rule, or a part of one, that the model can do without.
///
/// The code of a step asks [`Rules::on`] where the rule acts, so that a search for its name finds
/// the guard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rule {
    /// A restart within another boot is not sound while the class is os: the page cache is gone.
    /// Off: the boot id is not looked at.
    R2Boot,
    /// The boot id is kept with each pair. Off: one for the file, written with every attempt.
    R2BootOfPair,
    /// An attempted pair that the tree shows as registered becomes the registered one before the
    /// next attempt overwrites it.
    R2Promoted,
    /// An attempted pair is overwritten only when it cannot land any more.
    R2Settled,
    /// The registration pair names the incarnation, and is compared with the tree's.
    /// Off: only the number of the broker epoch is compared.
    R2Incarnation,
    /// A restart that is not sound ends the old listing. Off: every restart counts as sound.
    R3,
    /// Without a session a leader changes no state node.
    R5aNoTreeWrite,
    /// Without a session acks=1 is refused.
    R5bNoWeakAcks,
    /// A session registers first and reads then: it sees nothing older than its registration.
    R6RegisterThenRead,
    /// A controller's write checks the controller epoch.
    R8,
    /// Only a member of the ISR, else of the ELR, is elected.
    R12Candidates,
    /// The elected one's listed broker epoch is not older than its last unsound restart.
    R12Sound,
    /// An election checks the elected one's registration when it is stored.
    R12Checked,
    /// A process leads only in an epoch that was given to its own incarnation.
    R12OwnIncarnation,
    /// A state is applied only if it is newer than the applied one.
    R13,
    /// Fetches and epoch look-ups are answered only at the leader's own leader epoch.
    R14,
    /// A new leader records where its epoch starts.
    R15,
    /// A follower truncates by epoch handshake before it fetches at a new epoch.
    R16Handshake,
    /// An unclean election lets followers truncate below their high watermark.
    R16Unclean,
    /// Progress of an earlier broker epoch does not count.
    R17BrokerEpoch,
    /// Progress of an earlier leader epoch does not count.
    R17LeaderEpoch,
    /// A fetch offset says what is synced, unless the class is os.
    R17Synced,
    /// A leader's change copies the broker epochs that are listed.
    /// Off: the write lists everybody at the broker epoch that the tree shows.
    R18Copied,
    /// A leader's change checks the registrations of those that it adds, and its own.
    R18Checked,
    /// A sync that overlaps a truncation does not count.
    R18bOverlap,
    /// Every change of the flush class starts a new leader epoch.
    R18cEpoch,
    /// The class becomes acked only when all members are past the start of the syncing epoch.
    R18cToAcked,
    /// The class becomes os only when no member restarted out of a lost page cache.
    R18cToOs,
    /// The high watermark is a minimum over the maximal ISR. Off: over the ISR that is aimed at.
    R19Maximal,
    /// An ISR change of unknown outcome stays in the union. Off: it counts as failed.
    R19Unknown,
    /// Only success, or the tree's refusal of the version, settles an earlier unknown change.
    /// Off: any answer to a new compare-and-set does.
    R19Answer,
    /// Who is added to the ISR has reached the high watermark.
    R20Watermark,
    /// Who is added to the ISR has reached the start of the leader epoch.
    R20EpochStart,
    /// Below min.isr acks=all is refused and the high watermark stands still.
    R21Frozen,
    /// A waiter belongs to its leader epoch.
    R21Waiter,
    /// The ELR is emptied when the ISR reaches min.isr again.
    R22Emptied,
    /// Lowering min.isr clears the ELR.
    R22Lowering,
    /// A new topic id is a new partition: nothing of the old one is kept or compared.
    R26,
}

/// Which rules hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    off: u64,
}

impl Rules {
    /// The rules as written.
    pub const ALL: Self = Self { off: 0 };

    /// All rules but one.
    pub fn without(rule: Rule) -> Self {
        Self { off: 1 << rule as u8 }
    }

    /// Whether the rule holds.
    pub fn on(self, rule: Rule) -> bool {
        self.off & (1 << rule as u8) == 0
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Rule {
    /// Every rule that can be switched off.
    pub const EACH: &[Self] = &[
        Self::R2Boot,
        Self::R2BootOfPair,
        Self::R2Promoted,
        Self::R2Settled,
        Self::R2Incarnation,
        Self::R3,
        Self::R5aNoTreeWrite,
        Self::R5bNoWeakAcks,
        Self::R6RegisterThenRead,
        Self::R8,
        Self::R12Candidates,
        Self::R12Sound,
        Self::R12Checked,
        Self::R12OwnIncarnation,
        Self::R13,
        Self::R14,
        Self::R15,
        Self::R16Handshake,
        Self::R16Unclean,
        Self::R17BrokerEpoch,
        Self::R17LeaderEpoch,
        Self::R17Synced,
        Self::R18Copied,
        Self::R18Checked,
        Self::R18bOverlap,
        Self::R18cEpoch,
        Self::R18cToAcked,
        Self::R18cToOs,
        Self::R19Maximal,
        Self::R19Unknown,
        Self::R19Answer,
        Self::R20Watermark,
        Self::R20EpochStart,
        Self::R21Frozen,
        Self::R21Waiter,
        Self::R22Emptied,
        Self::R22Lowering,
        Self::R26,
    ];

    /// The rule of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::EACH.iter().copied().find(|rule| rule.to_string() == name)
    }
}
