//! Entries' access clocks as files know them: seconds of idleness under LRU
//! policies, a counter under LFU policies.

use super::rdb::encode::Access;
use crate::base::clock::UnixMs;
use crate::command::cx::Options;
use crate::store::clock;
use crate::store::entry::Entry;

/// What a file says of an entry; nothing unless the policy keeps account.
pub fn of(entry: &Entry, policy: Policy, now: UnixMs) -> Access {
    match policy {
        Policy::Other => Access::None,
        Policy::Lru => Access::Idle(clock::idle_seconds(entry.clock(), now)),
        Policy::Lfu { decay_minutes } => {
            Access::Freq(clock::lfu_decayed(entry.clock(), clock::minutes(now), decay_minutes))
        }
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
        Access::Freq(counter) if lfu => Some(clock::lfu(counter, clock::minutes(now))),
        Access::Idle(seconds) if !lfu => Some(clock::lru_of_idle(seconds, now)),
        _ => None,
    }
}
