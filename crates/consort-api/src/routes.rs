//! Which service answers a path, and how the calls of a path behave. A match over a few names replaces tonic's router, which brings
//! a second HTTP framework along.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use consort_proto::admin::admin_service_server::{self, AdminServiceServer};
use consort_proto::agent::agent_service_server::{self, AgentServiceServer};
use consort_proto::agent::worker_service_server::{self, WorkerServiceServer};
use consort_proto::blob::blob_service_server::{self, BlobServiceServer};
use consort_proto::decision::decision_service_server::{self, DecisionServiceServer};
use consort_proto::event::event_service_server::{self, EventServiceServer};
use consort_proto::inference::inference_service_server::{self, InferenceServiceServer};
use consort_proto::orchestrator::orchestrator_service_server::{self, OrchestratorServiceServer};
use consort_proto::plugin::plugin_registry_service_server::{self, PluginRegistryServiceServer};
use consort_proto::project::project_service_server::{self, ProjectServiceServer};
use consort_proto::signal::signal_service_server::{self, SignalServiceServer};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};

use crate::{Context, admin, agent, blob, decision, event, inference, orchestrator, plugin, project, signal, worker};

/// The services of `proto/`, by their full names.
pub(crate) const SERVICES: [&str; 11] = [
    orchestrator_service_server::SERVICE_NAME,
    agent_service_server::SERVICE_NAME,
    worker_service_server::SERVICE_NAME,
    event_service_server::SERVICE_NAME,
    decision_service_server::SERVICE_NAME,
    blob_service_server::SERVICE_NAME,
    project_service_server::SERVICE_NAME,
    signal_service_server::SERVICE_NAME,
    admin_service_server::SERVICE_NAME,
    inference_service_server::SERVICE_NAME,
    plugin_registry_service_server::SERVICE_NAME,
];

/// How a call behaves in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Does something and answers.
    Unary,
    /// May wait for something that others do.
    Waits,
    /// Lasts as long as both sides want.
    Stream,
}

/// How the calls of a path behave.
pub(crate) fn manner(path: &str) -> Manner {
    match path {
        "/consort.orchestrator.v1.OrchestratorService/StartRun"
        | "/consort.orchestrator.v1.OrchestratorService/WaitRun"
        | "/consort.agent.v1.AgentService/AskAgent"
        | "/consort.agent.v1.WorkerService/LeaseTasks"
        | "/consort.inference.v1.InferenceService/GenerateOnce"
        | "/consort.inference.v1.InferenceService/Embed"
        | "/consort.plugin.v1.PluginRegistryService/InstallPlugin"
        | "/consort.plugin.v1.PluginRegistryService/UninstallPlugin"
        | "/consort.plugin.v1.PluginRegistryService/ReloadPlugin"
        | "/consort.plugin.v1.PluginRegistryService/InvokeOperationOnce"
        | "/consort.admin.v1.AdminService/PruneRuns" => Manner::Waits,
        "/consort.agent.v1.WorkerService/Connect"
        | "/consort.agent.v1.AgentService/WatchAgent"
        | "/consort.orchestrator.v1.OrchestratorService/WatchRun"
        | "/consort.event.v1.EventService/Subscribe"
        | "/consort.decision.v1.DecisionService/WatchDecisions"
        | "/consort.blob.v1.BlobService/Upload"
        | "/consort.blob.v1.BlobService/Download"
        | "/consort.inference.v1.InferenceService/Generate"
        | "/consort.inference.v1.InferenceService/LoadModel"
        | "/consort.plugin.v1.PluginRegistryService/InvokeOperation"
        | "/consort.admin.v1.AdminService/CreateBackup"
        | "/consort.admin.v1.AdminService/DownloadArchive"
        | "/consort.admin.v1.AdminService/ImportRuns"
        | "/grpc.health.v1.Health/Watch"
        | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Manner::Stream,
        _ => Manner::Unary,
    }
}

/// A service whose type cannot be named.
pub(crate) type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Hands every call to its service.
#[derive(Clone)]
pub(crate) struct Routes(Arc<Services>);

struct Services {
    orchestrator: OrchestratorServiceServer<orchestrator::Orchestrator>,
    agent: AgentServiceServer<agent::Agents>,
    worker: WorkerServiceServer<worker::Workers>,
    event: EventServiceServer<event::Events>,
    decision: DecisionServiceServer<decision::Decisions>,
    blob: BlobServiceServer<blob::Blobs>,
    project: ProjectServiceServer<project::Projects>,
    signal: SignalServiceServer<signal::Signals>,
    admin: AdminServiceServer<admin::Admin>,
    inference: InferenceServiceServer<inference::Inference>,
    plugin: PluginRegistryServiceServer<plugin::Registry>,
    health: HealthServer<HealthService>,
    reflection: Boxed,
    reflection_alpha: Boxed,
}

impl Routes {
    /// The services of this server.
    pub(crate) fn new(
        context: &Arc<Context>,
        health: HealthService,
    ) -> Result<Routes, tonic_reflection::server::Error> {
        let message = context.options.limits.message;
        macro_rules! sized {
            ($server:ident, $service:expr) => {
                $server::new($service).max_decoding_message_size(message).max_encoding_message_size(message)
            };
        }
        Ok(Routes(Arc::new(Services {
            orchestrator: sized!(OrchestratorServiceServer, orchestrator::Orchestrator(context.clone())),
            agent: sized!(AgentServiceServer, agent::Agents(context.clone())),
            worker: sized!(WorkerServiceServer, worker::Workers(context.clone())),
            event: sized!(EventServiceServer, event::Events(context.clone())),
            decision: sized!(DecisionServiceServer, decision::Decisions(context.clone())),
            blob: sized!(BlobServiceServer, blob::Blobs(context.clone())),
            project: sized!(ProjectServiceServer, project::Projects(context.clone())),
            signal: sized!(SignalServiceServer, signal::Signals(context.clone())),
            admin: sized!(AdminServiceServer, admin::Admin(context.clone())),
            inference: sized!(InferenceServiceServer, inference::Inference(context.clone())),
            plugin: sized!(PluginRegistryServiceServer, plugin::Registry(context.clone())),
            health: HealthServer::new(health),
            reflection: BoxCloneSyncService::new(described().build_v1()?),
            reflection_alpha: BoxCloneSyncService::new(described().build_v1alpha()?),
        })))
    }
}

fn described() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(consort_proto::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let services = &*self.0;
        let name = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        match name {
            orchestrator_service_server::SERVICE_NAME => services.orchestrator.clone().call(request),
            worker_service_server::SERVICE_NAME => services.worker.clone().call(request),
            agent_service_server::SERVICE_NAME => services.agent.clone().call(request),
            event_service_server::SERVICE_NAME => services.event.clone().call(request),
            decision_service_server::SERVICE_NAME => services.decision.clone().call(request),
            blob_service_server::SERVICE_NAME => services.blob.clone().call(request),
            project_service_server::SERVICE_NAME => services.project.clone().call(request),
            signal_service_server::SERVICE_NAME => services.signal.clone().call(request),
            admin_service_server::SERVICE_NAME => services.admin.clone().call(request),
            inference_service_server::SERVICE_NAME => services.inference.clone().call(request),
            plugin_registry_service_server::SERVICE_NAME => services.plugin.clone().call(request),
            HealthServer::<HealthService>::NAME => services.health.clone().call(request),
            "grpc.reflection.v1.ServerReflection" => services.reflection.clone().oneshot(request).boxed(),
            "grpc.reflection.v1alpha.ServerReflection" => services.reflection_alpha.clone().oneshot(request).boxed(),
            _ => {
                let said =
                    format!("there is no service `{}`; ask reflection for what there is", crate::names::shown(name));
                async { Ok(Status::new(Code::Unimplemented, said).into_http()) }.boxed()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_proto::DESCRIPTOR_SET;
    use prost::Message as _;

    /// Every streaming method of `proto/` is known as one, so that none gets the deadline of a plain call.
    #[test]
    fn every_stream_is_known() {
        let files = prost_types::FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap();
        let mut streams = 0;
        for file in &files.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                // Plugins serve the one, and the mesh the other to them alone.
                if name.ends_with(".PluginService") || name.ends_with(".PluginHostService") {
                    continue;
                }
                assert!(SERVICES.contains(&name.as_str()), "{name}");
                for method in &service.method {
                    let path = format!("/{name}/{}", method.name());
                    let stream = method.client_streaming() || method.server_streaming();
                    assert_eq!(manner(&path) == Manner::Stream, stream, "{path}");
                    streams += usize::from(stream);
                }
            }
        }
        assert_eq!(streams, 13);
    }
}
