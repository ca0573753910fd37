//! What the operator set.

use std::any::Any;
use std::sync::Arc;

use super::Permissions;
use super::fault::Fault;

/// A configuration of a type that only the author knows.
pub(super) type Known = Arc<dyn Any + Send + Sync>;
/// Reads and checks a configuration.
pub(super) type Settle = Box<dyn Fn(&str, &Permissions) -> Result<Known, Fault> + Send + Sync>;

/// What Configure brought.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) config: Option<Known>,
    pub(super) granted: Permissions,
}
