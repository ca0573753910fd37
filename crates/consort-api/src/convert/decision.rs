//! Decisions.

use consort_core::ports::{DecisionKind, DecisionRow, DecisionState};
use consort_proto::decision as wire;

use super::run::project_of;
use super::{payload, timestamp};
use crate::names;

/// A decision as the wire has it.
pub(crate) fn decision(row: &DecisionRow) -> wire::Decision {
    let state = match row.state {
        DecisionState::Open => wire::DecisionState::Open,
        DecisionState::Answered => wire::DecisionState::Answered,
        DecisionState::Expired => wire::DecisionState::Expired,
        DecisionState::Cancelled => wire::DecisionState::Cancelled,
    };
    let kind = match row.kind {
        DecisionKind::Choice => wire::DecisionKind::Choice,
        DecisionKind::Clarification => wire::DecisionKind::Clarification,
    };
    wire::Decision {
        name: names::of(&row.namespace, "decisions", row.id),
        run: names::of_run(&row.namespace, row.run),
        step: row.step.to_string(),
        title: row.asked.title.clone(),
        description: row.asked.description.clone(),
        options: row.asked.options.clone(),
        form: row.asked.form.as_ref().map(payload),
        default_option: row.asked.default.clone().unwrap_or_default(),
        deadline: row.asked.deadline.map(timestamp),
        state: state as i32,
        create_time: Some(timestamp(row.created_at)),
        option: row.option.clone().unwrap_or_default(),
        answer: row.form.as_ref().map(payload),
        answered_by: row.answered_by.clone().unwrap_or_default(),
        close_time: row.closed_at.map(timestamp),
        kind: kind as i32,
        project: project_of(&row.namespace, row.project.as_deref()),
    }
}
