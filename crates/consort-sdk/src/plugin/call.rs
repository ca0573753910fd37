//! What an operation knows of its call, and what it can say meanwhile.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use consort_proto::plugin as wire;
use consort_proto::plugin::invoke_response::Kind;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::fault::{Fault, cut};
use super::host::Host;
use super::settings::Settings;
use super::writer::{Stage, Writer};
use super::{Origin, Permissions};

/// Lines of `would` and of `did`, bytes of each, and of all.
const LINES: usize = 1_000;
const LINE: usize = 8 * 1024;
const ALL_LINES: usize = 512 * 1024;

/// What goes back to the mesh, in order.
pub(super) type News = mpsc::Sender<Result<wire::InvokeResponse, Status>>;

/// A call of an operation. Clones are the same call.
#[derive(Clone)]
pub struct Call {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) operation: String,
    pub(super) call_id: String,
    pub(super) idempotency_key: String,
    pub(super) dry_run: bool,
    pub(super) origin: Origin,
    pub(super) deadline: Option<Instant>,
    pub(super) cancel: CancellationToken,
    pub(super) news: News,
    pub(super) would: Lines,
    pub(super) did: Lines,
    pub(super) stage: Mutex<Stage>,
    pub(super) settings: Arc<Settings>,
    pub(super) host: Host,
    /// The call is in work as long as anybody has it.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Lines that go with the result.
#[derive(Default)]
pub(super) struct Lines(Mutex<(Vec<String>, usize)>);

impl Lines {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = cut(line, LINE);
        if lines.0.len() < LINES - 1 && lines.1.saturating_add(line.len()) <= ALL_LINES {
            lines.1 += line.len();
            lines.0.push(line);
        } else if lines.1 < usize::MAX {
            lines.1 = usize::MAX;
            lines.0.push("and more, which is not listed".to_owned());
        }
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// How grave a line of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who look for a mistake.
    Debug,
    /// What happens.
    Info,
    /// What may go wrong.
    Warn,
    /// What went wrong.
    Error,
}

impl Level {
    /// As the protocol spells it: `debug`, `info`, `warn` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

impl Call {
    /// UUID of this call, for logs.
    pub fn id(&self) -> &str {
        &self.inner.call_id
    }

    /// Name of the operation.
    pub fn operation(&self) -> &str {
        &self.inner.operation
    }

    /// Equal for all tries of the same call; empty if the caller gave none.
    pub fn idempotency_key(&self) -> &str {
        &self.inner.idempotency_key
    }

    /// On whose behalf it is made.
    pub fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    /// Whether it must only say what it would do, with [`Call::would`].
    pub fn dry_run(&self) -> bool {
        self.inner.dry_run
    }

    /// When its time is up; absent if it has no limit.
    pub fn deadline(&self) -> Option<std::time::Instant> {
        self.inner.deadline.map(Instant::into_std)
    }

    /// Time that is left; absent if there is no limit.
    pub fn time_left(&self) -> Option<Duration> {
        self.inner.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Resolves when nobody waits for the result any more: the caller cancelled, the time is up, or the plugin ends. A second
    /// later the operation's future is dropped.
    pub async fn cancelled(&self) {
        self.inner.cancel.cancelled().await;
    }

    /// Whether nobody waits for the result any more; for computing code, which cannot be stopped from outside.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancel.is_cancelled()
    }

    /// Fails with CANCELLED if nobody waits for the result any more.
    pub fn check_cancelled(&self) -> Result<(), Fault> {
        if self.is_cancelled() { Err(Fault::cancelled()) } else { Ok(()) }
    }

    /// The token that is cancelled with the call, for libraries that take one.
    pub fn cancellation(&self) -> CancellationToken {
        self.inner.cancel.clone()
    }

    /// Says how far it is, 0 to 1 (negative if unknown), and what it does now. Waits while the mesh is slow.
    pub async fn progress(&self, fraction: f64, message: impl Into<String>) {
        self.send(progress(fraction, message.into())).await;
    }

    /// As [`Call::progress`], for code that cannot wait: dropped while the mesh is slow.
    pub fn report_progress(&self, fraction: f64, message: impl Into<String>) {
        let _ = self.inner.news.try_send(Ok(wire::InvokeResponse { kind: Some(progress(fraction, message.into())) }));
    }

    /// Adds a line to the log of the call. Waits while the mesh is slow.
    pub async fn log(&self, level: Level, message: impl Into<String>) {
        self.send(Kind::Log(wire::Log {
            time: Some(SystemTime::now().into()),
            level: level.as_str().to_owned(),
            message: cut(message.into(), LINE),
        }))
        .await;
    }

    /// Adds a line of level info to the log.
    pub async fn info(&self, message: impl Into<String>) {
        self.log(Level::Info, message).await;
    }

    /// Adds a line of level warn to the log.
    pub async fn warn(&self, message: impl Into<String>) {
        self.log(Level::Warn, message).await;
    }

    /// Says one thing that would be done; for dry runs. 1,000 lines are kept.
    pub fn would(&self, line: impl Into<String>) {
        self.inner.would.push(line.into());
    }

    /// Says one thing that was done to the world, for the audit log. 1,000 lines are kept.
    pub fn did(&self, line: impl Into<String>) {
        self.inner.did.push(line.into());
    }

    /// Writes a large result of a media type, for example `text/csv`, in place of a JSON output; it is kept as a blob, which the
    /// output names. The operation returns what [`Writer::finish`] gives. There is one writer per call.
    pub fn writer(&self, media_type: impl Into<String>) -> Result<Writer, Fault> {
        Writer::open(self.clone(), media_type.into())
    }

    /// The configuration, of the type that was given to [`Plugin::config`](super::Plugin::config).
    pub fn config<C: Send + Sync + 'static>(&self) -> Result<Arc<C>, Fault> {
        let known = self.inner.settings.config.clone();
        known.and_then(|known| known.downcast::<C>().ok()).ok_or_else(|| {
            let type_name = std::any::type_name::<C>();
            Fault::new(Code::Internal, format!("the plugin has no configuration of type {type_name}"))
        })
    }

    /// What the operator granted. The sandbox holds the process to it, too; `capabilities` are the plugin's to enforce.
    pub fn granted(&self) -> &Permissions {
        &self.inner.settings.granted
    }

    /// The mesh: secrets, state and events.
    pub fn host(&self) -> &Host {
        &self.inner.host
    }

    /// Runs computing code on a thread of its own, so that it does not hold up other calls. The code should look at
    /// [`Call::is_cancelled`] now and then: a thread cannot be stopped from outside.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Call) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let call = self.clone();
        match tokio::task::spawn_blocking(move || work(&call)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Fault::new(Code::Unavailable, "the plugin is ending")),
            },
        }
    }

    /// Sends news; what nobody waits for is dropped.
    pub(super) async fn send(&self, kind: Kind) {
        tokio::select! {
            _ = self.inner.news.send(Ok(wire::InvokeResponse { kind: Some(kind) })) => {}
            () = self.inner.cancel.cancelled() => {}
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("operation", &self.inner.operation)
            .field("id", &self.inner.call_id)
            .finish_non_exhaustive()
    }
}

fn progress(fraction: f64, message: String) -> Kind {
    let fraction = if fraction.is_nan() { -1.0 } else { fraction.clamp(-1.0, 1.0) };
    Kind::Progress(wire::Progress { fraction, message: cut(message, LINE) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_limit() {
        let lines = Lines::default();
        (0..5_000).for_each(|n| lines.push(format!("line {n}")));
        let kept = lines.take();
        assert_eq!((kept.len(), kept[0].as_str()), (LINES, "line 0"));
        assert_eq!(kept[LINES - 1], "and more, which is not listed");
        let lines = Lines::default();
        (0..500).for_each(|_| lines.push("é".repeat(LINE)));
        assert!(lines.take().iter().map(String::len).sum::<usize>() <= ALL_LINES + 100);
    }
}
