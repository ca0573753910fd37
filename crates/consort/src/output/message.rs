//! Messages as canonical protobuf JSON, with JSON payloads opened so that programs need not parse twice.

use std::sync::OnceLock;

use consort_proto::{agent, decision, event, orchestrator};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, SerializeOptions, Value as Reflected};
use serde_json::Value;

use crate::failure::{Failure, Result};

/// A message whose full name is known.
pub(crate) trait Named: Message {
    /// For example `consort.orchestrator.v1.Run`.
    const NAME: &'static str;
}

macro_rules! named {
    ($($type:ty = $name:literal),* $(,)?) => { $(impl Named for $type { const NAME: &'static str = $name; })* };
}

named! {
    consort_proto::admin::PruneRunsResponse = "consort.admin.v1.PruneRunsResponse",
    consort_proto::admin::ListArchivesResponse = "consort.admin.v1.ListArchivesResponse",
    consort_proto::admin::ImportRunsResponse = "consort.admin.v1.ImportRunsResponse",
    consort_proto::event::RequeueDeadLettersResponse = "consort.event.v1.RequeueDeadLettersResponse",
    consort_proto::event::ListGroupsResponse = "consort.event.v1.ListGroupsResponse",
    consort_proto::event::ListEventTypesResponse = "consort.event.v1.ListEventTypesResponse",
    consort_proto::project::Project = "consort.project.v1.Project",
    consort_proto::project::ListProjectsResponse = "consort.project.v1.ListProjectsResponse",
    consort_proto::signal::Signal = "consort.signal.v1.Signal",
    consort_proto::signal::ListSignalsResponse = "consort.signal.v1.ListSignalsResponse",
    consort_proto::orchestrator::ListSchedulesResponse = "consort.orchestrator.v1.ListSchedulesResponse",
    consort_proto::inference::GenerateOnceResponse = "consort.inference.v1.GenerateOnceResponse",
    consort_proto::inference::ListModelsResponse = "consort.inference.v1.ListModelsResponse",
    consort_proto::inference::Model = "consort.inference.v1.Model",
    consort_proto::inference::GetUsageResponse = "consort.inference.v1.GetUsageResponse",
    consort_proto::plugin::ListPluginsResponse = "consort.plugin.v1.ListPluginsResponse",
    consort_proto::plugin::Plugin = "consort.plugin.v1.Plugin",
    consort_proto::plugin::InvokeOperationOnceResponse = "consort.plugin.v1.InvokeOperationOnceResponse",
    consort_proto::plugin::ListPluginActionsResponse = "consort.plugin.v1.ListPluginActionsResponse",
    orchestrator::ReplayRunResponse = "consort.orchestrator.v1.ReplayRunResponse",
    orchestrator::DiffRunsResponse = "consort.orchestrator.v1.DiffRunsResponse",
    orchestrator::Run = "consort.orchestrator.v1.Run",
    orchestrator::RunEvent = "consort.orchestrator.v1.RunEvent",
    orchestrator::Workflow = "consort.orchestrator.v1.Workflow",
    orchestrator::ListRunsResponse = "consort.orchestrator.v1.ListRunsResponse",
    orchestrator::ListRunEventsResponse = "consort.orchestrator.v1.ListRunEventsResponse",
    orchestrator::ListWorkflowsResponse = "consort.orchestrator.v1.ListWorkflowsResponse",
    agent::ListAgentsResponse = "consort.agent.v1.ListAgentsResponse",
    agent::ListWorkersResponse = "consort.agent.v1.ListWorkersResponse",
    agent::Worker = "consort.agent.v1.Worker",
    decision::Decision = "consort.decision.v1.Decision",
    decision::ListDecisionsResponse = "consort.decision.v1.ListDecisionsResponse",
    event::Event = "consort.event.v1.Event",
    event::ListDeadLettersResponse = "consort.event.v1.ListDeadLettersResponse",
}

/// The message as canonical JSON with every field present; a payload's `json` is the value itself instead of its text, and error
/// details of types this program does not know are left out.
pub(crate) fn to_json<M: Named>(message: &M) -> Result<Value> {
    let convert = || -> std::result::Result<Value, String> {
        let descriptor =
            pool().get_message_by_name(M::NAME).ok_or_else(|| format!("{} is not in the descriptor set", M::NAME))?;
        let mut dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
            .map_err(|error| error.to_string())?;
        drop_unknown_details(&mut dynamic);
        let options = SerializeOptions::new().skip_default_fields(false);
        let mut value = dynamic
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|error| error.to_string())?;
        open_payloads(&mut value);
        Ok(value)
    };
    convert().map_err(|error| Failure::failed(format!("cannot show {} as JSON: {error}", M::NAME)))
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(consort_proto::DESCRIPTOR_SET).expect("the build script encoded a valid descriptor set")
    })
}

/// `google.protobuf.Any` can only be shown with its descriptor at hand.
fn drop_unknown_details(message: &mut DynamicMessage) {
    if message.descriptor().full_name() == "google.rpc.Status"
        && let Some(Reflected::List(details)) = message.get_field_by_name_mut("details")
    {
        details.retain(|detail| detail.as_message().is_some_and(is_known_any));
    }
    for (_, value) in message.fields_mut() {
        match value {
            Reflected::Message(inner) => drop_unknown_details(inner),
            Reflected::List(items) => {
                for item in items {
                    if let Reflected::Message(inner) = item {
                        drop_unknown_details(inner);
                    }
                }
            }
            _ => {}
        }
    }
}

fn is_known_any(any: &DynamicMessage) -> bool {
    let Some(url) = any.get_field_by_name("type_url") else { return false };
    let name = url.as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    pool().get_message_by_name(name).is_some()
}

/// The fields that hold a `consort.blob.v1.Payload`.
const PAYLOAD_FIELDS: [&str; 7] = ["inputs", "output", "input", "payload", "value", "list", "form"];

fn open_payloads(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_object_mut() {
                    Some(payload)
                        if (PAYLOAD_FIELDS.contains(&name.as_str()) || name == "answer") && payload.len() == 1 =>
                    {
                        if let Some(Value::String(text)) = payload.get("json")
                            && let Ok(opened) = serde_json::from_str(text)
                        {
                            payload.insert("json".to_owned(), opened);
                        }
                    }
                    _ => open_payloads(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(open_payloads),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use consort_proto::blob::{Payload, payload::Kind};
    use consort_proto::google::rpc::Status;
    use serde_json::json;

    use super::*;

    #[test]
    fn payloads_are_open_and_defaults_are_there() {
        let run = orchestrator::Run {
            name: "namespaces/default/runs/1".into(),
            state: orchestrator::RunState::Succeeded as i32,
            sequence: 7,
            output: Some(Payload { kind: Some(Kind::Json(r#"{"saving": 12, "json": "x"}"#.into())) }),
            ..Default::default()
        };
        let value = to_json(&run).unwrap();
        assert_eq!(value["output"], json!({"json": {"saving": 12, "json": "x"}}));
        assert_eq!(value["state"], "RUN_STATE_SUCCEEDED");
        assert_eq!(value["sequence"], "7");
        assert_eq!(value["labels"], json!({}));
    }

    #[test]
    fn errors_with_foreign_details_can_be_shown() {
        let any = prost_types::Any { type_url: "type.googleapis.com/no.such.Type".into(), value: vec![8, 1] };
        let error = Status { code: 3, message: "bad".into(), details: vec![any] };
        let value = to_json(&orchestrator::Run { error: Some(error), ..Default::default() }).unwrap();
        assert_eq!(value["error"], json!({"code": 3, "message": "bad", "details": []}));
    }

    #[test]
    fn every_name_is_in_the_descriptor_set() {
        to_json(&agent::Worker::default()).unwrap();
        to_json(&agent::ListAgentsResponse::default()).unwrap();
        to_json(&agent::ListWorkersResponse::default()).unwrap();
        to_json(&decision::Decision::default()).unwrap();
        to_json(&decision::ListDecisionsResponse::default()).unwrap();
        to_json(&event::Event::default()).unwrap();
        to_json(&event::ListDeadLettersResponse::default()).unwrap();
        to_json(&orchestrator::Workflow::default()).unwrap();
        to_json(&orchestrator::RunEvent::default()).unwrap();
        to_json(&orchestrator::ListRunsResponse::default()).unwrap();
        to_json(&orchestrator::ListRunEventsResponse::default()).unwrap();
        to_json(&orchestrator::ListWorkflowsResponse::default()).unwrap();
    }
}
