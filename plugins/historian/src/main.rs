//! The agent `historian`: a git repository's history, or a CSV, as a time log.

mod classify;
mod entry;
mod git;
mod sessions;
mod timelog;

use consort_sdk::{Agent, Error, Task, TaskError, Worker};
use serde::Deserialize;

/// What the agent is given: exactly one of the two.
#[derive(Deserialize)]
struct Input {
    /// Path of a git repository on this worker's machine.
    #[serde(default)]
    repo: String,
    /// Path of a CSV time log on this worker's machine.
    #[serde(default)]
    csv: String,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    consort_sdk::log_to_stderr();
    let agent = Agent::new("historian")
        .kind("source")
        .description("Reads a git repository's history, or a CSV time log, into a list of hours.")
        .capability("git")
        .capability("csv");
    Worker::new("historian")
        .agent(agent, |task: Task| async move {
            let input: Input = task.input()?;
            task.blocking(move |task| read(&input, task)).await
        })
        .run()
        .await
}

fn read(input: &Input, task: &Task) -> Result<entry::History, TaskError> {
    let watch =
        git::Watch { progress: &|share, text| task.report_progress(share, text), stopped: &|| task.is_cancelled() };
    match (input.repo.as_str(), input.csv.as_str()) {
        ("", "") => {
            Err(TaskError::bad_input("repo", "neither `repo` nor `csv` is given; give the path of one of them"))
        }
        (repo, "") => git::history(repo, &watch),
        ("", csv) => timelog::history(csv),
        (repo, csv) => {
            let why = format!("both `{repo}` and, in `csv`, `{csv}` are given; give one of them");
            Err(TaskError::bad_input("repo", why))
        }
    }
}
