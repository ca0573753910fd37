//! What goes into the room of requests and comes out of it.

use std::sync::Arc;
use std::time::Duration;

use consort_core::{Data, Error};

use crate::types::{LeaseRef, TaskFailure};

/// An agent for which a worker answers requests.
#[derive(Clone, Debug)]
pub struct AnswerOffer {
    /// Its id.
    pub agent: Arc<str>,
    /// Requests it takes at once.
    pub at_once: u32,
    /// What it answers.
    pub description: String,
}

/// A worker's request to an agent.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The worker's own number for it.
    pub number: u64,
    /// The agent that is asked.
    pub agent: String,
    /// What is asked.
    pub payload: Data,
    /// How long the asker waits; absent means [`USUAL_TIMEOUT`](super::USUAL_TIMEOUT).
    pub timeout: Option<Duration>,
    /// The task in which it is asked.
    pub task: Option<LeaseRef>,
    /// The inquiry in whose handling it is asked.
    pub within: Option<u64>,
}

/// A request on its way to the worker that answers it.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The mesh's number for it.
    pub number: u64,
    /// The agent that is asked.
    pub agent: Arc<str>,
    /// What is asked.
    pub payload: Data,
    /// How long the asker still waits.
    pub timeout: Duration,
    /// The worker that asks; empty for a client.
    pub asker: Arc<str>,
    /// The task in which it is asked.
    pub task: Option<LeaseRef>,
    /// 1 for a request from outside an inquiry.
    pub depth: u32,
}

/// What a request led to.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The number of the request, or of the inquiry: that of the receiver's own list.
    pub number: u64,
    /// The answer, or why there is none.
    pub result: Result<Data, AskError>,
}

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub enum AskError {
    /// The mesh says so.
    Mesh(Error),
    /// The handler says so.
    Agent(TaskFailure),
}

impl From<Error> for AskError {
    fn from(error: Error) -> AskError {
        AskError::Mesh(error)
    }
}

/// Requests and replies that wait to be sent to a worker.
#[derive(Debug, Default)]
pub struct AskNews {
    /// To answer.
    pub inquiries: Vec<Inquiry>,
    /// To its own requests.
    pub replies: Vec<Reply>,
    /// Inquiries whose reply no longer matters.
    pub withdrawn: Vec<u64>,
    /// Bytes of all payloads here.
    pub(crate) bytes: usize,
}

impl AskNews {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.inquiries.is_empty() && self.replies.is_empty() && self.withdrawn.is_empty()
    }
}

/// What became of the requests to an agent since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskMetrics {
    /// Ended with an answer.
    pub answered: u64,
    /// Ended with an error.
    pub failed: u64,
    /// In hand or waiting.
    pub open: u64,
}

/// Bytes that a value costs while it waits.
pub(super) fn weight(data: &Data) -> usize {
    match data {
        Data::Inline(json) => json.as_str().len() + 64,
        Data::Blob(_) => 192,
    }
}
