//! The server on a real socket: what clients see, hostile ones among them.

// A test may unwrap: a panic is how it fails.
#![allow(clippy::unwrap_used)]

mod admin;
mod asks;
mod fuzz;
mod hostile;
mod runs;
mod server;
mod services;
mod stopping;
