//! What Python sees: the module `_consort_pyhost`, and the tickets of its calls. Nothing here waits, but for `wait`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use consort_proto::plugin as wire;
use prost::Message as _;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyList};
use tonic::{Code, Status};

use crate::answer::{CHUNK, End};
use crate::desk::{Desk, Event, Operation};
use crate::life::{self, Around};
use crate::work::Work;

/// Version of what Python and Rust say to each other here; `consort.plugin._embedded` has the same.
const INTERFACE: u32 = 1;

/// The process, as the Python SDK finds it in `sys.modules`.
#[pyclass(frozen, module = "_consort_pyhost")]
pub(crate) struct Host {
    pub around: Arc<Around>,
    pub desk: OnceLock<Arc<Desk>>,
    pub served: AtomicBool,
}

impl Host {
    fn desk(&self) -> PyResult<&Arc<Desk>> {
        self.desk.get().ok_or_else(|| PyRuntimeError::new_err("start() was not called"))
    }
}

#[pymethods]
impl Host {
    #[classattr]
    #[pyo3(name = "INTERFACE")]
    fn interface() -> u32 {
        INTERFACE
    }

    /// Begins to serve: prints the handshake and returns the number of a file that is readable when there is something to `take`.
    ///
    /// `hello` is an encoded `HelloResponse`; `operations` has for each its name, whether a thread does it, and whether it knows dry runs.
    /// `run` does a plain function, given its ticket.
    fn start(
        &self,
        py: Python<'_>,
        hello: &[u8],
        operations: Vec<(String, bool, bool)>,
        threads: usize,
        calls: usize,
        run: Py<PyAny>,
    ) -> PyResult<i32> {
        if self.served.swap(true, Ordering::AcqRel) {
            return Err(PyRuntimeError::new_err("this process serves a plugin already; serve one"));
        }
        let hello = wire::HelloResponse::decode(hello).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let operations =
            operations.into_iter().map(|(name, plain, dry_run)| (name, Operation { plain, dry_run })).collect();
        let desk = Desk::new(hello.name.clone(), operations, (threads, calls), run)?;
        let desk = self.desk.get_or_init(|| Arc::new(desk)).clone();
        let (around, wake) = (self.around.clone(), desk.wake());
        py.detach(|| life::serve(&around, desk, hello)).map_err(PyOSError::new_err)?;
        Ok(wake)
    }

    /// Whether `start` was called.
    #[getter]
    fn served(&self) -> bool {
        self.served.load(Ordering::Acquire)
    }

    /// The event loop turns.
    fn beat(&self) -> PyResult<()> {
        self.desk()?.turned();
        Ok(())
    }

    /// What the event loop is to do, as pairs of a number and a ticket.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let desk = self.desk()?;
        let list = PyList::empty(py);
        for event in desk.take() {
            let (number, work) = match event {
                Event::Call(work) => (0, Some(work)),
                Event::Cancel(work) => (1, Some(work)),
                Event::Room(work) => (2, Some(work)),
                Event::Configure(work) => (3, Some(work)),
                Event::Fetch(work) => (4, Some(work)),
                Event::End => (5, None),
            };
            let ticket = work.map(|work| Py::new(py, Ticket { work, desk: desk.clone() })).transpose()?;
            list.append((number, ticket))?;
        }
        Ok(list)
    }
}

/// A call, as Python sees it: what is asked, whether it is cancelled, and where the answer goes.
#[pyclass(frozen, module = "_consort_pyhost")]
pub(crate) struct Ticket {
    pub work: Arc<Work>,
    pub desk: Arc<Desk>,
}

#[pymethods]
impl Ticket {
    #[getter]
    fn id(&self) -> u64 {
        self.work.id
    }

    #[getter]
    fn operation(&self) -> &str {
        &self.work.ask.operation
    }

    /// The input as JSON text, None if it is a blob.
    #[getter]
    fn text(&self) -> Option<&str> {
        self.work.ask.text.as_deref()
    }

    /// An encoded `Payload` that names a blob, or the encoded permissions.
    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.work.ask.raw.as_ref().map(|raw| PyBytes::new(py, raw))
    }

    #[getter]
    fn call_id(&self) -> &str {
        &self.work.ask.call_id
    }

    #[getter]
    fn idempotency_key(&self) -> &str {
        &self.work.ask.idempotency_key
    }

    #[getter]
    fn dry_run(&self) -> bool {
        self.work.ask.dry_run
    }

    /// Namespace, step and agent, which are members of the ticket itself.
    #[getter]
    fn origin(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[getter]
    fn namespace(&self) -> &str {
        &self.work.ask.namespace
    }

    #[getter]
    fn step(&self) -> &str {
        &self.work.ask.step
    }

    #[getter]
    fn agent(&self) -> &str {
        &self.work.ask.agent
    }

    /// Seconds to the deadline, None if there is none.
    #[getter]
    fn remaining(&self) -> Option<f64> {
        let until = self.work.until?;
        Some(until.saturating_duration_since(tokio::time::Instant::now()).as_secs_f64())
    }

    /// Whether nobody waits for the answer any more.
    fn is_set(&self) -> bool {
        self.work.is_stopped()
    }

    /// Waits until nobody waits for the answer, for at most so many seconds.
    fn wait(&self, py: Python<'_>, timeout: f64) -> bool {
        let patience = Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::from_secs(366 * 86_400));
        py.detach(|| self.work.wait(patience))
    }

    /// Tells of progress or a line of the log: an encoded `InvokeResponse`.
    fn emit(&self, message: &[u8]) -> PyResult<()> {
        let message =
            wire::InvokeResponse::decode(message).map_err(|error| PyValueError::new_err(error.to_string()))?;
        if let Some(kind) = message.kind {
            self.work.tell(kind);
        }
        Ok(())
    }

    /// Takes a piece of a stream; whether there is room for another. If not, the call is taken up again when there is.
    fn piece(&self, piece: PyBackedBytes) -> bool {
        self.work.piece(Bytes::from_owner(piece))
    }

    /// Ends the call with JSON text, or with bytes of a media type; None is what was streamed.
    fn finish(
        &self,
        value: &Bound<'_, PyAny>,
        media_type: &str,
        would: Vec<String>,
        actions: Vec<String>,
    ) -> PyResult<()> {
        let media_type = media_type.to_owned();
        let end = if value.is_none() {
            End::Streamed { media_type }
        } else if let Ok(text) = value.extract::<PyBackedStr>() {
            if text.len() <= CHUNK {
                End::Text(text.to_string())
            } else {
                End::Large { data: Bytes::from_owner(text), media_type }
            }
        } else if let Ok(bytes) = value.extract::<PyBackedBytes>() {
            End::Large { data: Bytes::from_owner(bytes), media_type }
        } else {
            return Err(PyTypeError::new_err("value: neither text, nor bytes, nor None"));
        };
        self.work.end(end, would, actions);
        self.desk.ended(&self.work);
        Ok(())
    }

    /// Ends the call as failed: a gRPC code, a message, and an encoded `google.rpc.Status`.
    fn fail(&self, code: i32, message: String, details: Vec<u8>) {
        let status = Status::with_details(Code::from_i32(code), message, details.into());
        self.work.end(End::Failed(status), Vec::new(), Vec::new());
        self.desk.ended(&self.work);
    }

    /// Its input is at hand: a thread may do it.
    fn ready(&self) {
        self.desk.pool.push(&self.desk, self.work.clone());
    }
}
