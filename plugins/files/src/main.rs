//! The process of the plugin `files`.

#[tokio::main]
async fn main() -> Result<(), consort_sdk::Error> {
    consort_sdk::log_to_stderr();
    consort_plugin_files::plugin().serve().await
}
