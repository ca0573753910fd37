//! Small texts: times, spans, states, values.

use consort_proto::agent::{AgentStatus, WorkerState};
use consort_proto::blob::{Payload, payload::Kind};
use consort_proto::decision::DecisionState;
use consort_proto::orchestrator::{RunState, StepState};
use prost_types::Timestamp;

/// The last part of a resource name.
pub(crate) fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A run's state without its prefix, for example `SUCCEEDED`.
pub(crate) fn run_state(state: i32) -> &'static str {
    strip(RunState::try_from(state).map_or("UNKNOWN", |state| state.as_str_name()), "RUN_STATE_")
}

/// A step's state without its prefix.
pub(crate) fn step_state(state: i32) -> &'static str {
    strip(StepState::try_from(state).map_or("UNKNOWN", |state| state.as_str_name()), "STEP_STATE_")
}

/// A decision's state without its prefix.
pub(crate) fn decision_state(state: i32) -> &'static str {
    strip(DecisionState::try_from(state).map_or("UNKNOWN", |state| state.as_str_name()), "DECISION_STATE_")
}

/// A worker's state without its prefix.
pub(crate) fn worker_state(state: i32) -> &'static str {
    strip(WorkerState::try_from(state).map_or("UNKNOWN", |state| state.as_str_name()), "WORKER_STATE_")
}

/// An agent's status without its prefix.
pub(crate) fn agent_status(status: i32) -> &'static str {
    strip(AgentStatus::try_from(status).map_or("UNKNOWN", |status| status.as_str_name()), "AGENT_STATUS_")
}

fn strip(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// A moment in UTC to the second, or nothing.
pub(crate) fn time(at: Option<&Timestamp>) -> String {
    match at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok()) {
        Some(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        None => String::new(),
    }
}

/// The time of day in UTC to the millisecond, or nothing.
pub(crate) fn clock(at: Option<&Timestamp>) -> String {
    match at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok()) {
        Some(at) => at.strftime("%H:%M:%S%.3f").to_string(),
        None => String::new(),
    }
}

/// How long ago a moment was, for example `3m ago`.
pub(crate) fn ago(at: Option<&Timestamp>) -> String {
    at.map_or_else(String::new, |at| format!("{} ago", span((now() - seconds(at)).max(0.0))))
}

/// How long from now a moment is, for example `in 24h 0m`.
pub(crate) fn until(at: Option<&Timestamp>) -> String {
    at.map_or_else(
        || "never".to_owned(),
        |at| match seconds(at) - now() {
            left if left > 0.0 => format!("in {}", span(left)),
            left => format!("{} ago", span(-left)),
        },
    )
}

/// From one moment to another, or to now; nothing if it has not begun.
pub(crate) fn took(from: Option<&Timestamp>, to: Option<&Timestamp>) -> String {
    from.map_or_else(String::new, |from| span((to.map_or_else(now, seconds) - seconds(from)).max(0.0)))
}

/// Seconds since 1970.
pub(crate) fn seconds(at: &Timestamp) -> f64 {
    at.seconds as f64 + f64::from(at.nanos) / 1e9
}

/// Seconds since 1970, now.
pub(crate) fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1e3
}

/// A span in the two units that matter: `312 ms`, `4.2 s`, `3m 12s`, `5h 2m`, `3d 4h`.
pub(crate) fn span(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    match whole {
        0..=59 if seconds < 59.95 => format!("{seconds:.1} s"),
        0..=3_599 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..=86_399 => format!("{}h {}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d {}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// Bytes as people write them.
pub(crate) fn bytes(count: i64) -> String {
    let count = count as f64;
    match count {
        c if c < 1024.0 => format!("{c:.0} B"),
        c if c < 1024.0 * 1024.0 => format!("{:.0} KiB", c / 1024.0),
        c if c < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", c / 1024.0 / 1024.0),
        c => format!("{:.1} GiB", c / 1024.0 / 1024.0 / 1024.0),
    }
}

/// A payload on one line of at most `limit` characters.
pub(crate) fn payload(payload: Option<&Payload>, limit: usize) -> String {
    match payload.and_then(|payload| payload.kind.as_ref()) {
        None => String::new(),
        Some(Kind::Json(json)) => one_line(json, limit),
        Some(Kind::Value(_)) => "(a value)".to_owned(),
        Some(Kind::Blob(blob)) => format!("blobs/{:.12}… ({})", blob.sha256, bytes(blob.size_bytes)),
    }
}

/// Text on one line, without control characters, of at most `limit` characters.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let mut line: String = text.chars().take(limit + 1).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() > limit {
        line = line.chars().take(limit.saturating_sub(1)).collect();
        line.push('…');
    }
    line
}

/// A whole number with its thousands apart: `12 345`, or `-1 000`.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    if number <= -0.5 { format!("-{out}") } else { out }
}

/// Removes the spaces at line ends and ends with one line break.
pub(crate) fn trim_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [
            (0.0, "0 ms"),
            (0.3124, "312 ms"),
            (0.9999, "1.0 s"),
            (4.23, "4.2 s"),
            (59.99, "1m 0s"),
            (192.0, "3m 12s"),
            (18_120.0, "5h 2m"),
            (273_600.0, "3d 4h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn states_lose_their_prefix() {
        assert_eq!(run_state(RunState::Succeeded as i32), "SUCCEEDED");
        assert_eq!(step_state(StepState::InProgress as i32), "IN_PROGRESS");
        assert_eq!(run_state(99), "UNKNOWN");
    }

    #[test]
    fn lines_are_cut_and_clean() {
        assert_eq!(one_line("a\nb\u{1b}[1m", 10), "a b [1m");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(one_line("äöüß", 4), "äöüß");
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        assert_eq!(thousands(1_234_567.4), "1 234 567");
        assert_eq!(thousands(-1000.0), "-1 000");
        assert_eq!(thousands(12.0), "12");
    }

    #[test]
    fn times_are_utc() {
        let at = Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 };
        assert_eq!(time(Some(&at)), "2023-11-14 22:13:20Z");
        assert_eq!(clock(Some(&at)), "22:13:20.005");
        assert_eq!(took(Some(&at), Some(&Timestamp { seconds: 1_700_000_002, nanos: 0 })), "2.0 s");
    }
}
