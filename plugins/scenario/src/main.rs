//! The agent `scenario`: what fixing the waste would save.

mod scenario;

use consort_sdk::{Agent, Error, Task, Worker};

#[tokio::main]
async fn main() -> Result<(), Error> {
    consort_sdk::log_to_stderr();
    let agent =
        Agent::new("scenario").kind("analysis").description("What fixing the waste would save.").capability("forecast");
    Worker::new("scenario")
        .agent(agent, |task: Task| async move {
            let input: scenario::Input = task.input()?;
            scenario::scenarios(&input)
        })
        .run()
        .await
}
