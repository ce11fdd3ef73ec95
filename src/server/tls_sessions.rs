//! TLS sessions that may be resumed (`tls-session-caching`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::server::StoresServerSessions;

/// Sessions kept when `tls-session-cache-size` is 0, which means no limit of
/// its own.
const SESSIONS_MAX: usize = 1 << 20;

/// Sessions by the key that the client presents. Shared by all cores and
/// touched only in handshakes; the oldest gives way to the newest.
#[derive(Debug)]
pub struct Sessions {
    max: usize,
    lifetime: Duration,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_key: HashMap<Vec<u8>, (Instant, Vec<u8>)>,
    /// Keys in the order in which they came; some may be gone already.
    order: VecDeque<Vec<u8>>,
}

impl Sessions {
    pub fn new(max: usize, lifetime_s: u32) -> Sessions {
        let max = if max == 0 { SESSIONS_MAX } else { max };
        Sessions { max, lifetime: Duration::from_secs(lifetime_s.into()), held: Mutex::default() }
    }

    fn fresh(&self, (since, value): (Instant, Vec<u8>)) -> Option<Vec<u8>> {
        (since.elapsed() < self.lifetime).then_some(value)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while held.order.len() >= self.max {
            if let Some(oldest) = held.order.pop_front() {
                held.by_key.remove(&oldest);
            }
        }
        if held.by_key.insert(key.clone(), (Instant::now(), value)).is_none() {
            held.order.push_back(key);
        }
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.by_key.get(key).cloned().and_then(|s| self.fresh(s))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.by_key.remove(key).and_then(|s| self.fresh(s))
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_few_and_do_not_last() {
        let s = Sessions::new(2, 300);
        for i in 0..3u8 {
            assert!(s.put(vec![i], vec![i]));
        }
        assert_eq!(s.get(&[0]), None);
        assert_eq!(s.get(&[1]), Some(vec![1]));
        assert_eq!(s.take(&[2]), Some(vec![2]));
        assert_eq!(s.take(&[2]), None);
        let s = Sessions::new(0, 0);
        s.put(vec![1], vec![1]);
        assert_eq!(s.get(&[1]), None);
    }
}
