//! The wire: messages, clients and servers generated from `proto/`, and the descriptor set behind reflection.
//!
//! Nothing but [`consort-api`], [`consort-sdk`] and the binary speaks these types; the engine has its own.
//!
//! [`consort-api`]: https://github.com/consort-mesh/consort/tree/main/crates/consort-api
//! [`consort-sdk`]: https://github.com/consort-mesh/consort/tree/main/crates/consort-sdk

/// All files of `proto/` with their imports and comments, as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/consort.bin"));

/// The `consort` packages; the comments of each message stand in `proto/`.
pub mod consort {
    /// Backups and archives.
    pub mod admin {
        /// Version 1.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
            tonic::include_proto!("consort.admin.v1");
        }
    }
    /// Workers and agents.
    pub mod agent {
        /// Version 1.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
            tonic::include_proto!("consort.agent.v1");
        }
    }
    /// Values and bytes.
    pub mod blob {
        /// Version 1.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
            tonic::include_proto!("consort.blob.v1");
        }
    }
    /// Questions to people.
    pub mod decision {
        /// Version 1.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
            tonic::include_proto!("consort.decision.v1");
        }
    }
    /// The log.
    pub mod event {
        /// Version 1.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
            tonic::include_proto!("consort.event.v1");
        }
    }
    /// Calls of models.
    pub mod inference {
        /// Version 1.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
            tonic::include_proto!("consort.inference.v1");
        }
    }
    /// Workflows and runs.
    pub mod orchestrator {
        /// Version 1.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
            tonic::include_proto!("consort.orchestrator.v1");
        }
    }
    /// Operations of plugins.
    pub mod plugin {
        /// Version 1.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
            tonic::include_proto!("consort.plugin.v1");
        }
    }
    /// Pieces of work that many runs belong to.
    pub mod project {
        /// Version 1.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
            tonic::include_proto!("consort.project.v1");
        }
    }
    /// Things that were noticed.
    pub mod signal {
        /// Version 1.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
            tonic::include_proto!("consort.signal.v1");
        }
    }
}

/// The standard error model.
pub mod google {
    /// `google.rpc`.
    pub mod rpc {
        #![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::large_enum_variant)]
        tonic::include_proto!("google.rpc");
    }
}

pub use consort::admin::v1 as admin;
pub use consort::agent::v1 as agent;
pub use consort::blob::v1 as blob;
pub use consort::decision::v1 as decision;
pub use consort::event::v1 as event;
pub use consort::inference::v1 as inference;
pub use consort::orchestrator::v1 as orchestrator;
pub use consort::plugin::v1 as plugin;
pub use consort::project::v1 as project;
pub use consort::signal::v1 as signal;
