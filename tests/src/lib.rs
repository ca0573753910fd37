//! What no single crate can test: scenarios over real processes, the fault programme and the rules of the house, each a file
//! in `tests/`. The library itself is empty but for the README, whose Rust must compile.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
