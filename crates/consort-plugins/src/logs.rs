//! What a plugin prints, read with limits: lines are cut, floods are counted instead of kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes of a line; what is longer is cut.
const LINE: usize = 8 * 1024;
/// Lines that are remembered.
const KEPT: usize = 100;
/// Lines that are logged in a window; further ones are counted.
const PER_WINDOW: u32 = 1_000;
const WINDOW: Duration = Duration::from_secs(10);

/// The last lines of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logs(Arc<Mutex<VecDeque<String>>>);

impl Logs {
    fn keep(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// The last lines, at most so many, as one text.
    pub(crate) fn last(&self, count: usize) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = lines.len().saturating_sub(count);
        lines.iter().skip(from).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Reads lines until the stream ends.
    pub(crate) async fn follow(self, id: Arc<str>, from: impl AsyncRead + Unpin) {
        self.take(id, &mut Lines::new(from)).await;
    }

    async fn take(&self, id: Arc<str>, lines: &mut Lines<impl AsyncRead + Unpin>) {
        let (mut begun, mut seen) = (Instant::now(), 0u32);
        while let Some(line) = lines.next().await {
            if begun.elapsed() >= WINDOW {
                if seen > PER_WINDOW {
                    tracing::warn!(plugin = %id, "{} more lines were not logged", seen - PER_WINDOW);
                }
                (begun, seen) = (Instant::now(), 0);
            }
            seen = seen.saturating_add(1);
            if seen <= PER_WINDOW {
                tracing::info!(target: "plugin", plugin = %id, "{line}");
                self.keep(&line);
            }
        }
    }
}

/// Lines of a stream, each at most [`LINE`] bytes.
pub(crate) struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    /// What is left of a line that was cut is passed over.
    passing: bool,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(from: R) -> Lines<R> {
        Lines { from, buffer: Vec::with_capacity(LINE), passing: false, ended: false }
    }

    /// The next line without its end; what is no UTF-8 is replaced.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if std::mem::take(&mut self.passing) {
                    continue;
                }
                return Some(text(&line));
            }
            if self.passing {
                self.buffer.clear();
            } else if self.buffer.len() >= LINE {
                self.passing = true;
                let line = text(&self.buffer);
                self.buffer.clear();
                return Some(line + "…");
            }
            if self.ended {
                let rest = std::mem::take(&mut self.buffer);
                return Some(rest).filter(|rest| !rest.is_empty() && !self.passing).map(|rest| text(&rest));
            }
            let mut part = [0; 4096];
            match self.from.read(&mut part).await {
                Ok(0) | Err(_) => self.ended = true,
                Ok(read) => self.buffer.extend_from_slice(&part[..read]),
            }
        }
    }
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Goes on as a log.
    pub(crate) async fn log(mut self, logs: Logs, id: Arc<str>) {
        logs.take(id, &mut self).await;
    }
}

fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Control characters would write over a terminal.
    String::from_utf8_lossy(line).replace(|c: char| c.is_control() && c != '\t', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_and_the_last_are_kept() {
        let mut text = "é".repeat(10_000);
        text.push_str("\nnext\r\n\x1b[2Jred\nlast");
        let mut lines = Lines::new(text.as_bytes());
        let first = lines.next().await.unwrap();
        assert!(first.len() < 9_000 + 16 && first.ends_with('…'), "{}", first.len());
        assert_eq!(lines.next().await.as_deref(), Some("next"));
        assert_eq!(lines.next().await.as_deref(), Some("\u{fffd}[2Jred"));
        assert_eq!(lines.next().await.as_deref(), Some("last"));
        assert_eq!(lines.next().await, None);

        let logs = Logs::default();
        let many = (0..5_000).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
        logs.clone().follow("x".into(), many.as_bytes()).await;
        assert_eq!(logs.last(1), "line 999");
    }
}
