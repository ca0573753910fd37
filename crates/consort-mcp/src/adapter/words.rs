//! What a server printed last.

use std::sync::{Arc, Mutex, PoisonError};

/// The last line of a server's standard error.
#[derive(Clone, Default)]
pub(crate) struct LastWords(Arc<Mutex<String>>);

impl LastWords {
    pub(crate) fn keep(&self, line: String) {
        if !line.trim().is_empty() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = line;
        }
    }

    /// The line; empty if there was none.
    pub(crate) fn last(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Bytes as text for a log, at most so many: control characters would write over a terminal.
pub(crate) fn shown(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(most)]);
    text.trim_end().replace(|c: char| c.is_control() && c != '\t', "\u{fffd}")
}

/// A text of at most so many bytes.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}
