//! The commands that speak to a server, one file per group, and those that look at this machine.

pub(crate) mod agents;
pub(crate) mod apply;
pub(crate) mod ask;
pub(crate) mod check;
pub(crate) mod decisions;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod keep;
pub(crate) mod letters;
pub(crate) mod models;
pub(crate) mod plugins;
pub(crate) mod projects;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod signals;
pub(crate) mod template;
