//! Plugins as users meet them: the real server, a plugin of the Python SDK, and shell scripts that break the protocol.
#![allow(clippy::panic, clippy::unwrap_used)]

mod agents;
mod calls;
mod kit;
mod mcp;
mod permissions;
mod python;
mod supervision;
