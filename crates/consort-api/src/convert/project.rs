//! Projects and signals.

use consort_core::ports::{ProjectRow, ProjectState};
use consort_core::run::RunState;
use consort_core::signal::{Impact, Route, Urgency};
use consort_engine::{Health, ProjectView, ScheduleView, SignalView};
use consort_proto::{orchestrator, project as wire, signal};

use super::{payload, timestamp};
use crate::names;

/// A project without its figures.
pub(crate) fn project_row(row: &ProjectRow) -> wire::Project {
    let state = match row.state {
        ProjectState::Active => wire::ProjectState::Active,
        ProjectState::Completed => wire::ProjectState::Completed,
        ProjectState::Stopped => wire::ProjectState::Stopped,
    };
    wire::Project {
        name: names::of(&row.namespace, "projects", &row.id),
        uid: row.uid.to_string(),
        title: row.title.clone(),
        request: Some(payload(&row.request)),
        state: state as i32,
        create_time: Some(timestamp(row.created_at)),
        created_by: row.created_by.clone(),
        close_time: row.closed_at.map(timestamp),
        reason: row.reason.clone(),
        labels: row.labels.clone().into_iter().collect(),
        figures: None,
    }
}

/// A project with its figures.
pub(crate) fn project(view: &ProjectView) -> wire::Project {
    let count = |states: &[RunState]| {
        let runs: u64 = view.runs.iter().filter(|(state, _)| states.contains(state)).map(|(_, n)| n).sum();
        i32::try_from(runs).unwrap_or(i32::MAX)
    };
    let health = match view.health {
        Health::Healthy => wire::ProjectHealth::Healthy,
        Health::AtRisk => wire::ProjectHealth::AtRisk,
        Health::Failing => wire::ProjectHealth::Failing,
    };
    let figures = wire::ProjectFigures {
        runs_active: count(&[RunState::Pending, RunState::Running]),
        runs_waiting: count(&[RunState::Waiting, RunState::Paused]),
        runs_succeeded: count(&[RunState::Succeeded]),
        runs_failed: count(&[RunState::Failed]),
        runs_cancelled: count(&[RunState::Cancelled]),
        decisions_open: view.decisions_open as i32,
        oldest_decision_time: view.oldest_decision.map(timestamp),
        signals_open: view.signals_open as i32,
        progress: view.progress,
        health: health as i32,
        health_reason: view.health_reason.clone(),
    };
    wire::Project { figures: Some(figures), ..project_row(&view.row) }
}

/// A signal.
pub(crate) fn signal(view: &SignalView) -> signal::Signal {
    let row = &view.row;
    let said = &row.signal;
    let urgency = match said.urgency {
        Urgency::Low => signal::Urgency::Low,
        Urgency::Normal => signal::Urgency::Normal,
        Urgency::High => signal::Urgency::High,
        Urgency::Critical => signal::Urgency::Critical,
    };
    let impact = match said.impact {
        Impact::Low => signal::Impact::Low,
        Impact::Medium => signal::Impact::Medium,
        Impact::High => signal::Impact::High,
    };
    let route = match row.route {
        Route::Workflow => signal::Route::Workflow,
        Route::Agent => signal::Route::Agent,
        Route::Person => signal::Route::Person,
    };
    let state = if view.open { signal::SignalState::Open } else { signal::SignalState::Closed };
    signal::Signal {
        name: names::of(&row.namespace, "signals", row.id),
        r#type: said.kind.clone(),
        urgency: urgency as i32,
        impact: impact as i32,
        title: said.title.clone(),
        description: said.description.clone(),
        payload: Some(payload(&said.payload)),
        source: said.source.clone(),
        project: row.project.as_deref().map(|id| names::of(&row.namespace, "projects", id)).unwrap_or_default(),
        route: route as i32,
        runs: row.runs.iter().map(|run| names::of_run(&row.namespace, *run)).collect(),
        state: state as i32,
        create_time: Some(timestamp(row.created_at)),
        agent: said.agent.as_deref().unwrap_or_default().to_owned(),
    }
}

/// A schedule.
pub(crate) fn schedule(view: &ScheduleView) -> orchestrator::Schedule {
    orchestrator::Schedule {
        workflow: names::of(&view.namespace, "workflows", &view.workflow),
        index: view.index as i32,
        cron: view.cron.clone(),
        timezone: view.timezone.clone(),
        overlap: view.overlap.to_owned(),
        catch_up: view.catch_up.to_owned(),
        next_time: view.next.map(timestamp),
        last_time: view.last.map(timestamp),
        last_run: view.run.map(|run| names::of_run(&view.namespace, run)).unwrap_or_default(),
        skipped: view.skipped as i64,
    }
}
