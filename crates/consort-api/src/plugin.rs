//! `PluginRegistryService`: plugins, and calls of their operations, by themselves and on behalf of tasks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use consort_core::event::Failure;
use consort_core::plugin::{
    Invocation, Invoke, InvokeNews, OperationName, Origin, Outcome, PluginView, Plugins, is_name,
};
use consort_core::{Data, Error};
use consort_engine::{LeaseRef, OperationAsked};
use consort_proto::plugin as wire;
use consort_proto::plugin::plugin_registry_service_server::PluginRegistryService;
use futures::FutureExt as _;
use prost::Message as _;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::convert::{plugin as convert, rpc_status};
use crate::deadline::Deadline;
use crate::paging::List;
use crate::stream;
use crate::{Context, names, request as req, status};

/// Plugins and entries on a page.
const PAGE: i32 = 100;
const LARGEST_PAGE: i32 = 1_000;

/// Serves `consort.plugin.v1.PluginRegistryService`.
pub(crate) struct Registry(pub(crate) Arc<Context>);

fn answer<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(status::of)
}

/// A call, and on whose behalf it is made.
struct Ask {
    task: Option<LeaseRef>,
    namespace: Arc<str>,
    asked: OperationAsked,
}

/// How a call failed.
enum Failed {
    Mesh(Error),
    Plugin(Failure),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Mesh(error)
    }
}

impl From<Failed> for Status {
    fn from(failed: Failed) -> Status {
        match failed {
            Failed::Mesh(error) => status::of(error),
            // As the plugin said it, details and all.
            Failed::Plugin(failure) => {
                let details = rpc_status(&failure).encode_to_vec();
                Status::with_details(tonic::Code::from_i32(failure.code), failure.message, details.into())
            }
        }
    }
}

fn page_size(size: i32) -> Result<usize, Error> {
    match size {
        0 => Ok(PAGE as usize),
        1..=LARGEST_PAGE => Ok(size as usize),
        _ => Err(Error::bad_field("page_size", format!("is {size}; give 1 to {LARGEST_PAGE}, or 0 for {PAGE}"))),
    }
}

fn id_of<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    name.strip_prefix("plugins/").filter(|id| is_name(id)).ok_or_else(|| {
        let shown = names::shown(name);
        Error::bad_field(field, format!("`{shown}` is not the name of a plugin: write `plugins/{{id}}`"))
    })
}

impl Registry {
    fn plugins(&self) -> Result<&Arc<dyn Plugins>, Error> {
        self.0.engine.plugins()
    }

    fn one(&self, id: &str) -> Result<PluginView, Error> {
        let all = self.plugins()?.list();
        let near = consort_core::workflow::nearest(id, all.iter().map(|view| &*view.id)).map(str::to_owned);
        all.into_iter().find(|view| *view.id == *id).ok_or_else(|| {
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let said = format!("there is no plugin `{id}`{hint}");
            Error::new(consort_core::Kind::NotFound, "NOT_FOUND", said)
        })
    }

    async fn read(&self, wire: wire::InvokeOperationRequest, extensions: &http::Extensions) -> Result<Ask, Error> {
        let operation = OperationName::parse(&wire.operation)?;
        req::text("idempotency_key", &wire.idempotency_key, 255)?;
        let (namespace, task) = match &wire.task {
            None => (names::parent("parent", &wire.parent)?, None),
            Some(task) => {
                let (of, lease) = names::task("task.task", &task.task, task.lease_token)?;
                if !wire.parent.is_empty() {
                    names::same_namespace("task.task", of, &names::parent("parent", &wire.parent)?)?;
                }
                (of.into(), Some(lease))
            }
        };
        let timeout = extensions.get::<Deadline>().map(|deadline| {
            deadline.0.saturating_duration_since(tokio::time::Instant::now()).max(Duration::from_millis(1))
        });
        let input = match &wire.input {
            Some(_) => self.0.values.take("input", wire.input.clone()).await?,
            None => Data::of(&serde_json::json!({})),
        };
        let idempotency_key = Some(wire.idempotency_key).filter(|key| !key.is_empty());
        let asked = OperationAsked { operation, input, dry_run: wire.dry_run, timeout, idempotency_key, again: false };
        Ok(Ask { task, namespace, asked })
    }

    async fn begin(&self, ask: Ask) -> Result<Box<dyn Invocation>, Error> {
        let Ask { task, namespace, asked } = ask;
        if let Some(lease) = task {
            return self.0.engine.operate_for(lease, asked).await;
        }
        let call_id = Uuid::new_v4();
        let call = Invoke {
            operation: asked.operation,
            input: asked.input,
            dry_run: asked.dry_run,
            idempotency_key: asked.idempotency_key.unwrap_or_else(|| call_id.to_string()),
            call_id,
            origin: Origin { namespace, ..Origin::default() },
            timeout: asked.timeout,
        };
        self.plugins()?.invoke(call).await
    }

    async fn once(
        &self,
        request: wire::InvokeOperationOnceRequest,
        extensions: &http::Extensions,
    ) -> Result<wire::InvokeOperationOnceResponse, Failed> {
        let call = request.call.ok_or_else(|| Error::bad_field("call", "is missing; say what to call"))?;
        let mut invocation = self.begin(self.read(call, extensions).await?).await?;
        while let Some(news) = invocation.next().await {
            if let InvokeNews::Done(outcome) = news? {
                return convert::done(&outcome).ok_or_else(|| failure_of(outcome));
            }
        }
        Err(Error::unavailable("the call ended without an outcome", Duration::from_secs(1)).into())
    }
}

fn failure_of(outcome: Outcome) -> Failed {
    match outcome.result {
        Err(failure) => Failed::Plugin(failure),
        Ok(_) => Failed::Mesh(Error::internal("an outcome without a failure has one")),
    }
}

#[tonic::async_trait]
impl PluginRegistryService for Registry {
    async fn list_plugins(
        &self,
        request: Request<wire::ListPluginsRequest>,
    ) -> Result<Response<wire::ListPluginsResponse>, Status> {
        let request = request.into_inner();
        let page = || {
            let (size, list) = (page_size(request.page_size)?, List::new("ListPlugins", &[]));
            let after = list.place(&request.page_token)?.map(|place| String::from_utf8_lossy(&place).into_owned());
            let all = self.plugins()?.list();
            let mut rest = all.into_iter().filter(|view| after.as_deref().is_none_or(|after| *view.id > *after));
            let plugins: Vec<wire::Plugin> = rest.by_ref().take(size).map(convert::plugin).collect();
            let last = plugins.last().map(|plugin| plugin.name.trim_start_matches("plugins/").to_owned());
            let next_page_token = match (rest.next(), last) {
                (Some(_), Some(last)) => list.token(last.as_bytes()),
                _ => String::new(),
            };
            Ok(wire::ListPluginsResponse { plugins, next_page_token })
        };
        answer(page())
    }

    async fn get_plugin(&self, request: Request<wire::GetPluginRequest>) -> Result<Response<wire::Plugin>, Status> {
        let name = request.into_inner().name;
        answer(id_of("name", &name).and_then(|id| self.one(id)).map(convert::plugin))
    }

    async fn install_plugin(
        &self,
        request: Request<wire::InstallPluginRequest>,
    ) -> Result<Response<wire::Plugin>, Status> {
        let wire::InstallPluginRequest { folder, grant, validate_only, .. } = request.into_inner();
        let install = async {
            req::some_text("folder", &folder, 4_096, "name the plugin's folder on the server's machine")?;
            self.plugins()?.install(Path::new(&folder), grant, validate_only).await.map(convert::plugin)
        };
        answer(self.0.unless_stopping(install).await)
    }

    async fn uninstall_plugin(
        &self,
        request: Request<wire::UninstallPluginRequest>,
    ) -> Result<Response<wire::UninstallPluginResponse>, Status> {
        let name = request.into_inner().name;
        let uninstall = async {
            self.plugins()?.uninstall(id_of("name", &name)?).await?;
            Ok(wire::UninstallPluginResponse {})
        };
        answer(self.0.unless_stopping(uninstall).await)
    }

    async fn reload_plugin(
        &self,
        request: Request<wire::ReloadPluginRequest>,
    ) -> Result<Response<wire::Plugin>, Status> {
        let wire::ReloadPluginRequest { name, grant, .. } = request.into_inner();
        let reload = async { self.plugins()?.reload(id_of("name", &name)?, grant).await.map(convert::plugin) };
        answer(self.0.unless_stopping(reload).await)
    }

    type InvokeOperationStream = stream::News<wire::InvokeOperationResponse>;

    async fn invoke_operation(
        &self,
        request: Request<wire::InvokeOperationRequest>,
    ) -> Result<Response<Self::InvokeOperationStream>, Status> {
        let (_, extensions, call) = request.into_parts();
        // What is wrong with the request is the call's own status, before anything is streamed.
        let ask = self.read(call, &extensions).await.map_err(status::of)?;
        let mut invocation = self.begin(ask).await.map_err(status::of)?;
        Ok(Response::new(stream::said(&self.0, |reader| {
            async move {
                while let Some(news) = invocation.next().await {
                    match convert::news(news.map_err(status::of)?) {
                        Ok(news) => reader.give(news).await.map_err(status::of)?,
                        Err(outcome) => return Err(failure_of(*outcome).into()),
                    }
                }
                Ok(())
            }
            .boxed()
        })))
    }

    async fn invoke_operation_once(
        &self,
        request: Request<wire::InvokeOperationOnceRequest>,
    ) -> Result<Response<wire::InvokeOperationOnceResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let stop = self.0.stop.clone();
        // A large future, which would otherwise be moved several times.
        let once = Box::pin(self.once(request, &extensions));
        match stop.run_until_cancelled(once).await {
            Some(done) => done.map(Response::new).map_err(Status::from),
            None => Err(status::of(status::stopping())),
        }
    }

    async fn list_plugin_actions(
        &self,
        request: Request<wire::ListPluginActionsRequest>,
    ) -> Result<Response<wire::ListPluginActionsResponse>, Status> {
        let request = request.into_inner();
        let page = || {
            let list = List::new("ListPluginActions", &[&request.plugin]);
            let below = list.place(&request.page_token)?;
            let below = below.and_then(|place| String::from_utf8_lossy(&place).parse::<u64>().ok());
            let size = page_size(request.page_size)?;
            let plugin = match request.plugin.as_str() {
                "" => None,
                name => Some(id_of("plugin", name)?),
            };
            let mut found = self.plugins()?.actions(plugin, below, size + 1);
            let more = found.len() > size;
            found.truncate(size);
            let next_page_token = match found.last() {
                Some(last) if more => list.token(last.number.to_string().as_bytes()),
                _ => String::new(),
            };
            let actions = found.into_iter().map(convert::action).collect();
            Ok(wire::ListPluginActionsResponse { actions, next_page_token })
        };
        answer(page())
    }
}
