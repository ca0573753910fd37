//! A file that was never loaded is first loaded by a child: llama.cpp ends the process on some broken files, and so it ends the child.

use std::io::Read;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use consort_core::Error;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::{Known, Source, bad_file};
use crate::backend::backend;
use crate::gguf::inspect;
use crate::kernels::{self, Kernels};
use crate::machine::check_cpu;
use crate::vocab::Vocabulary;

/// Bytes of a child's last words.
const WORDS: u64 = 64 * 1024;

/// Loads a file, reads all its tokens and decodes one; for a child process. 0 if all went well, else what went wrong is on stderr.
pub fn trial_main(path: &Path) -> i32 {
    match trial(path) {
        Ok(()) => 0,
        Err(said) => {
            eprintln!("{said}");
            3
        }
    }
}

fn trial(path: &Path) -> Result<(), String> {
    check_cpu().map_err(|error| error.message)?;
    let facts = inspect(path)?;
    let backend = backend().map_err(|error| error.message)?;
    let model = LlamaModel::load_from_file(backend, path, &LlamaModelParams::default());
    let model = model.map_err(|error| format!("llama.cpp does not load it: {error}"))?;
    let vocabulary = Vocabulary::of(&model);
    let embeds = facts.only_embeds();
    let mut params =
        LlamaContextParams::default().with_n_ctx(NonZeroU32::new(64)).with_n_threads(1).with_n_threads_batch(1);
    if embeds {
        params = params.with_embeddings(true).with_pooling_type(LlamaPoolingType::Mean).with_n_ubatch(64);
    }
    let mut context = model.new_context(backend, params).map_err(|error| format!("it gets no context: {error}"))?;
    let tokens = model.vocab().tokenize(b"a", true, true);
    let token = tokens.first().copied().unwrap_or(LlamaToken(0));
    let mut batch = LlamaBatch::new(1, 1);
    batch.add(token, 0, &[0], true).map_err(|error| error.to_string())?;
    context.decode(&mut batch).map_err(|error| format!("it does not decode: {error}"))?;
    if !embeds && context.get_logits_ith(0).len() != vocabulary.len() {
        return Err("its logits and its vocabulary differ in length".to_owned());
    }
    Ok(())
}

/// Has a child try the file, unless one did before. A child that dies of an instruction that the CPU announced and does not have is
/// followed by one with lesser kernels, which the process then keeps to.
pub(crate) fn ensure_good(id: &str, source: &Source, command: &[String], known: &Known) -> Result<(), Error> {
    let Some((program, arguments)) = command.split_first().filter(|_| !known.is_good(&source.path)) else {
        return Ok(());
    };
    let mut command = Command::new(program);
    command.args(arguments).arg(&source.path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // Half a minute, and as long as a slow disk takes.
    let patience = Duration::from_secs(30 + source.facts.weights / (50 << 20));
    let mut kernels = Kernels::best();
    loop {
        let ended = attempt(command.env(kernels::VARIABLE, kernels.name()), patience);
        let said = match ended.map_err(|error| format!("`{program}`, which should try it, does not start: {error}")) {
            Ok((Some(status), _)) if status.success() => {
                kernels.hold_down();
                known.remember_good(&source.path);
                return Ok(());
            }
            Ok((Some(status), _)) if illegal_instruction(status) && kernels.lower().is_some() => {
                let lower = kernels.lower().unwrap_or(Kernels::Baseline);
                tracing::warn!(
                    from = kernels.name(),
                    to = lower.name(),
                    "this CPU announces instructions that it does not have; set {}={} to start with what it has",
                    kernels::VARIABLE,
                    lower.name()
                );
                kernels = lower;
                continue;
            }
            Ok((None, _)) => format!("a trial did not load it within {} s", patience.as_secs()),
            Ok((Some(status), last)) if last.is_empty() => format!("a trial of it ended with {status}"),
            Ok((Some(status), last)) => format!("a trial of it ended with {status}: {last}"),
            Err(said) => said,
        };
        return Err(bad_file(id, &source.path, said));
    }
}

#[cfg(unix)]
fn illegal_instruction(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    // SIGILL, on every Unix.
    status.signal() == Some(4)
}

#[cfg(not(unix))]
fn illegal_instruction(_: ExitStatus) -> bool {
    false
}

/// Runs a child; how it ended, or nothing if it had to be killed, and its last words.
fn attempt(command: &mut Command, patience: Duration) -> std::io::Result<(Option<ExitStatus>, String)> {
    let mut child = command.spawn()?;
    let words = child.stderr.take();
    let listener = std::thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(mut words) = words {
            // What is beyond the limit is read, too, so that the child can go on, and forgotten.
            let _ = words.by_ref().take(WORDS).read_to_end(&mut said);
            let _ = std::io::copy(&mut words, &mut std::io::sink());
        }
        String::from_utf8_lossy(&said).into_owned()
    });
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begun.elapsed() < patience => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let said = listener.join().unwrap_or_default();
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().chars().take(300).collect();
    Ok((status, last))
}
