//! Projects: create, get, complete, stop.

use consort_core::data::Data;
use consort_core::event::Published;
use consort_core::ids::Millis;
use consort_core::ports::{DecisionQuery, DecisionState, ProjectRow, ProjectState, RunQuery, SignalQuery};
use consort_core::run::{Command, ORCHESTRATOR, RunState, project_name};
use consort_core::signal::Urgency;
use consort_core::{Error, Kind};
use serde_json::{Value, json};
use uuid::Uuid;

use super::requests::check;
use crate::ledger::{Act, Outcome};
use crate::types::{CreateProject, Health, ProjectView};
use crate::{Engine, store_error};

/// Rows that are looked at for a figure.
const LOOKED_AT: u32 = 1_000;
/// How long a question may wait before the project is at risk.
const PATIENCE: Millis = 24 * 60 * 60 * 1_000;
/// States of runs that are not over.
const LIVE: [RunState; 4] = [RunState::Pending, RunState::Running, RunState::Waiting, RunState::Paused];

impl Engine {
    /// Creates a project.
    pub async fn create_project(&self, create: CreateProject) -> Result<ProjectRow, Error> {
        let CreateProject { namespace, id, title, mut request, labels, created_by, request_id } = create;
        self.spill(&mut request).await?;
        let uid = self.environment().new_id();
        let id = id.unwrap_or_else(|| uid.to_string().into());
        let mine = request_id.map(|request| self.stored(&namespace, "CreateProject", &request, id.as_bytes().to_vec()));
        if let Some(answer) = self.answered_before(mine.as_ref()).await? {
            return self.project_row(&namespace, &String::from_utf8_lossy(&answer)).await;
        }
        let row = ProjectRow {
            namespace: namespace.clone(),
            id: id.clone(),
            uid,
            title,
            request,
            state: ProjectState::Active,
            created_at: self.now(),
            created_by,
            closed_at: None,
            reason: String::new(),
            labels,
        };
        let mut payload = json!({"title": row.title, "request": shown(&row.request)});
        if !row.created_by.is_empty() {
            payload["created_by"] = row.created_by.clone().into();
        }
        let event = self.about(&row, "PROJECT.INITIAL_REQUEST_RECEIVED", payload);
        let act = Act { new_projects: vec![row.clone()], events: vec![event], request: mine.clone(), ..Act::default() };
        match self.act(act).await? {
            Outcome::Repeated(theirs) => {
                if let Some(mine) = &mine {
                    check(mine, &theirs)?;
                }
                self.project_row(&namespace, &String::from_utf8_lossy(&theirs.answer)).await
            }
            _ => Ok(row),
        }
    }

    /// A project without its figures.
    pub async fn project_row(&self, namespace: &str, id: &str) -> Result<ProjectRow, Error> {
        let row = self.inner.store.project(namespace, id).await.map_err(|e| store_error(&e))?;
        row.ok_or_else(|| Error::not_found("project", id))
    }

    /// A project with its figures.
    pub async fn project(&self, namespace: &str, id: &str) -> Result<ProjectView, Error> {
        let row = self.project_row(namespace, id).await?;
        let store = &self.inner.store;
        let runs = store.run_counts(namespace, id).await.map_err(|e| store_error(&e))?;
        let asked = DecisionQuery {
            namespace: row.namespace.clone(),
            run: None,
            state: Some(DecisionState::Open),
            kind: None,
            project: Some(row.id.clone()),
            before: None,
            limit: LOOKED_AT,
        };
        let open = store.decisions(&asked).await.map_err(|e| store_error(&e))?;
        let oldest_decision = open.last().map(|row| row.created_at);
        let (signals_open, urgent) = self.open_signals(&row).await?;
        let count = |states: &[RunState]| runs.iter().filter(|(s, _)| states.contains(s)).map(|(_, n)| *n).sum::<u64>();
        let failed = count(&[RunState::Failed]);
        let (health, health_reason) = if failed > 0 {
            (Health::Failing, format!("{failed} of its runs failed; look at them, then retry or cancel them"))
        } else if oldest_decision.is_some_and(|at| at < self.now() - PATIENCE) {
            (Health::AtRisk, "a question has waited for more than a day; somebody must answer it".to_owned())
        } else if urgent > 0 {
            (Health::AtRisk, format!("{urgent} signals of high urgency are open"))
        } else {
            (Health::Healthy, String::new())
        };
        let progress = self.progress(&row, count(&LIVE), runs.iter().map(|(_, n)| n).sum()).await?;
        let decisions_open = open.len() as u32;
        Ok(ProjectView { row, runs, decisions_open, oldest_decision, signals_open, progress, health, health_reason })
    }

    /// How far a project is: finished runs count one, live ones the share of their steps that is over.
    async fn progress(&self, row: &ProjectRow, live: u64, all: u64) -> Result<f64, Error> {
        if all == 0 {
            return Ok(0.0);
        }
        let mut done = (all - live) as f64;
        if live > 0 {
            for run in self.live_runs(row, LOOKED_AT).await? {
                let Ok(view) = self.run(&row.namespace, run).await else { continue };
                let steps: Vec<_> = view.steps.iter().filter(|step| step.key.item.is_none()).collect();
                let over = steps.iter().filter(|step| step.state.is_over()).count();
                done += over as f64 / steps.len().max(1) as f64;
            }
        }
        Ok((done / all as f64).clamp(0.0, 1.0))
    }

    /// Signals about a project that are open, and how many of them are urgent.
    async fn open_signals(&self, row: &ProjectRow) -> Result<(u32, u32), Error> {
        let query = SignalQuery {
            namespace: row.namespace.clone(),
            kind: None,
            project: Some(row.id.clone()),
            before: None,
            limit: LOOKED_AT,
        };
        let signals = self.inner.store.signals(&query).await.map_err(|e| store_error(&e))?;
        let (mut open, mut urgent) = (0, 0);
        for signal in signals {
            if self.is_open(&signal).await? {
                open += 1;
                urgent += u32::from(signal.signal.urgency >= Urgency::High);
            }
        }
        Ok((open, urgent))
    }

    async fn live_runs(&self, row: &ProjectRow, limit: u32) -> Result<Vec<consort_core::RunId>, Error> {
        let query = RunQuery {
            namespace: row.namespace.clone(),
            workflow: None,
            states: LIVE.to_vec(),
            project: Some(row.id.clone()),
            before: None,
            limit,
        };
        let runs = self.inner.store.runs(&query).await.map_err(|e| store_error(&e))?;
        Ok(runs.into_iter().map(|run| run.id).collect())
    }

    /// Completes a project whose runs are all over.
    pub async fn complete_project(&self, namespace: &str, id: &str) -> Result<ProjectRow, Error> {
        let row = self.project_row(namespace, id).await?;
        match row.state {
            ProjectState::Completed => return Ok(row),
            ProjectState::Stopped => return Err(wrong_state(&row, "completed")),
            ProjectState::Active => {}
        }
        let live = self.live_runs(&row, 1).await?;
        if let Some(run) = live.first() {
            let text = format!("run {run} of project `{id}` is not over; wait for it, cancel it, or stop the project");
            return Err(Error::precondition("RUNS_LIVE", text));
        }
        let closed = ProjectRow { state: ProjectState::Completed, closed_at: Some(self.now()), ..row };
        self.close(closed, "PROJECT.COMPLETED", json!({})).await
    }

    /// Stops a project and cancels its live runs.
    pub async fn stop_project(&self, namespace: &str, id: &str, reason: String) -> Result<ProjectRow, Error> {
        let mut row = self.project_row(namespace, id).await?;
        match row.state {
            ProjectState::Completed => return Err(wrong_state(&row, "stopped")),
            ProjectState::Stopped => {}
            ProjectState::Active => {
                let payload = if reason.is_empty() { json!({}) } else { json!({"reason": reason}) };
                let stopped = ProjectRow { state: ProjectState::Stopped, closed_at: Some(self.now()), reason, ..row };
                row = self.close(stopped, "PROJECT.STOPPED", payload).await?;
            }
        }
        // Whatever is left after a crash is cancelled when it is read again.
        loop {
            let live = self.live_runs(&row, LOOKED_AT).await?;
            if live.is_empty() {
                return Ok(row);
            }
            for run in live {
                let command = Command::Cancel { reason: "its project was stopped".to_owned() };
                match self.change(namespace, run, command, None).await {
                    Ok(_) => {}
                    // It has just ended.
                    Err(error) if matches!(error.kind, Kind::FailedPrecondition | Kind::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn close(&self, row: ProjectRow, event_type: &str, payload: Value) -> Result<ProjectRow, Error> {
        let event = self.about(&row, event_type, payload);
        self.act(Act { projects: vec![row.clone()], events: vec![event], ..Act::default() }).await?;
        Ok(row)
    }

    /// An event about a project.
    fn about(&self, row: &ProjectRow, event_type: &str, mut payload: Value) -> Published {
        payload["project"] = project_name(&row.namespace, &row.id).into();
        Published {
            event_id: Uuid::new_v5(&row.uid, event_type.as_bytes()),
            event_type: event_type.to_owned(),
            event_version: 1,
            timestamp: row.closed_at.unwrap_or(row.created_at),
            source: ORCHESTRATOR.to_owned(),
            instance: self.inner.options.instance.clone(),
            correlation_id: row.uid,
            causation_id: None,
            namespace: row.namespace.clone(),
            subject: project_name(&row.namespace, &row.id),
            payload: Data::of(&payload),
            depth: 0,
        }
    }
}

fn wrong_state(row: &ProjectRow, what: &str) -> Error {
    let state = match row.state {
        ProjectState::Active => "ACTIVE",
        ProjectState::Completed => "COMPLETED",
        ProjectState::Stopped => "STOPPED",
    };
    Error::precondition("WRONG_STATE", format!("project `{}` is {state} and cannot be {what}", row.id))
}

/// A value in an event: itself, or the name of its blob.
fn shown(data: &Data) -> Value {
    match data {
        Data::Inline(json) => json.value(),
        Data::Blob(blob) => {
            json!({"blob": {"sha256": &*blob.sha256, "size": blob.size, "media_type": &*blob.media_type}})
        }
    }
}
