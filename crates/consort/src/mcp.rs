//! What MCP clients find at `/mcp`: the operator's section, and workflows and decisions over the engine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use consort_bus::Bus;
use consort_core::ids::{is_id, rfc3339};
use consort_core::ports::{DecisionQuery, DecisionRow, DecisionState, StoreError};
use consort_core::{Data, Error, Json, RunId, Violation};
use consort_engine::{AnswerDecision, Engine, RunView as Run, StartRun};
use consort_mcp::server::{Answer, DecisionView, Options, RunView, Workflows};
use consort_plugins::McpConfig;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Bytes of a value that is shown; of larger ones, the name of the blob.
const SHOWN: u64 = 4 * 1024 * 1024;
/// Decisions of one run that are shown.
const OF_A_RUN: usize = 100;
/// Decisions that are read at once, and how often: the oldest come last.
const PAGE: u32 = 1_000;
const PAGES: usize = 20;
/// Characters of who answered.
const BY: usize = 200;

/// The operator's section as the MCP server takes it, and what is wrong with it. What is absent stays as it is by default.
pub(crate) fn options(section: &McpConfig) -> (Options, Vec<Violation>) {
    let mut options = Options::default();
    let mut wrong = Vec::new();
    if let Some(allow) = &section.allow {
        options.allow.clone_from(allow);
    }
    if let Some(workflows) = &section.workflows {
        options.workflows.clone_from(workflows);
    }
    match section.hosts.as_deref() {
        None => {}
        // The server's own word for any name, which nobody shall write by accident.
        Some([any]) if any == "*" => options.hosts.clear(),
        Some([]) => wrong.push(Violation {
            field: "mcp.hosts".into(),
            description: "is empty; name hosts, write `[\"*\"]` for any, or leave it out for this machine's own names"
                .into(),
        }),
        Some(hosts) => options.hosts = hosts.to_vec(),
    }
    wrong.extend(options.mistakes());
    (options, wrong)
}

/// Workflows and decisions of one namespace.
pub(crate) struct EngineWorkflows {
    pub(crate) engine: Engine,
    pub(crate) bus: Bus,
    pub(crate) namespace: Arc<str>,
    /// Cancelled when the server begins to stop.
    pub(crate) stop: CancellationToken,
}

impl EngineWorkflows {
    async fn run(&self, id: RunId) -> Result<RunView, Error> {
        self.view(self.engine.run(&self.namespace, id).await?).await
    }

    async fn view(&self, run: Run) -> Result<RunView, Error> {
        let is_over = run.state.is_over();
        let decisions = if is_over { Vec::new() } else { self.open(Some(run.id), OF_A_RUN).await? };
        let output = match &run.output {
            Some(output) => Some(self.shown(output).await?),
            None => None,
        };
        Ok(RunView {
            run: run.id.to_string(),
            workflow: run.workflow.to_string(),
            state: run.state.name().to_owned(),
            is_over,
            output,
            error: run.error.map(|failure| failure.message),
            decisions,
        })
    }

    /// A value, or the name of one that is too large.
    async fn shown(&self, data: &Data) -> Result<Value, Error> {
        let blob = match data {
            Data::Inline(json) => return Ok(json.value()),
            Data::Blob(blob) => blob,
        };
        let named = || json!({"sha256": &*blob.sha256, "size_bytes": blob.size, "media_type": &*blob.media_type});
        if blob.size > SHOWN {
            return Ok(named());
        }
        let bytes = self.engine.store().read(&blob.sha256, 0, blob.size as usize).await.map_err(unread)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_else(named))
    }

    /// Open decisions, oldest first.
    async fn open(&self, run: Option<RunId>, most: usize) -> Result<Vec<DecisionView>, Error> {
        let namespace = self.namespace.clone();
        let state = Some(DecisionState::Open);
        let mut query = DecisionQuery { namespace, run, state, kind: None, project: None, before: None, limit: PAGE };
        let mut newest_first = Vec::new();
        for _ in 0..PAGES {
            let page = self.engine.store().decisions(&query).await.map_err(unread)?;
            let last = page.last().map(|row| (row.created_at, row.id)).filter(|_| page.len() == PAGE as usize);
            newest_first.extend(page);
            newest_first.drain(..newest_first.len().saturating_sub(most));
            match last {
                Some(last) => query.before = Some(last),
                None => break,
            }
        }
        let mut views = Vec::with_capacity(newest_first.len());
        for row in newest_first.into_iter().rev() {
            views.push(self.decision(row).await?);
        }
        Ok(views)
    }

    async fn decision(&self, row: DecisionRow) -> Result<DecisionView, Error> {
        let asked = row.asked;
        let question = match asked.description.as_str() {
            "" => asked.title,
            more => format!("{}\n\n{more}", asked.title),
        };
        let form = match &asked.form {
            Some(form) => Some(self.shown(form).await?),
            None => None,
        };
        Ok(DecisionView {
            decision: row.id.to_string(),
            run: row.run.to_string(),
            step: row.step.to_string(),
            question,
            options: asked.options.into_iter().map(|option| (option.clone(), option)).collect(),
            form,
            deadline: asked.deadline.map(rfc3339).unwrap_or_default(),
        })
    }

    /// Reads the id of a run or a decision, or its full name in this namespace.
    fn id(&self, field: &str, collection: &str, given: &str) -> Result<Uuid, Error> {
        let prefix = format!("namespaces/{}/{collection}/", self.namespace);
        let id = given.strip_prefix(prefix.as_str()).unwrap_or(given);
        // The hyphenated form only, as everywhere: the others would give one thing several names.
        Uuid::try_parse(id).ok().filter(|_| id.len() == 36).ok_or_else(|| {
            let shown: String = given.chars().take(100).collect();
            Error::bad_field(field, format!("`{shown}` is no id; give the one that was told, 36 characters"))
        })
    }

    fn stopping() -> Error {
        Error::unavailable("the server is stopping; connect again", Duration::from_secs(1))
    }

    async fn unless_stopping<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.stop.run_until_cancelled(call).await.unwrap_or_else(|| Err(EngineWorkflows::stopping()))
    }

    async fn until_news(&self, id: RunId, known: &[String], patience: Duration) -> Result<RunView, Error> {
        // Followed before anything is read, so that nothing falls between.
        let mut news = self.bus.follow_decisions();
        let mut ended = Box::pin(self.engine.wait_run(&self.namespace, id, Some(patience)));
        loop {
            let run = self.run(id).await?;
            if run.is_over || run.decisions.iter().any(|decision| !known.contains(&decision.decision)) {
                return Ok(run);
            }
            loop {
                tokio::select! {
                    // Over, or the time is up.
                    run = &mut ended => return self.view(run?).await,
                    row = news.recv() => match row {
                        Ok(row) if row.run == id => break,
                        Ok(_) => {}
                        // What was lost may have been ours.
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return Err(EngineWorkflows::stopping()),
                    },
                }
            }
        }
    }
}

fn unread(error: StoreError) -> Error {
    Error::unavailable(format!("the store cannot be read: {error}"), Duration::from_secs(1))
}

/// A value of a client, as far as it may be nested; large ones leave for the blob store.
async fn taken(engine: &Engine, field: &str, value: &Value) -> Result<Data, Error> {
    let json = Json::parse(value.to_string()).map_err(|why| Error::bad_field(field, why.to_string()))?;
    let mut data = Data::Inline(json);
    engine.spill(&mut data).await?;
    Ok(data)
}

#[async_trait]
impl Workflows for EngineWorkflows {
    async fn start(&self, workflow: &str, inputs: Value) -> Result<RunView, Error> {
        if !is_id(workflow) {
            return Err(Error::not_found("workflow", workflow));
        }
        let start = StartRun {
            namespace: self.namespace.clone(),
            workflow: workflow.into(),
            revision: None,
            inputs: taken(&self.engine, "inputs", &inputs).await?,
            labels: [("started_by".to_owned(), "mcp".to_owned())].into(),
            project: None,
            // A client of MCP has no id to repeat its call with.
            request: None,
            replay_of: None,
        };
        // A large future, which would otherwise be moved several times.
        let run = Box::pin(self.engine.start_run(start, None)).await?;
        self.view(run).await
    }

    async fn status(&self, run: &str) -> Result<RunView, Error> {
        self.run(RunId(self.id("run", "runs", run)?)).await
    }

    async fn wait(&self, run: &str, known: &[String], patience: Duration) -> Result<RunView, Error> {
        let id = RunId(self.id("run", "runs", run)?);
        self.unless_stopping(self.until_news(id, known, patience)).await
    }

    async fn decisions(&self, run: Option<&str>, most: usize) -> Result<Vec<DecisionView>, Error> {
        let Some(run) = run else { return self.open(None, most).await };
        let id = RunId(self.id("run", "runs", run)?);
        // A run that is not there has no questions, and that is not what its caller wants to hear.
        self.engine.run(&self.namespace, id).await?;
        self.open(Some(id), most).await
    }

    async fn answer(&self, answer: Answer) -> Result<(), Error> {
        let id = self.id("decision", "decisions", &answer.decision)?;
        let length = answer.by.chars().count();
        if length > BY {
            return Err(Error::bad_field("by", format!("has {length} characters; give at most {BY}")));
        }
        let row = self.engine.decision(&self.namespace, id).await?;
        // A form that asks for nothing comes back empty.
        let form = answer.form.or_else(|| row.asked.form.is_some().then(|| json!({})));
        let form = match &form {
            Some(form) => Some(taken(&self.engine, "form", form).await?),
            None => None,
        };
        let namespace = self.namespace.clone();
        let answer = AnswerDecision { namespace, id, option: answer.option, form, by: answer.by, request: None };
        self.engine.answer(answer).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_becomes_options() {
        let all = |entries: &[&str]| Some(entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>());
        let (same, wrong) = options(&McpConfig::default());
        assert_eq!((same.allow, same.hosts.len(), wrong.len()), (Options::default().allow, 3, 0));
        let any = McpConfig { allow: all(&[]), hosts: all(&["*"]), ..McpConfig::default() };
        let (set, wrong) = options(&any);
        assert_eq!((set.allow.len(), set.hosts.len(), wrong.len()), (0, 0, 0));
        let bad = McpConfig { allow: all(&["workflow_stop"]), hosts: all(&[]), ..McpConfig::default() };
        let fields: Vec<String> = options(&bad).1.into_iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["mcp.hosts", "mcp.allow[0]"]);
    }
}
