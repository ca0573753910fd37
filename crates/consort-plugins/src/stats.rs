//! How a plugin's calls went.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Calls whose times are remembered.
const WINDOW: usize = 1_000;

/// Counts since the mesh started.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub calls: AtomicU64,
    pub failures: AtomicU64,
    pub restarts: AtomicU32,
    pub in_flight: AtomicU32,
    times: Mutex<VecDeque<Duration>>,
}

impl Stats {
    /// A call ended.
    pub(crate) fn count(&self, took: Duration, failed: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(failed), Ordering::Relaxed);
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == WINDOW {
            times.pop_front();
        }
        times.push_back(took);
    }

    /// Median and 99th percentile of the last calls.
    pub(crate) fn latency(&self) -> Option<(Duration, Duration)> {
        let mut times: Vec<Duration> =
            self.times.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        Some((times[last / 2], times[last * 99 / 100]))
    }
}

/// Resident bytes of a process; 0 where that is not known.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_calls_count() {
        let stats = Stats::default();
        assert_eq!(stats.latency(), None);
        for millis in 0..2_000 {
            stats.count(Duration::from_millis(millis), millis % 2 == 0);
        }
        assert_eq!((stats.calls.into_inner(), stats.failures.into_inner()), (2_000, 1_000));
        let stats = Stats::default();
        for millis in 1..=3 {
            stats.count(Duration::from_millis(millis), false);
        }
        assert_eq!(stats.latency(), Some((Duration::from_millis(2), Duration::from_millis(2))));
        assert!(memory(std::process::id()) > 0);
    }
}
