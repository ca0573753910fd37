//! The loop that follows the log: events start runs, signals are routed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use consort_core::data::Data;
use consort_core::envelope::envelopes;
use consort_core::event::{Fact, Published, Trigger};
use consort_core::ids::RunId;
use consort_core::ports::{DeadLetter, LogRow, Mark, StoreError};
use consort_core::workflow::Local;
use consort_core::{Error, Kind, rfc3339};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fire::{Fired, MAX_CHAIN, start};
use super::registry::Triggered;
use super::{TriggerFeed, signals};
use crate::Engine;
use crate::environment::{Environment, beside};
use crate::ledger::{Act, Message, Outcome};
use crate::letters::letter;
use crate::loader::Loader;

/// The mark of this loop.
const MARK: &str = "triggers/position";
/// Rows read from the log at once.
const PAGE: u32 = 256;
/// How often the mark is saved when nothing fires.
const SAVE: Duration = Duration::from_secs(5);
/// Rows whose consequences are one commit.
const AT_ONCE: usize = 64;
/// How often a row that cannot be dealt with is tried before it is passed over.
const VAIN_LIMIT: u32 = 5;
/// Delay before something that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

pub(super) struct Loop {
    engine: Engine,
    feed: TriggerFeed,
    /// Everything up to here is dealt with.
    position: u64,
    /// The position that is saved.
    saved: u64,
    /// Where the log ended when the server started: up to there it must be read.
    end: u64,
    /// Whether rows that were handed over are not dealt with, so that the log must be read.
    behind: bool,
}

/// What an event leads to.
#[derive(Default)]
struct Consequences {
    act: Act,
    letters: Vec<DeadLetter>,
}

impl Loop {
    pub(super) async fn open(engine: Engine, feed: TriggerFeed, end: u64) -> Result<Loop, StoreError> {
        let position = if let Some(position) = read_mark(&engine).await? {
            position
        } else {
            engine.inner.store.set_marks(&[mark(end)]).await?;
            end
        };
        Ok(Loop { engine, feed, position, saved: position, end, behind: position < end })
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut save = tokio::time::interval(SAVE);
        save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.behind || self.feed.lagged.swap(false, Ordering::AcqRel) {
                self.behind = !self.catch_up(&stop).await;
            }
            let came = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                came = self.feed.rows.recv() => match came {
                    Some(came) => came,
                    None => break,
                },
                _ = save.tick() => {
                    self.save().await;
                    continue;
                }
            };
            // What was dropped before this came is dealt with first.
            if self.feed.lagged.swap(false, Ordering::AcqRel) {
                self.behind = !self.catch_up(&stop).await;
                continue;
            }
            let fresh: Vec<_> = came.rows.into_iter().filter(|(position, _)| *position > self.position).collect();
            self.behind = !self.deal_with_all(&fresh, &stop).await;
            if !self.behind {
                self.position = self.position.max(came.end);
            }
        }
        self.save().await;
    }

    /// Reads the log up to its end. False if it was interrupted.
    async fn catch_up(&mut self, stop: &CancellationToken) -> bool {
        loop {
            if stop.is_cancelled() {
                return false;
            }
            match self.engine.inner.store.log_after(self.position, "", PAGE).await {
                Ok(rows) if rows.is_empty() => return true,
                Ok(rows) => {
                    let last = rows.last().map_or(self.position, |(position, _)| *position);
                    let registry = &self.engine.inner.registry;
                    let wanted: Vec<_> = rows.into_iter().filter(|(_, row)| registry.wants(row)).collect();
                    if !self.deal_with_all(&wanted, stop).await {
                        return false;
                    }
                    self.position = last;
                }
                Err(error) => {
                    tracing::warn!(%error, "the log could not be read for triggers; trying again");
                    wait(stop).await;
                }
            }
        }
    }

    /// Does what rows lead to, some of them in one commit. False if it was interrupted.
    async fn deal_with_all(&mut self, rows: &[(u64, LogRow)], stop: &CancellationToken) -> bool {
        for some in rows.chunks(AT_ONCE) {
            if !self.deal_with(some, stop).await {
                return false;
            }
        }
        true
    }

    /// Does what rows lead to, until it is on disk. False if it was interrupted.
    async fn deal_with(&mut self, rows: &[(u64, LogRow)], stop: &CancellationToken) -> bool {
        let Some(last) = rows.last().map(|(position, _)| *position) else { return true };
        let mut vain = 0;
        loop {
            let error = match self.try_to(rows, last).await {
                Ok(()) => {
                    self.position = last;
                    return true;
                }
                Err(error) => error,
            };
            if stop.is_cancelled() {
                tracing::debug!(%error, last, "triggers are left for the next start");
                return false;
            }
            vain += 1;
            if error.kind == Kind::Internal && vain >= VAIN_LIMIT {
                // It would be the same for ever, and everything behind it waits.
                if let [(position, _)] = rows {
                    tracing::error!(%error, position, "an event is passed over by the triggers; please report this");
                    self.position = last;
                    return true;
                }
                for one in rows.chunks(1) {
                    if !Box::pin(self.deal_with(one, stop)).await {
                        return false;
                    }
                }
                return true;
            }
            tracing::warn!(%error, last, "triggers could not fire; trying again");
            // A commit whose answer was lost may be there after all. Until that is known nothing may fire again.
            let saved = loop {
                wait(stop).await;
                match read_mark(&self.engine).await {
                    Ok(saved) => break saved,
                    Err(_) if stop.is_cancelled() => return false,
                    Err(error) => tracing::warn!(%error, "the place of the triggers cannot be read; trying again"),
                }
            };
            if let Some(saved) = saved.filter(|saved| *saved >= last) {
                (self.saved, self.position) = (saved, last);
                return true;
            }
        }
    }

    async fn try_to(&mut self, rows: &[(u64, LogRow)], last: u64) -> Result<(), Error> {
        let mut all = Consequences::default();
        for (position, row) in rows {
            let events = match row {
                LogRow::Published(event) => vec![event.clone()],
                LogRow::Run(record) => envelopes(record, &self.engine.inner.options.instance)
                    .map_err(|why| Error::internal(format!("row {position} of the log cannot be read: {why}")))?,
            };
            for event in events {
                if event.event_type == signals::DETECTED {
                    signals::route(&self.engine, &event, &mut all.act).await?;
                }
                self.fire(event, row, &mut all).await?;
            }
        }
        if !all.letters.is_empty() {
            self.engine.inner.store.bury(&all.letters).await.map_err(|e| crate::store_error(&e))?;
        }
        if all.act.starts.is_empty() && all.act.signals.is_empty() {
            return Ok(());
        }
        all.act.marks.push(mark(last));
        let signals = all.act.signals.clone();
        self.engine.act(all.act).await?;
        self.saved = last;
        for row in signals {
            self.engine.inner.waiting.tell(row);
        }
        Ok(())
    }

    /// Starts the workflows whose triggers match an event.
    async fn fire(&self, event: Published, row: &LogRow, all: &mut Consequences) -> Result<(), Error> {
        let matching: Vec<Arc<Triggered>> = self.engine.inner.registry.of(&event.namespace);
        let wants = |t: &&Arc<Triggered>| t.definition.triggers.events.iter().any(|e| e.wants(&event.event_type));
        let matching: Vec<_> = matching.iter().filter(wants).cloned().collect();
        if matching.is_empty() {
            return Ok(());
        }
        let depth = 1 + match row {
            LogRow::Published(event) => event.depth,
            LogRow::Run(record) => self.depth_of(record.run).await?,
        };
        let payload = payload_of(&self.engine, &event).await?;
        let id = event.event_id;
        let environment = Arc::clone(self.engine.environment());
        // Expressions may take a while: not on a thread that others need.
        let evaluated =
            beside(self.engine.environment(), move || evaluate(&event, &payload, &matching, depth, &*environment))
                .await;
        let (starts, refused) =
            evaluated.map_err(|_| Error::internal(format!("the triggers of event {id} could not be evaluated")))?;
        all.act.starts.extend(starts);
        all.letters.extend(refused);
        Ok(())
    }

    /// How many triggered runs led to a run.
    async fn depth_of(&self, run: RunId) -> Result<u32, Error> {
        let first = self.engine.inner.store.records_after(run, 0, 1).await.map_err(|e| crate::store_error(&e))?;
        let started =
            first.first().and_then(|record| record.entries().ok()).and_then(|entries| entries.into_iter().next());
        Ok(match started.map(|entry| entry.fact) {
            Some(Fact::RunStarted(started)) => started.cause.map_or(0, |cause| cause.depth),
            _ => 0,
        })
    }

    /// Saves how far the loop is, if that changed.
    async fn save(&mut self) {
        if self.behind {
            // What was interrupted may have been written, with a place that this one must not set back.
            return;
        }
        let seen = self.feed.seen.load(Ordering::Acquire);
        if self.feed.rows.is_empty() && !self.feed.lagged.load(Ordering::Acquire) && self.position >= self.end {
            self.position = self.position.max(seen);
        }
        if self.position == self.saved {
            return;
        }
        match self.engine.inner.store.set_marks(&[mark(self.position)]).await {
            Ok(()) => self.saved = self.position,
            Err(error) => tracing::warn!(%error, "the place of the triggers could not be saved"),
        }
    }
}

type Start = (RunId, consort_core::event::RunStarted, Arc<consort_core::workflow::Workflow>);

fn evaluate(
    event: &Published,
    payload: &Value,
    matching: &[Arc<Triggered>],
    depth: u32,
    environment: &dyn Environment,
) -> (Vec<Start>, Vec<DeadLetter>) {
    let (mut starts, mut letters) = (Vec::new(), Vec::new());
    let fired = Fired::new(Local::Event, &view(event, payload));
    for triggered in matching {
        let wanting = triggered.definition.triggers.events.iter().filter(|t| t.wants(&event.event_type));
        for (number, trigger) in wanting.enumerate() {
            let inputs = match fired.holds(trigger.condition.as_ref()) {
                Ok(false) => continue,
                Ok(true) if depth > MAX_CHAIN => {
                    Err(format!("a chain of more than {MAX_CHAIN} triggered runs led to it"))
                }
                Ok(true) => fired.inputs(&trigger.inputs, &triggered.definition),
                Err(why) => Err(why),
            };
            let (event_id, event_type) = (event.event_id, event.event_type.clone());
            match inputs {
                Ok(inputs) => {
                    starts.push(start(
                        RunId(environment.new_id()),
                        triggered,
                        inputs,
                        Trigger::Event { event_id, event_type },
                        depth,
                        None,
                        Some(event_id),
                    ));
                }
                Err(why) => {
                    let workflow = &triggered.workflow;
                    tracing::warn!(%workflow, %event_id, why, "an event that matches a trigger starts nothing");
                    let what = Uuid::new_v5(&event_id, format!("{workflow}/{number}").as_bytes());
                    letters.push(letter(
                        event,
                        what,
                        format!("it starts no run of workflow `{workflow}`: {why}"),
                        environment.now(),
                    ));
                }
            }
        }
    }
    (starts, letters)
}

/// An event as the expressions of a trigger see it.
fn view(event: &Published, payload: &Value) -> Value {
    json!({
        "id": event.event_id.to_string(),
        "type": event.event_type,
        "version": event.event_version,
        "source": event.source,
        "subject": event.subject,
        "correlation_id": event.correlation_id.to_string(),
        "time": rfc3339(event.timestamp),
        "payload": payload,
    })
}

/// The payload of an event, loaded.
pub(super) async fn payload_of(engine: &Engine, event: &Published) -> Result<Value, Error> {
    match &event.payload {
        Data::Inline(json) => Ok(json.value()),
        Data::Blob(blob) => {
            let loader = Loader::of(engine);
            match loader.text(blob).await.map_err(|e| crate::store_error(&e))? {
                Ok(json) => Ok(json.value()),
                // Gone for good: triggers see that there is none.
                Err(why) => {
                    tracing::error!(event = %event.event_id, why, "the payload of an event cannot be read");
                    Ok(Value::Null)
                }
            }
        }
    }
}

fn mark(position: u64) -> Mark {
    Mark { name: MARK.to_owned(), value: Some(position.to_string()) }
}

async fn read_mark(engine: &Engine) -> Result<Option<u64>, StoreError> {
    let marks = engine.inner.store.marks(MARK, "", 1).await?;
    let Some(value) = marks.first().and_then(|mark| mark.value.as_deref()) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| StoreError::Corrupt(format!("the mark `{MARK}` is `{value}`")))
}

async fn wait(stop: &CancellationToken) {
    let _ = tokio::time::timeout(RETRY, stop.cancelled()).await;
}

impl Engine {
    /// Has the ledger do several things at once.
    pub(crate) async fn act(&self, act: Act) -> Result<Outcome, Error> {
        self.ask_until_own(|reply| Message::Act { act: Box::new(act.clone()), reply }).await
    }
}
