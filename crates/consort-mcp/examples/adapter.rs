//! The adapter as a program of its own; `consort mcp-plugin` is the same. The plugin host starts it.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    consort_mcp::serve_adapter().await
}
