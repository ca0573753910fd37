//! The agent `historian`: the commits of a git repository, as the plugin `git` lists them, or a CSV, as a time log.

mod classify;
mod entry;
mod git;
mod sessions;
mod timelog;

use consort_sdk::{Agent, Error, Task, TaskError, Worker};
use serde::Deserialize;

/// What the agent is given: a repository with its log, or a CSV.
#[derive(Deserialize)]
struct Input {
    /// Path of a git repository, for the report: it is not opened.
    #[serde(default)]
    repo: String,
    /// What `git.log` lists of it, with `folders: 1`.
    #[serde(default)]
    log: Option<git::Log>,
    /// Path of a CSV time log on this worker's machine.
    #[serde(default)]
    csv: String,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    consort_sdk::log_to_stderr();
    let agent = Agent::new("historian")
        .kind("source")
        .description("Turns the commits of a git repository, or a CSV time log, into a list of hours.")
        .capability("git")
        .capability("csv");
    Worker::new("historian")
        .agent(agent, |task: Task| async move {
            let input: Input = task.input()?;
            task.blocking(move |_| read(input)).await
        })
        .run()
        .await
}

fn read(input: Input) -> Result<entry::History, TaskError> {
    match (input.repo.as_str(), input.csv.as_str(), input.log) {
        ("", "", _) => {
            Err(TaskError::bad_input("repo", "neither `repo` nor `csv` is given; give the path of one of them"))
        }
        (repo, "", Some(log)) => git::history(repo, log),
        (repo, "", None) => {
            let why = format!("is missing; give what `git.log` lists of `{repo}`, as the workflow `audit` does");
            Err(TaskError::bad_input("log", why))
        }
        ("", csv, _) => timelog::history(csv),
        (repo, csv, _) => {
            let why = format!("both `{repo}` and, in `csv`, `{csv}` are given; give one of them");
            Err(TaskError::bad_input("repo", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn one_source_is_wanted() {
        let of = |input: Value| read(serde_json::from_value(input).unwrap()).unwrap_err().message;
        for (input, part) in [
            (json!({}), "repo: neither `repo` nor `csv` is given"),
            (json!({"repo": "", "csv": "", "log": null}), "repo: neither"),
            (json!({"repo": "/r", "csv": "/c"}), "repo: both `/r` and, in `csv`, `/c`"),
            (json!({"repo": "/r", "log": null}), "log: is missing; give what `git.log` lists of `/r`"),
            (json!({"csv": "/no/such.csv"}), "/no/such.csv"),
        ] {
            let said = of(input.clone());
            assert!(said.contains(part), "{input}: {said}");
        }
    }
}
