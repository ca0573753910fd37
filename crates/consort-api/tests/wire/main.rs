//! The server on a real socket: what clients see, hostile ones among them.

mod hostile;
mod server;
mod services;
mod stopping;
