//! Why a request has no answer, in words that say what to do.

use std::time::Duration;

use consort_core::{Error, Kind};

use super::LONGEST_TIMEOUT;

/// Nobody answers for the agent.
pub(super) fn offline(agent: &str) -> Error {
    let said = format!(
        "no attached worker answers requests for agent `{agent}`; start one that offers it in `hello.answers`, or make it a \
         step if it can wait"
    );
    Error { retry_after: Some(Duration::from_secs(1)), ..Error::new(Kind::Unavailable, "AGENT_OFFLINE", said) }
}

/// Everybody who answers is full, and so is the queue.
pub(super) fn busy(message: String) -> Error {
    Error { retry_after: Some(Duration::from_millis(100)), ..Error::new(Kind::ResourceExhausted, "BUSY", message) }
}

/// The answering worker is gone.
pub(super) fn lost(agent: &str, worker: &str) -> Error {
    let said = format!(
        "worker `{worker}` disconnected before it answered for agent `{agent}`; it may have acted on the request: ask again if \
         that does no harm"
    );
    Error::new(Kind::Unavailable, "ANSWERER_LOST", said)
}

/// The time is up.
pub(super) fn late(agent: &str, waiting: bool) -> Error {
    let said = if waiting {
        format!("no worker of agent `{agent}` had room in time; let it answer more at once, or start another")
    } else {
        format!("agent `{agent}` did not answer in time; it was told to stop")
    };
    Error::new(Kind::DeadlineExceeded, "DEADLINE_EXCEEDED", said)
}

/// Agents that ask each other too deeply.
pub(super) fn deep(agent: &str, most: u32) -> Error {
    let said = format!(
        "the request to `{agent}` would be asked through more than {most} inquiries; look for agents that ask in circles"
    );
    Error::precondition("ASK_DEPTH", said)
}

/// The inquiry within which something is asked has ended.
pub(super) fn over(number: u64) -> Error {
    let said =
        format!("inquiry {number}, within which this is asked, is over: its asker waits no more; stop handling it");
    Error::precondition("INQUIRY_OVER", said)
}

/// A worker used a number twice.
pub(super) fn number_twice(number: u64) -> Error {
    Error::bad_field("asks.number", format!("`{number}` is the number of an open request; count on"))
}

/// A timeout beyond what is allowed.
pub(super) fn timeout(given: Duration) -> Error {
    let (given, most) = (given.as_secs_f64(), LONGEST_TIMEOUT.as_secs());
    Error::bad_field("timeout", format!("`{given} s` is out of range; give more than 0 and at most {most} s"))
}
