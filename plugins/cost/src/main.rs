//! The agent `cost`: what the logged time costs.

mod cost;

use consort_sdk::{Agent, Error, Task, Worker};

#[tokio::main]
async fn main() -> Result<(), Error> {
    consort_sdk::log_to_stderr();
    let agent = Agent::new("cost").kind("analysis").description("What the logged time costs.").capability("time-log");
    Worker::new("cost")
        .agent(agent, |task: Task| async move {
            let input: cost::Input = task.input()?;
            task.blocking(move |_| cost::cost(&input)).await
        })
        .run()
        .await
}
