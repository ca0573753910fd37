//! What the process uses, as the kernel says.

use std::time::Instant;

use consort_proto::agent::Renew;

/// Ticks a second in `/proc/self/stat`: the same on every Linux, whatever the kernel's own clock.
const TICKS: f64 = 100.0;

/// Measures the process from one renewal to the next. Where there is no `/proc` everything is 0.
pub(super) struct Vitals {
    measured_at: Instant,
    ticks: u64,
}

impl Vitals {
    pub(super) fn new() -> Vitals {
        Vitals { measured_at: Instant::now(), ticks: cpu_ticks().unwrap_or_default() }
    }

    /// CPU since the last call as a share of one core, and resident memory in bytes.
    pub(super) fn measure(&mut self) -> Renew {
        let ticks = cpu_ticks().unwrap_or_default();
        let elapsed = self.measured_at.elapsed().as_secs_f64();
        let used = ticks.saturating_sub(self.ticks) as f64 / TICKS;
        // Ticks are too coarse for a share of less than a tenth of a second.
        let cpu = if elapsed < 0.1 { 0.0 } else { used / elapsed };
        *self = Vitals { measured_at: Instant::now(), ticks };
        Renew { cpu, memory_bytes: resident_bytes().unwrap_or_default() }
    }
}

/// User and system time of all threads.
fn cpu_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may contain spaces; utime and stime are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()? * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_uses_cpu_and_memory() {
        let mut vitals = Vitals::new();
        let start = Instant::now();
        let mut sum = 0u64;
        while start.elapsed().as_millis() < 300 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let renew = vitals.measure();
        assert!(renew.cpu > 0.05 && renew.cpu < 64.0, "cpu {}", renew.cpu);
        assert!(renew.memory_bytes > 1024 * 1024, "memory {}", renew.memory_bytes);
    }
}
