//! How far a scenario goes.

use crate::seen::Seen;
use crate::state::Flush;

/// Bounds, and which kinds of steps a scenario has. All that is 0 or false does not happen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Brokers, 2 or 3; all are replicas.
    pub brokers: u8,
    /// The configured min.isr at the start.
    pub min_isr: u8,
    /// The flush class at the start.
    pub flush: Flush,
    /// Records that were appended, synced and committed everywhere before the start.
    pub preloaded: u8,
    /// Records that producers append.
    pub records: u8,
    /// The highest leader epoch; the scenario starts with 1.
    pub epochs: u8,
    /// The highest version of the state node; the scenario starts with 1.
    pub versions: u8,
    /// How many versions a reader may lag behind, at most [`crate::state::LAG`].
    pub lag: u8,

    /// Appends with acks=1 besides those with acks=all.
    pub weak_acks: bool,
    /// What is appended is synced at once: where no power is lost, a late sync differs in nothing
    /// from a late fetch.
    pub prompt_syncs: bool,
    /// Syncs have a beginning and an end.
    pub split_syncs: bool,
    /// Fetches and their answers spend time on the way.
    pub delayed_fetches: bool,
    /// R5: policy `fence` instead of `serve`.
    pub fence: bool,

    /// ISR changes that stay without an answer.
    pub unanswered: u8,
    /// Leases that run out.
    pub session_losses: u8,
    /// Stopped processes start again.
    pub restarts: bool,
    /// The high watermark survives its process, as its checkpoint may; otherwise it begins with 0.
    pub checkpointed: bool,
    /// A registration may land after its process has died.
    pub split_registration: bool,
    /// Processes that are killed.
    pub kills: u8,
    /// Clean stops.
    pub stops: u8,
    /// Power losses of one machine.
    pub power_losses: u8,
    /// Power losses of all brokers at once.
    pub blackouts: u8,
    /// Disks that are replaced by empty ones.
    pub wipes: u8,

    /// Leaders remove nobody from the ISR.
    pub no_shrinks: bool,
    /// The operator allows unclean elections.
    pub unclean: bool,
    /// The flush class changes.
    pub flush_changes: bool,
    /// min.isr changes between 1 and 2, and a partition may be without a leader.
    pub min_isr_changes: bool,
    /// There is a second controller, and an election may be in flight.
    pub controller_changes: bool,
    /// How often the topic is deleted and made again.
    pub recreations: u8,

    /// What must be reached.
    pub seen: &'static [Seen],
}
