//! The process of the plugin `git`.

#[tokio::main]
async fn main() -> Result<(), consort_sdk::Error> {
    consort_sdk::log_to_stderr();
    consort_plugin_git::plugin().serve().await
}
