//! Between the wire's messages and the core's words. Nothing here decides anything.

mod ask;
mod decision;
mod event;
pub(crate) mod inference;
mod payload;
pub(crate) mod plugin;
mod project;
mod registry;
mod run;
mod run_event;
mod worker;

pub(crate) use ask::{ask, ask_status, inquiry, outcome, reply, value as ask_value};
pub(crate) use decision::decision;
pub(crate) use event::{buried_event, dead_letter, event, group, json_of};
pub(crate) use payload::{Values, payload};
pub(crate) use project::{project, project_row, schedule, signal};
pub(crate) use registry::{agent, agent_task, worker};
pub(crate) use run::{run, run_row, run_state_from, workflow};
pub(crate) use run_event::run_events;
pub(crate) use worker::{
    At, ack, answer_failure, assignment, cancel, kept_report, lease, lease_ref, live_report, progress, progress_report,
    question,
};

use consort_core::Millis;
use consort_core::event::{Code, Failure};
use consort_proto::google::rpc;

use crate::status::cut;

/// A time as the wire has it.
pub(crate) fn timestamp(at: Millis) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.div_euclid(1_000), nanos: (at.rem_euclid(1_000) * 1_000_000) as i32 }
}

/// A duration as the wire has it.
pub(crate) fn duration(length: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: length.as_secs() as i64, nanos: length.subsec_nanos() as i32 }
}

/// A failure on record as `google.rpc.Status`.
pub(crate) fn rpc_status(failure: &Failure) -> rpc::Status {
    let details = failure
        .details
        .iter()
        // What is stored was encoded by `failure` below; what cannot be read any more is worth less than the rest.
        .filter_map(|(url, bytes)| Some(prost_types::Any { type_url: url.clone(), value: hex::decode(bytes).ok()? }))
        .collect();
    rpc::Status { code: failure.code, message: failure.message.clone(), details }
}

/// Longest message, and most bytes of details, of a failure that is put on record.
const FAILURE_MESSAGE: usize = 8 * 1024;
const FAILURE_DETAILS: usize = 16 * 1024;

/// A worker's `google.rpc.Status` as it is put on record: an absent status, code 0 and codes that are none become UNKNOWN, a message
/// over 8 KiB is cut, details beyond 16 KiB are left out.
pub(crate) fn failure(status: Option<rpc::Status>) -> Failure {
    let Some(status) = status else {
        return Failure::new(Code::Unknown, "the worker gave no error");
    };
    let code = if (1..=16).contains(&status.code) { status.code } else { Code::Unknown as i32 };
    let mut room = FAILURE_DETAILS;
    let mut details = Vec::new();
    for any in status.details {
        let size = any.type_url.len() + any.value.len();
        if size <= room {
            room -= size;
            details.push((any.type_url, hex::encode(any.value)));
        }
    }
    Failure { code, message: cut(status.message, FAILURE_MESSAGE), details }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_normal() {
        assert_eq!(timestamp(-1), prost_types::Timestamp { seconds: -1, nanos: 999_000_000 });
        assert_eq!(timestamp(1_500), prost_types::Timestamp { seconds: 1, nanos: 500_000_000 });
    }

    #[test]
    fn failures_survive_both_ways() {
        let wire = rpc::Status {
            code: 14,
            message: "gone".into(),
            details: vec![prost_types::Any { type_url: "type.googleapis.com/x".into(), value: vec![0, 255] }],
        };
        assert_eq!(rpc_status(&failure(Some(wire.clone()))), wire);
        assert_eq!(failure(None).code, Code::Unknown as i32);
        assert_eq!(failure(Some(rpc::Status { code: 0, ..wire.clone() })).code, Code::Unknown as i32);
        assert_eq!(failure(Some(rpc::Status { code: 99, ..wire })).code, Code::Unknown as i32);
    }

    #[test]
    fn a_huge_failure_is_cut() {
        let any = |size: usize| prost_types::Any { type_url: "t".into(), value: vec![1; size] };
        let huge = rpc::Status { code: 2, message: "m".repeat(100_000), details: vec![any(20_000), any(10)] };
        let failure = failure(Some(huge));
        assert!(failure.message.len() < 9_000);
        assert_eq!(failure.details.len(), 1);
    }
}
