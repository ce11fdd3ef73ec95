//! Entries' access clocks as files know them: seconds of idleness under LRU
//! policies, a counter under LFU policies.

use super::rdb::encode::Access;
use crate::base::clock::UnixMs;
use crate::command::cx::{Options, lfu_decayed};
use crate::store::entry::Entry;

const SECONDS_MASK: u32 = 0x00FF_FFFF;

/// What a file says of an entry; nothing unless the policy keeps account.
pub fn of(entry: &Entry, policy: Policy, now: UnixMs) -> Access {
    match policy {
        Policy::Other => Access::None,
        Policy::Lru => {
            let seconds = (now / 1000) as u32;
            Access::Idle(u64::from(seconds.wrapping_sub(entry.clock()) & SECONDS_MASK))
        }
        Policy::Lfu { decay_minutes } => Access::Freq(lfu_decayed(entry.clock(), (now / 60_000) as u16, decay_minutes)),
    }
}

/// What account the eviction policy keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Lru,
    Lfu { decay_minutes: u32 },
    Other,
}

impl Policy {
    /// `lru`: is it one of the LRU policies?
    pub fn new(options: &Options, lru: bool) -> Policy {
        match (options.lfu_policy, lru) {
            (true, _) => Policy::Lfu { decay_minutes: options.lfu_decay_minutes },
            (_, true) => Policy::Lru,
            _ => Policy::Other,
        }
    }
}

/// The clock of an entry of which this was said; nothing if it was not said in
/// the policy's terms.
pub fn clock(access: Access, lfu: bool, now: UnixMs) -> Option<u32> {
    match access {
        Access::Freq(counter) if lfu => Some(u32::from((now / 60_000) as u16) << 8 | u32::from(counter)),
        Access::Idle(seconds) if !lfu => {
            // Idle for longer than the clock can say: as long as it can.
            let idle = seconds.min(u64::from(SECONDS_MASK / 2)) as u32;
            Some(((now / 1000) as u32).wrapping_sub(idle) & SECONDS_MASK)
        }
        _ => None,
    }
}
