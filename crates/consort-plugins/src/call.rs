//! A call: checked, carried to the plugin, its chunks kept, its result checked; made again where its effect allows it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use consort_core::data::{INLINE_LIMIT, Json};
use consort_core::event::{Code, Failure};
use consort_core::plugin::{Effect, Invocation, Invoke, InvokeNews, Outcome, PluginAction as Action};
use consort_core::ports::{BlobStore, BlobWriter, StoreError};
use consort_core::{BlobRef, Data, Error, Kind};
use consort_proto::blob::{Payload, payload};
use consort_proto::plugin as wire;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant as Deadline, Sleep, sleep_until, timeout_at};
use tonic::{Request, Status};

use crate::audit::Audit;
use crate::contract::Contract;
use crate::convert;
use crate::host::inline;
use crate::stats::Stats;
use crate::supervise::{Live, Phase};

/// Bytes of an input: larger values are handed over by the name of their blob.
const INPUT: u64 = 3 * 1024 * 1024;
/// Bytes of a result, and of one that must match a schema.
const RESULT: u64 = 16 * 1024 * 1024 * 1024;
const JSON_RESULT: u64 = 64 * 1024 * 1024;
/// Bytes of a progress or log line.
const LINE: usize = 8 * 1024;
/// Lines of `would` and `actions`, and bytes of each.
const LINES: usize = 1_000;
/// Tries of a call that was lost with its plugin.
const TRIES: u32 = 3;

/// What a call needs of the registry.
#[derive(Clone)]
pub(crate) struct Caller {
    pub blobs: Arc<dyn BlobStore>,
    pub audit: Arc<Audit>,
    pub stats: Arc<Stats>,
    pub phase: watch::Receiver<Phase>,
}

/// A call on its way. It is driven by whoever reads it: no task of its own stands between the caller and the plugin.
pub(crate) struct Calling {
    work: Work,
    at: At,
    tries: u32,
    began: Instant,
    /// Ends at the call's deadline: one timer for all that it waits for.
    late: Pin<Box<Sleep>>,
}

/// Where a call is.
enum At {
    /// To be made.
    Begin(Arc<Live>),
    /// Made, and nothing came yet. A caller that stopped waiting in the middle of it and comes back finds it lost.
    Asked,
    /// Answered.
    Stream(Box<Stream>),
    /// Counted.
    Over,
}

/// An answer that comes.
struct Stream {
    on: Arc<Live>,
    messages: tonic::Streaming<wire::InvokeResponse>,
    gathered: Gathered,
    _room: Room,
}

#[async_trait]
impl Invocation for Calling {
    async fn next(&mut self) -> Option<Result<InvokeNews, Error>> {
        loop {
            let ended = match std::mem::replace(&mut self.at, At::Asked) {
                At::Over => {
                    self.at = At::Over;
                    return None;
                }
                At::Asked => Ended::Lost("the caller left it in the middle".to_owned()),
                At::Begin(on) => match before(&mut self.late, self.work.ask(on, self.began)).await {
                    Ok(Ok(stream)) => {
                        self.at = At::Stream(stream);
                        continue;
                    }
                    Ok(Err(ended)) => ended,
                    Err(Late) => Ended::Late,
                },
                At::Stream(mut stream) => match before(&mut self.late, self.work.read(&mut stream, self.began)).await {
                    Ok(Read::News(news)) => {
                        self.at = At::Stream(stream);
                        return Some(Ok(news));
                    }
                    Ok(Read::Part) => {
                        self.at = At::Stream(stream);
                        continue;
                    }
                    Ok(Read::Ended(ended)) => ended,
                    Err(Late) => Ended::Late,
                },
            };
            self.tries += 1;
            let repeats = self.work.contract.operation.effect.repeats();
            let ended = match ended {
                Ended::Lost(why) if repeats && self.tries < TRIES => {
                    let operation = &self.work.call.operation;
                    tracing::warn!(%operation, tries = self.tries, "called again: {why}");
                    match live(&mut self.work.caller.phase, &operation.plugin, self.work.until).await {
                        Ok(next) => {
                            self.at = At::Begin(next);
                            continue;
                        }
                        Err(error) => Ended::Failed(error),
                    }
                }
                ended => ended,
            };
            return Some(self.end(ended));
        }
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        if !matches!(self.at, At::Over) {
            // What nobody waits for is cancelled; that it was begun stands in the audit log.
            let _ = self.end(Ended::Unwanted);
        }
    }
}

impl Calling {
    /// The last word, counted.
    fn end(&mut self, ended: Ended) -> Result<InvokeNews, Error> {
        self.at = At::Over;
        let work = &self.work;
        work.caller.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
        let operation = &work.call.operation;
        let unknown = |why: &str| {
            let said = format!("{why}; `{operation}` is a write, and nobody knows whether it was done");
            Error::new(Kind::Aborted, "OUTCOME_UNKNOWN", said)
        };
        let repeats = work.contract.operation.effect.repeats();
        let last = match ended {
            Ended::Done(outcome) => Ok(InvokeNews::Done(*outcome)),
            Ended::Lost(why) if repeats => {
                let said = format!("`{operation}` was lost {} times: {why}", self.tries);
                Err(Error::unavailable(said, Duration::from_secs(1)))
            }
            Ended::Lost(why) => Err(unknown(&why)),
            Ended::Late if repeats => {
                let said = format!("`{operation}` did not end in time");
                Err(Error::new(Kind::DeadlineExceeded, "DEADLINE_EXCEEDED", said))
            }
            Ended::Late => Err(unknown("the time is up")),
            Ended::Unwanted => Err(unknown("the caller left")),
            Ended::Failed(error) => Err(error),
        };
        work.count(&last, self.began.elapsed());
        last
    }
}

/// Waits until a plugin takes calls.
pub(crate) async fn live(phase: &mut watch::Receiver<Phase>, id: &str, until: Deadline) -> Result<Arc<Live>, Error> {
    loop {
        let now = phase.borrow_and_update().clone();
        let why = match now {
            Phase::Running(live) if !live.running.is_over() => return Ok(live),
            Phase::Running(_) | Phase::Starting | Phase::BackingOff(_) => None,
            Phase::Crashing(why) => Some(Error {
                retry_after: Some(Duration::from_secs(60)),
                ..Error::new(Kind::Unavailable, "PLUGIN_CRASHING", format!("plugin `{id}` {why}"))
            }),
            Phase::Refused(error) => {
                let said = format!("plugin `{id}` is not started: {}", error.message);
                Some(Error { violations: error.violations.clone(), ..Error::precondition("PLUGIN_REFUSED", said) })
            }
            Phase::Draining => Some(Error::unavailable(format!("plugin `{id}` is stopping"), Duration::from_secs(1))),
            Phase::Disabled => {
                let said = format!("plugin `{id}` is disabled; set `enabled: true` in plugins.yaml");
                Some(Error::precondition("PLUGIN_REFUSED", said))
            }
        };
        if let Some(why) = why {
            return Err(why);
        }
        let late = || {
            let said = format!("plugin `{id}` did not come up in time; `consort plugins` says why");
            Error {
                retry_after: Some(Duration::from_secs(1)),
                ..Error::new(Kind::Unavailable, "PLUGIN_STARTING", said)
            }
        };
        match timeout_at(until, phase.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(late()),
        }
    }
}

/// The contract of an operation; NOT_FOUND with the nearest name.
pub(crate) fn contract<'a>(live: &'a Live, call: &str) -> Result<&'a Arc<Contract>, Error> {
    live.hello.operations.get(call).ok_or_else(|| {
        let known = live.hello.operations.keys().map(|name| &**name);
        let near = consort_core::workflow::nearest(call, known.clone());
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it has {}", known.take(20).collect::<Vec<_>>().join(", ")),
        };
        let said = format!("plugin `{}` has no operation `{call}`; {hint}", live.manifest.id);
        Error::new(Kind::NotFound, "NOT_FOUND", said)
    })
}

/// Checks a call and begins it.
pub(crate) async fn begin(mut caller: Caller, call: Invoke) -> Result<Calling, Error> {
    let id = call.operation.plugin.clone();
    // Until the operation is known, its own limit is not.
    let patience = Deadline::now() + call.timeout.unwrap_or(Duration::from_secs(30));
    let live = live(&mut caller.phase, &id, patience).await?;
    let contract = contract(&live, &call.operation.operation)?.clone();
    if call.dry_run && !contract.operation.dry_run {
        let said = format!("operation `{}` cannot say what it would do; call it without dry_run", call.operation);
        return Err(Error::precondition("NO_DRY_RUN", said));
    }
    let text = text_of(&*caller.blobs, &call.input).await?;
    let value: Value = serde_json::from_str(&text).map_err(|error| Error::bad_field("input", error.to_string()))?;
    contract.check_input(&value)?;
    let until = Deadline::now() + call.timeout.unwrap_or(contract.operation.timeout);
    caller.stats.in_flight.fetch_add(1, Ordering::Relaxed);
    let work = Work { caller, call, contract, text, until };
    Ok(Calling { work, at: At::Begin(live), tries: 0, began: Instant::now(), late: Box::pin(sleep_until(until)) })
}

async fn text_of(blobs: &dyn BlobStore, input: &Data) -> Result<String, Error> {
    match input {
        Data::Inline(json) => Ok(json.as_str().to_owned()),
        Data::Blob(blob) => {
            if blob.size > INPUT {
                let said = format!("has {} bytes; the most is {INPUT}. Hand over the blob's sha256 instead", blob.size);
                return Err(Error::bad_field("input", said));
            }
            let bytes = blobs.read(&blob.sha256, 0, blob.size as usize).await.map_err(|error| store(&error))?;
            let bytes =
                bytes.ok_or_else(|| Error::bad_field("input", format!("there is no blob `{}`", blob.sha256)))?;
            String::from_utf8(bytes).map_err(|_| Error::bad_field("input", "is not UTF-8"))
        }
    }
}

fn store(error: &StoreError) -> Error {
    Error::unavailable(format!("the store of blobs: {error}"), Duration::from_secs(1))
}

/// The time is up.
struct Late;

async fn before<T>(late: &mut Pin<Box<Sleep>>, work: impl Future<Output = T>) -> Result<T, Late> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = late => Err(Late),
    }
}

/// How a try ended.
enum Ended {
    /// The plugin said how.
    Done(Box<Outcome>),
    /// It died, or its answer broke off.
    Lost(String),
    /// The time is up.
    Late,
    /// Nobody waits any more.
    Unwanted,
    /// The mesh itself could not go on.
    Failed(Error),
}

struct Work {
    caller: Caller,
    call: Invoke,
    contract: Arc<Contract>,
    text: String,
    until: Deadline,
}

/// What a message means.
enum Read {
    /// Something to tell.
    News(InvokeNews),
    /// A part of the result.
    Part,
    /// The end.
    Ended(Ended),
}

impl Work {
    fn count(&self, last: &Result<InvokeNews, Error>, took: Duration) {
        let (code, actions) = match last {
            Ok(InvokeNews::Done(outcome)) => {
                let actions = if self.call.dry_run { outcome.would.clone() } else { outcome.actions.clone() };
                (outcome.result.as_ref().err().map_or(0, |failure| failure.code), actions)
            }
            Ok(_) => (0, Vec::new()),
            Err(error) => (code_of(error.kind) as i32, Vec::new()),
        };
        self.caller.stats.count(took, code != 0);
        let origin = &self.call.origin;
        let action = Action {
            number: 0,
            time: jiff::Timestamp::now().as_millisecond(),
            operation: self.call.operation.to_string(),
            call_id: self.call.call_id.to_string(),
            namespace: origin.namespace.to_string(),
            step: origin.step.as_ref().map(|(run, step)| (run.to_string(), step.to_string())),
            agent: origin.agent.as_ref().map(ToString::to_string),
            code,
            took_ms: took.as_millis() as u64,
            actions,
            dry_run: self.call.dry_run,
        };
        let changed = self.contract.operation.effect != Effect::Read && !self.call.dry_run;
        self.caller.audit.write(action, changed);
    }

    /// Makes the call.
    async fn ask(&self, on: Arc<Live>, began: Instant) -> Result<Box<Stream>, Ended> {
        let room = room(&on, &self.call, self.until).await.map_err(Ended::Failed)?;
        let origin = &self.call.origin;
        let namespace = format!("namespaces/{}", origin.namespace);
        let step = origin.step.as_ref().map(|(run, step)| format!("{namespace}/runs/{run}/steps/{step}"));
        let mut request = Request::new(wire::InvokeRequest {
            operation: self.call.operation.operation.to_string(),
            input: Some(inline(&self.text)),
            call_id: self.call.call_id.to_string(),
            idempotency_key: self.call.idempotency_key.clone(),
            dry_run: self.call.dry_run,
            origin: Some(wire::Origin {
                namespace,
                step: step.unwrap_or_default(),
                agent: origin.agent.as_deref().unwrap_or_default().to_owned(),
            }),
        });
        request.set_timeout(told(self.until.saturating_duration_since(Deadline::now())));
        match on.client.clone().invoke(request).await {
            Ok(response) => {
                let messages = response.into_inner();
                Ok(Box::new(Stream { on, messages, gathered: Gathered::default(), _room: room }))
            }
            Err(status) => Err(self.failed(&on, &status, began).await),
        }
    }

    /// Reads one message of the answer.
    async fn read(&self, stream: &mut Stream, began: Instant) -> Read {
        let kind = match stream.messages.message().await {
            Ok(Some(message)) => message.kind,
            Ok(None) => return Read::Ended(Ended::Lost("its answer ended without a result".to_owned())),
            Err(status) => return Read::Ended(self.failed(&stream.on, &status, began).await),
        };
        match kind {
            Some(wire::invoke_response::Kind::Progress(wire::Progress { fraction, message })) => {
                let fraction = if fraction.is_nan() { -1.0 } else { fraction.clamp(-1.0, 1.0) };
                Read::News(InvokeNews::Progress(fraction, cut(message)))
            }
            Some(wire::invoke_response::Kind::Log(wire::Log { level, message, .. })) => {
                let known = ["debug", "info", "warn", "error"].contains(&level.as_str());
                let level = if known { level } else { "info".to_owned() };
                Read::News(InvokeNews::Log(level, cut(message)))
            }
            Some(wire::invoke_response::Kind::Chunk(bytes)) => {
                match stream.gathered.take(&*self.caller.blobs, &bytes).await {
                    Ok(()) => Read::Part,
                    Err(ended) => Read::Ended(ended),
                }
            }
            Some(wire::invoke_response::Kind::Result(result)) => {
                let gathered = std::mem::take(&mut stream.gathered);
                Read::Ended(self.finish(&stream.on, gathered, result, began).await)
            }
            None => Read::Part,
        }
    }

    /// What a status means: the plugin's own word, or that it is gone.
    async fn failed(&self, on: &Live, status: &Status, began: Instant) -> Ended {
        let own = std::error::Error::source(status).is_none();
        if !own {
            // The connection broke; its process is about to be known as ended.
            let how = tokio::time::timeout(Duration::from_millis(500), on.running.ended()).await;
            let how = how.map_or_else(|_| status.message().to_owned(), |how| format!("it ended: {how}"));
            return Ended::Lost(how);
        }
        if status.code() == tonic::Code::DeadlineExceeded && Deadline::now() >= self.until {
            return Ended::Late;
        }
        Work::done(on, Err(convert::failure(status)), Vec::new(), Vec::new(), began)
    }

    async fn finish(&self, on: &Live, gathered: Gathered, result: wire::Result, began: Instant) -> Ended {
        let broke = |why: String| {
            let said = format!("plugin `{}` broke the contract of `{}`: {why}", on.manifest.id, self.call.operation);
            Failure::new(Code::Internal, said)
        };
        let wire::Result { output, media_type, would, actions } = result;
        let read = match gathered.writer {
            Some(writer) => self.chunked(writer, &media_type).await,
            None => whole(output).map(|text| (None, text)).map_err(Broke::Contract),
        };
        let checked = match read {
            Ok((blob, text)) => match serde_json::from_str::<Value>(&text) {
                Ok(value) => self.contract.check_output(&value).map(|()| (blob, text)).map_err(Broke::Contract),
                Err(error) => Err(Broke::Contract(format!("its output is not JSON: {error}"))),
            },
            Err(broke) => Err(broke),
        };
        let result = match checked {
            Ok((Some(blob), _)) => Ok(Data::Blob(blob)),
            Ok((None, text)) => match self.kept(text).await {
                Ok(data) => Ok(data),
                Err(Broke::Contract(why)) => Err(broke(why)),
                Err(Broke::Mesh(error)) => return Ended::Failed(error),
            },
            Err(Broke::Contract(why)) => Err(broke(why)),
            Err(Broke::Mesh(error)) => return Ended::Failed(error),
        };
        Work::done(on, result, would, actions, began)
    }

    fn done(
        on: &Live,
        result: Result<Data, Failure>,
        would: Vec<String>,
        actions: Vec<String>,
        began: Instant,
    ) -> Ended {
        let lines = |lines: Vec<String>| lines.into_iter().take(LINES).map(cut).collect();
        Ended::Done(Box::new(Outcome {
            result,
            would: lines(would),
            actions: lines(actions),
            took: began.elapsed(),
            version: on.hello.version.clone(),
        }))
    }

    /// What chunks are: the output itself, if they are JSON, or a blob that the output names.
    async fn chunked(&self, writer: Box<dyn BlobWriter>, media_type: &str) -> Result<(Option<BlobRef>, String), Broke> {
        let mesh = |error: StoreError| Broke::Mesh(store(&error));
        let blob = writer.finish().await.map_err(mesh)?;
        if media_type != "application/json" {
            let media_type = if media_type.is_empty() { "application/octet-stream" } else { media_type };
            let named = json!({"sha256": &*blob.sha256, "size_bytes": blob.size, "media_type": media_type});
            return Ok((None, named.to_string()));
        }
        if blob.size > JSON_RESULT {
            let why =
                format!("its JSON has {} bytes; the most is {JSON_RESULT}. Send it with another media type", blob.size);
            return Err(Broke::Contract(why));
        }
        let bytes = self.caller.blobs.read(&blob.sha256, 0, blob.size as usize).await.map_err(mesh)?;
        let text = String::from_utf8(bytes.unwrap_or_default());
        let text = text.map_err(|_| Broke::Contract("its output is not UTF-8".to_owned()))?;
        let small = text.len() <= INLINE_LIMIT;
        let blob = BlobRef { media_type: "application/json".into(), ..blob };
        Ok(((!small).then_some(blob), text))
    }

    /// Large values travel as blobs.
    async fn kept(&self, text: String) -> Result<Data, Broke> {
        let large = text.len() > INLINE_LIMIT;
        let json = Json::parse(text).map_err(|error| Broke::Contract(format!("its output: {error}")))?;
        if !large {
            return Ok(Data::Inline(json));
        }
        let bytes = json.as_str().as_bytes();
        let blob = BlobRef {
            sha256: hex::encode(Sha256::digest(bytes)).into(),
            size: bytes.len() as u64,
            media_type: "application/json".into(),
        };
        self.caller.blobs.put(&blob, bytes).await.map_err(|error| Broke::Mesh(store(&error)))?;
        Ok(Data::Blob(blob))
    }
}

enum Broke {
    Contract(String),
    Mesh(Error),
}

/// The bytes of a result so far.
#[derive(Default)]
struct Gathered {
    writer: Option<Box<dyn BlobWriter>>,
    size: u64,
}

impl Gathered {
    async fn take(&mut self, blobs: &dyn BlobStore, bytes: &[u8]) -> Result<(), Ended> {
        self.size += bytes.len() as u64;
        if self.size > RESULT {
            let said = format!("the result is larger than {RESULT} bytes, the most that one may have");
            return Err(Ended::Failed(Error::new(Kind::ResourceExhausted, "RESULT_TOO_LARGE", said)));
        }
        let failed = |error: StoreError| Ended::Failed(store(&error));
        if self.writer.is_none() {
            self.writer = Some(blobs.writer("application/octet-stream").await.map_err(failed)?);
        }
        match &mut self.writer {
            Some(writer) => writer.write(bytes).await.map_err(failed),
            None => Ok(()),
        }
    }
}

/// The text of an inline output; absent means null.
fn whole(output: Option<Payload>) -> Result<String, String> {
    match output.and_then(|output| output.kind) {
        None => Ok("null".to_owned()),
        Some(payload::Kind::Json(text)) => Ok(text),
        Some(payload::Kind::Value(value)) => {
            let fields = [("v".to_owned(), value)].into();
            let mut object = convert::json(prost_types::Struct { fields });
            Ok(object["v"].take().to_string())
        }
        Some(payload::Kind::Blob(_)) => Err("a plugin sends its output inline or in chunks, not as a blob".to_owned()),
    }
}

/// A place among the calls in work.
type Room = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// A place in the plugin's queue, and then among the calls in work.
async fn room(on: &Live, call: &Invoke, until: Deadline) -> Result<Room, Error> {
    let full = || {
        let said = format!(
            "plugin `{}` has {} calls in work and as many as may wait",
            on.manifest.id, on.manifest.limits.in_flight
        );
        Error {
            retry_after: Some(Duration::from_millis(500)),
            ..Error::new(Kind::ResourceExhausted, "PLUGIN_BUSY", said)
        }
    };
    let place = on.queue.clone().try_acquire_owned().map_err(|_| full())?;
    if let Ok(Ok(permit)) = timeout_at(until, on.permits.clone().acquire_owned()).await {
        return Ok((place, permit));
    }
    let said = format!("`{}` waited for its turn until its time was up", call.operation);
    Err(Error::new(Kind::DeadlineExceeded, "DEADLINE_EXCEEDED", said))
}

/// What a plugin is told of the time that is left. The mesh keeps the deadline itself, so long ones are whole seconds: the same words in each
/// call's headers are one byte of HTTP/2, and new ones are some twenty.
fn told(left: Duration) -> Duration {
    if left < Duration::from_secs(5) { left } else { Duration::from_secs(left.as_secs() + 1) }
}

fn cut(mut text: String) -> String {
    if text.len() > LINE {
        let end = (0..=LINE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn code_of(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Aborted => Code::Aborted,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}
