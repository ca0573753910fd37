//! MCP both ways. The two rooms know nothing of each other.
//!
//! - [`adapter`]: any MCP server becomes a plugin. The plugin host starts this program like every other plugin; it speaks MCP to a child
//!   process or to a URL, and its tools are the plugin's operations.
//! - [`server`]: the mesh as an MCP server, for the path `/mcp` of the one port: permitted operations and workflows are tools.
//!
//! # What the adapter promises
//!
//! - Versions: the current protocol is probed with `server/discover`; a server that does not know it gets `initialize` with 2025-11-25
//!   and may answer with an older one.
//! - A tool's schemas pass through. Those of older drafts, and those that the mesh would refuse, are loosened, never sharpened: what the
//!   server would take is taken.
//! - `readOnlyHint` makes a READ, `idempotentHint` an IDEMPOTENT_WRITE, all else is a WRITE. These are hints of a stranger; the
//!   configuration's word wins.
//! - A tool that says `isError` fails with FAILED_PRECONDITION, reason `TOOL_ERROR`, and its text as the message: the tool was reached and
//!   refused, so the same call would fail again until somebody changes something, and nothing may repeat it by itself.
//! - When the server dies the adapter dies, with calls in work unanswered: the plugin host then knows that they were lost, and repeats
//!   those that may be repeated.
//! - A server that changes its tools goes on with the list of its start, because an answer to Hello does not change while a process
//!   lives; a line of the log says that a reload would show the new ones.
//!
//! # What the server promises
//!
//! - Nothing is exposed that [`server::Options::allow`] does not name. By default these are operations that only read, and the state of runs.
//! - 2026-07-28 is spoken without sessions; 2025-11-25 and older with sessions, of which there is a limit.
//! - An operation's failure is a result with `isError`; an unknown tool and bad arguments are errors of JSON-RPC that name the field.

pub mod adapter;
pub mod server;

pub use adapter::serve_adapter;
