//! llama.cpp itself, of which a process has one.

use std::sync::OnceLock;

use consort_core::Error;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

use crate::kernels::Kernels;

/// The library, started with the first use. What it says goes to `tracing`; its targets are `llama-cpp-2`, and quiet by default because
/// it says hundreds of lines for each model.
pub(crate) fn backend() -> Result<&'static LlamaBackend, Error> {
    // The library has process-wide state of its own, so that there is one is its choice.
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        let loud = tracing::enabled!(target: "llama-cpp-2", tracing::Level::DEBUG);
        send_logs_to_tracing(LogOptions::default().with_logs_enabled(loud));
        let backend = LlamaBackend::init().map_err(|error| error.to_string())?;
        let kernels = Kernels::best();
        kernels.install();
        tracing::debug!(kernels = kernels.name(), "llama.cpp has started");
        Ok(backend)
    });
    backend.as_ref().map_err(|error| Error::internal(format!("llama.cpp does not start: {error}")))
}
