//! Consumer groups over the memory store: who gets what, what is tried again, and what a restart keeps.
#![allow(clippy::unwrap_used, clippy::panic)] // everything here is a test

mod chaos;
mod deliveries;
mod lives;
mod mesh;
