//! The local model engine: llama.cpp with a decode thread for each loaded model.
//!
//! [`Llama`] is the port's implementation. A request goes through these rooms, in this order: `prepare` (template, tokens, constraint),
//! `decode` (queue, slots, batches), `sample` (the choice of tokens), `output` (text, thoughts, calls). `load` brings models into memory,
//! after `gguf` has judged their files.
//!
//! What a caller can rely on: a text under a constraint matches it, unless it ends with `Length`, which cuts it; a reader that is slow
//! stops only its own answer; an equal request with an equal seed gets an equal answer on one machine. The last has a limit: beside other
//! requests llama.cpp adds in another order, and where two tokens are equal but for the last bit, the other one may be chosen.

mod backend;
mod chat;
mod constrain;
mod decode;
mod engine;
mod gguf;
mod kernels;
mod load;
mod machine;
mod options;
mod output;
mod prepare;
mod sample;
mod vocab;

pub use engine::Llama;
pub use kernels::Kernels;
pub use load::trial_main;
pub use machine::check_cpu;
pub use options::{AdapterOptions, Kv, ModelOptions, Options, Pooling};
