//! Operations of plugins in the mesh's own words: what they are, what a call is, and the port behind which plugins live.

mod operation;
mod ports;
mod record;

pub use operation::{Effect, MAX_NAME, Operation, OperationName, is_name};
pub use ports::{
    Invocation, Invoke, InvokeNews, Origin, Outcome, Permissions, PluginAction, PluginState, PluginView, Plugins,
};
pub use record::{OperationBegan, OperationCalled, request_digest};
