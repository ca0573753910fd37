//! What all processes of a sandbox hold of the machine's memory, as `/proc` of their namespace tells it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often memory is looked at.
pub(super) const EVERY: Duration = Duration::from_millis(500);

/// Looks at memory by the clock.
pub(super) struct Watch {
    limit_mib: u64,
    looked: Instant,
}

impl Watch {
    pub(super) fn new(limit_mib: u64) -> Self {
        Self { limit_mib, looked: Instant::now() }
    }

    /// Whether it is time to look, and too much is held.
    pub(super) fn is_exceeded(&mut self) -> bool {
        if self.looked.elapsed() < EVERY {
            return false;
        }
        let limit = self.limit_mib.saturating_mul(1024);
        // The first is cheap and counts what is shared more than once; the second does not.
        let exceeded = sum(resident) > limit && sum(|path| share(path).unwrap_or_else(|| resident(path))) > limit;
        self.looked = Instant::now();
        exceeded
    }
}

/// The sum over all processes but the first, which is the helper's.
fn sum(of: impl Fn(&Path) -> u64) -> u64 {
    let folders = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let is_process = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name != "1" && name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
    };
    folders.filter(is_process).map(|path| of(&path)).sum()
}

/// KiB of one process. Everybody may read this.
fn resident(process: &Path) -> u64 {
    fs::read_to_string(process.join("status")).map_or(0, |text| fields(&text, &["RssAnon", "RssShmem"]))
}

/// KiB of one process, its part of what is shared. A process can forbid to read this.
fn share(process: &Path) -> Option<u64> {
    let text = fs::read_to_string(process.join("smaps_rollup")).ok()?;
    Some(fields(&text, &["Pss_Anon", "Pss_Shmem"]))
}

/// The sum of some lines of `name: KiB kB`.
fn fields(text: &str, names: &[&str]) -> u64 {
    let lines = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| names.contains(name));
    lines.filter_map(|(_, value)| value.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_summed() {
        let text = "Rss: 900 kB\nPss_Anon:   40 kB\nPss_Shmem: 2 kB\nPss_File: 7 kB\nPss_Anon: x\n";
        assert_eq!(fields(text, &["Pss_Anon", "Pss_Shmem"]), 42);
        assert!(resident(Path::new("/proc/self")) > 0 && share(Path::new("/proc/self")).unwrap() > 0);
        assert_eq!(resident(Path::new("/proc/none")), 0);
    }
}
