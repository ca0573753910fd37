//! Reading `retry`.

use super::StepReader;
use crate::workflow::Retry;
use crate::workflow::parse::{get, join};
use crate::workflow::suggest::{brief, list, nearest};
use crate::workflow::yaml::{Node, Value};

/// The codes of gRPC that are errors, by number, from 1.
pub(in crate::workflow) const CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// All keys of `retry`.
pub(in crate::workflow) const KEYS: [&str; 6] = ["max", "backoff", "factor", "max_backoff", "jitter", "on"];

impl StepReader<'_> {
    pub(super) fn retry(&mut self) -> Retry {
        let mut retry = Retry::default();
        let Some(entry) = get(self.entries, "retry") else { return retry };
        let path = self.path("retry");
        if !["agent", "call", "infer", "workflow"].iter().any(|kind| get(self.entries, kind).is_some()) {
            self.reader.mistake(
                entry.place,
                &path,
                "`retry` belongs to `agent`, `call`, `infer` and `workflow` steps",
                "remove `retry`",
            );
        }
        let Some(entries) = self.reader.map(&entry.node, &path, "write for example `retry: {max: 3, backoff: 2s}`")
        else {
            return retry;
        };
        self.reader.check_keys(entries, &path, &KEYS, &[]);
        match get(entries, "max") {
            Some(e) => {
                let max = self.whole(&e.node, &join(&path, "max"), 1, 100);
                retry.max = max.and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
            }
            None => self.reader.mistake(
                entry.place,
                &path,
                "`max` is missing",
                "add how many attempts there are in all, for example `max: 3`",
            ),
        }
        if let Some(e) = get(entries, "backoff") {
            retry.backoff = self.reader.duration(&e.node, &join(&path, "backoff"), true).unwrap_or(retry.backoff);
            retry.max_backoff = retry.max_backoff.max(retry.backoff);
        }
        if let Some(e) = get(entries, "max_backoff") {
            let path = join(&path, "max_backoff");
            if let Some(longest) = self.reader.duration(&e.node, &path, true) {
                if longest < retry.backoff {
                    let message = format!("{} is shorter than `backoff`", e.node.kind());
                    self.reader.mistake(e.node.place, &path, message, "make it at least as long as `backoff`");
                }
                retry.max_backoff = longest;
            }
        }
        retry.factor = self.fraction(entries, "factor", &path, 1.0, 100.0).unwrap_or(retry.factor);
        retry.jitter = self.fraction(entries, "jitter", &path, 0.0, 1.0).unwrap_or(retry.jitter);
        if let Some(e) = get(entries, "on") {
            retry.on = self.codes(&e.node, &join(&path, "on"));
        }
        retry
    }

    fn codes(&mut self, node: &Node, path: &str) -> Vec<i32> {
        let Value::List(items) = &node.value else {
            let message = format!("`on` must be a list of codes, but it is {}", node.kind());
            self.reader.mistake(node.place, path, message, "write for example `on: [UNAVAILABLE, DEADLINE_EXCEEDED]`");
            return Vec::new();
        };
        if items.is_empty() {
            self.reader.mistake(
                node.place,
                path,
                "no code is listed, so nothing would be repeated",
                "leave `on` out to repeat what can pass with time",
            );
        }
        let mut codes = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let path = format!("{path}[{number}]");
            let Some(name) = self.reader.text(item, &path) else { continue };
            if let Some(code) = CODES.iter().position(|known| *known == name) {
                let code = i32::try_from(code).expect("there are 16 codes") + 1;
                if !codes.contains(&code) {
                    codes.push(code);
                }
                continue;
            }
            let hint = match nearest(&name.to_uppercase(), CODES) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the codes are {}", list(CODES)),
            };
            self.reader.mistake(item.place, &path, format!("there is no code `{}`", brief(name, 60)), hint);
        }
        codes
    }
}
