//! Files that are no models, and models that are not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use consort_core::model::{LocalModels, ModelState, Provider};
use consort_core::{Error, Kind};
use consort_llama::{Kernels, Llama, ModelOptions, Options, trial_main};

use crate::common::{answer, ask, options, tiny};

/// Not a test of its own: the child that tries files, when a test below starts this program again.
#[test]
fn trial_child() {
    if let Some(path) = std::env::args().map(PathBuf::from).next_back().filter(|last| last.extension().is_some()) {
        std::process::exit(trial_main(&path));
    }
}

fn with_trial(model: ModelOptions, folder: &Path) -> Llama {
    let program = std::env::current_exe().unwrap().to_string_lossy().into_owned();
    let trial = [program.as_str(), "--exact", "faults::trial_child", "--nocapture"].map(str::to_owned).to_vec();
    Llama::new(Options { models: vec![model], folder: folder.to_owned(), trial, ..Options::default() }).unwrap()
}

async fn load(llama: &Llama) -> Result<(), Error> {
    llama.load("tiny", Arc::new(|_| {})).await.map(drop)
}

#[tokio::test]
async fn a_broken_file_is_refused_and_the_process_lives() {
    let folder = tempfile::tempdir().unwrap();
    let good = fs::read(tiny()).unwrap();
    let mut unknown = good.clone();
    let at = good.windows(5).position(|bytes| bytes == b"llama").unwrap();
    unknown[at..at + 5].copy_from_slice(b"llamb");
    for (bytes, part) in [
        (Vec::new(), "ends in the middle"),
        (b"<html>not found</html>".to_vec(), "does not begin with `GGUF`"),
        (good[..1000].to_vec(), "cannot be used"),
        (good[..good.len() / 2].to_vec(), "may be cut off"),
        (unknown, "`llamb` is not supported"),
    ] {
        let path = folder.path().join("broken.gguf");
        fs::write(&path, &bytes).unwrap();
        let llama = with_trial(ModelOptions { path, ..options() }, folder.path());
        let error = load(&llama).await.unwrap_err();
        assert_eq!((error.kind, error.reason), (Kind::FailedPrecondition, "MODEL_FILE_INVALID"));
        assert!(error.message.contains(part), "{part}: {}", error.message);
        let card = &llama.models()[0];
        assert!(card.state == ModelState::Failed && card.error.contains(part), "{card:?}");
    }
}

#[tokio::test]
async fn flipped_bytes_never_end_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let good = fs::read(tiny()).unwrap();
    let path = folder.path().join("flipped.gguf");
    // The child may crash; this process may not.
    for number in 0..12usize {
        let mut bytes = good.clone();
        let at = 24 + number * number * 131 % 20_000;
        bytes[at] ^= 1 << (number % 8);
        fs::write(&path, &bytes).unwrap();
        let llama = with_trial(ModelOptions { path: path.clone(), ..options() }, folder.path());
        match load(&llama).await {
            Ok(()) => drop(answer(&llama, ask("Repeat: rabo")).await),
            Err(error) => assert_eq!(error.reason, "MODEL_FILE_INVALID", "{}", error.message),
        }
    }
}

#[tokio::test]
async fn a_good_file_is_tried_once() {
    let folder = tempfile::tempdir().unwrap();
    let llama = with_trial(options(), folder.path());
    load(&llama).await.unwrap();
    let known = fs::read_to_string(folder.path().join("known.json")).unwrap();
    assert!(known.contains("good_for") && known.contains("sha256:"), "{known}");
    // Now a trial that would fail is not asked any more.
    let options = Options {
        models: vec![options()],
        folder: folder.path().to_owned(),
        trial: vec!["false".into()],
        ..Options::default()
    };
    load(&Llama::new(options).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_child_that_dies_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let trial = ["sh", "-c", "echo it is broken >&2; kill -ABRT $$"].map(str::to_owned).to_vec();
    let options = Options { models: vec![options()], folder: folder.path().to_owned(), trial, ..Options::default() };
    let error = load(&Llama::new(options).unwrap()).await.unwrap_err();
    assert!(error.message.contains("signal") && error.message.contains("it is broken"), "{}", error.message);
}

/// Not a test of its own: a process whose CPU is said to have less than it announces, when the test below starts it.
#[tokio::test]
async fn lesser_kernels_child() {
    let Some(folder) = std::env::var_os("LESSER_KERNELS").map(PathBuf::from) else { return };
    let script = "echo $CONSORT_KERNELS >> tried; test $CONSORT_KERNELS = baseline || kill -ILL $$";
    let trial = ["sh", "-c", &format!("cd {}; {script}", folder.display())].map(str::to_owned).to_vec();
    let options = Options { models: vec![options()], folder, trial, ..Options::default() };
    let llama = Llama::new(options).unwrap();
    load(&llama).await.unwrap();
    assert_eq!(Kernels::best(), Kernels::Baseline);
    assert!(!answer(&llama, ask("Repeat: rabo")).await.unwrap().text().is_empty());
}

#[test]
fn a_cpu_that_announces_more_than_it_has_gets_lesser_kernels() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::lesser_kernels_child"])
        .env("LESSER_KERNELS", folder.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let tried = fs::read_to_string(folder.path().join("tried")).unwrap();
    let all = ["avx512", "avx2", "baseline"];
    let from = all.iter().position(|name| *name == Kernels::best().name()).unwrap();
    assert_eq!(tried.lines().collect::<Vec<_>>(), all[from..]);
}

#[test]
fn every_set_of_kernels_that_runs_here_loads_and_decodes() {
    for kernels in ["baseline", "avx2", "avx512"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::trial_child", "--nocapture"])
            .arg(tiny())
            .env("CONSORT_KERNELS", kernels)
            .output()
            .unwrap();
        assert!(child.status.success(), "{kernels}: {}", String::from_utf8_lossy(&child.stderr));
    }
}

#[tokio::test]
async fn the_pinned_digest_counts() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = ModelOptions { sha256: Some("0".repeat(64)), ..options() };
    let error = load(&with_trial(wrong, folder.path())).await.unwrap_err();
    assert!(error.message.contains("is not the configured sha256:000"), "{}", error.message);
}

#[tokio::test]
async fn a_model_in_the_binary_is_written_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: &'static [u8] = fs::read(tiny()).unwrap().leak();
    let model = ModelOptions { path: Path::new("").into(), embedded: Some(bytes), ..options() };
    let llama = Llama::new(Options { models: vec![model], folder: folder.path().join("models"), ..Options::default() })
        .unwrap();
    answer(&llama, ask("Repeat: rabo")).await.unwrap();
    let file = fs::read_dir(folder.path().join("models")).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "gguf")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file).unwrap().permissions()) & 0o777, 0o600);
}

#[tokio::test]
async fn an_unknown_model_or_adapter_is_named() {
    let llama = crate::common::engine(options());
    let Err(error) = llama.generate("tinny", Arc::new(ask("hello"))).await else { panic!("there is no such model") };
    assert_eq!(error.kind, Kind::NotFound);
    assert!(error.message.contains("tiny"), "{}", error.message);
    let mut request = ask("hello");
    request.adapter = Some("french".into());
    let error = answer(&llama, request).await.unwrap_err();
    assert!(error.message.contains("french"), "{}", error.message);
}
