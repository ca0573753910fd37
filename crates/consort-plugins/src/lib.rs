//! The plugin host: it starts plugins as processes of their own, keeps them running, and calls their operations.
//!
//! [`Plugins`] is the port's implementation. The rooms, in the order in which a plugin passes them: `config` (the operator's file) and
//! `manifest` (the plugin's own) say what it is and may, `agents` who may call it, and `references` where an MCP server's secrets are; `grants` remembers what was granted; `process` starts it and shakes hands;
//! `contract` compiles its schemas; `supervise` keeps it alive, reloads and drains it; `call` carries a call to it and its result back;
//! `host` serves what plugins may ask of the mesh; `audit` keeps what they did.
//!
//! What a caller can rely on: an input that reaches a plugin matches its schema, and so does an output that reaches a caller; a call
//! whose plugin died is made again only if its effect allows that; a plugin that crashes, hangs or floods costs its own callers, within
//! the limits of its manifest, and nobody else.

mod agents;
mod audit;
mod blobs;
mod call;
mod config;
pub mod conformance;
mod contract;
mod convert;
mod grants;
mod hold;
mod host;
mod logs;
mod manifest;
mod process;
mod python;
mod references;
mod registry;
mod stats;
mod supervise;
mod wire;

pub use agents::Agents;
pub use config::{Config, McpConfig, PluginConfig, SecretFrom};
pub use hold::{Hold, Sandboxes};
pub use host::{Events, HostParts};
pub use manifest::{Limits, MANIFEST, Manifest};
pub use process::{COOKIE, Program, Running, start};
pub use registry::{Options, Plugins};
pub use wire::Wire;
