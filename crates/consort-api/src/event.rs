//! `consort.event.v1.EventService`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use consort_core::event::Published;
use consort_core::ports::DeadLetter;
use consort_core::{BlobRef, Error, Millis, Violation, contract};
use consort_proto::blob::payload::Kind as Payload;
use consort_proto::event as wire;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;
use wire::event_service_server::EventService;

use crate::connection::Peer;
use crate::envelope::Defaults;
use crate::paging::{self, List};
use crate::status::{self, answer};
use crate::{Context, convert, group, names, requeue, stream, subscribe};

/// Events of one call.
const EVENTS: usize = 1_000;

/// See `proto/consort/event/v1/event_service.proto`.
pub(crate) struct Events(pub(crate) Arc<Context>);

impl Events {
    async fn publish_all(&self, request: Request<wire::PublishRequest>) -> Result<wire::PublishResponse, Error> {
        let (_, extensions, message) = request.into_parts();
        let namespace = names::parent("parent", &message.parent)?;
        if message.events.is_empty() || message.events.len() > EVENTS {
            return Err(Error::bad_field("events", format!("there are {}; give 1 to {EVENTS}", message.events.len())));
        }
        let peer = extensions.get::<Peer>().map(|peer| peer.0);
        let defaults = Defaults { namespace, now: now(), peer };
        let mut published: Vec<Published> = Vec::with_capacity(message.events.len());
        let mut violations = Vec::new();
        let mut letters = Vec::new();
        for (index, event) in message.events.into_iter().enumerate() {
            let field = format!("events[{index}]");
            match defaults.complete(&self.0.values, self.0.store(), &field, event.clone()).await? {
                Ok(event) => published.push(event),
                Err(wrong) => {
                    letters.push(self.letter(&defaults, event, reason(&wrong)).await?);
                    violations.extend(wrong);
                }
            }
        }
        if !letters.is_empty() {
            self.0.store().bury(&letters).await.map_err(status::store)?;
            return Err(Error::bad_fields(violations));
        }
        let event_ids = published.iter().map(|event| event.event_id.to_string()).collect();
        let cursor = self.0.engine.publish(published).await?;
        Ok(wire::PublishResponse { event_ids, cursor: cursor as i64 })
    }

    /// A refused event as it is kept. A large payload goes to the blob store, so that every letter fits into a message.
    async fn letter(&self, defaults: &Defaults, mut event: wire::Event, reason: String) -> Result<DeadLetter, Error> {
        if let Some(Payload::Json(text)) = event.payload.as_ref().and_then(|payload| payload.kind.as_ref())
            && text.len() > consort_core::data::INLINE_LIMIT
        {
            let blob = BlobRef::of(text.as_bytes(), "application/json");
            self.0.store().put(&blob, text.as_bytes()).await.map_err(status::store)?;
            event.payload = Some(convert::payload(&consort_core::Data::Blob(blob)));
        }
        Ok(DeadLetter {
            id: Uuid::now_v7(),
            namespace: defaults.namespace.clone(),
            event: convert::json_of(&event),
            reason: status::cut(reason, 8 * 1024),
            at: defaults.now,
            group: None,
            attempts: 0,
            place: None,
        })
    }

    async fn dead_letters(
        &self,
        request: wire::ListDeadLettersRequest,
    ) -> Result<wire::ListDeadLettersResponse, Error> {
        let namespace = names::parent("parent", &request.parent)?;
        let size = paging::size(request.page_size, 50)?;
        let list = List::new("ListDeadLetters", &[&namespace]);
        let before = list.place(&request.page_token)?.map(|place| Uuid::from_slice(&place)).transpose();
        let before = before.map_err(|_| paging::bad_token())?;
        let rows = self.0.store().dead_letters(&namespace, before, size as u32 + 1).await.map_err(status::store)?;
        let place = |letter: &DeadLetter| letter.id.as_bytes().to_vec();
        let (dead_letters, next_page_token) = paging::page(&list, size, &rows, convert::dead_letter, place);
        Ok(wire::ListDeadLettersResponse { dead_letters, next_page_token })
    }
}

/// What is wrong with an event, in one text.
pub(crate) fn reason(wrong: &[Violation]) -> String {
    let reasons: Vec<_> = wrong.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    reasons.join("; ")
}

/// The event types that have a contract.
fn event_types() -> wire::ListEventTypesResponse {
    let event_types = contract::all().iter().map(|contract| wire::EventType {
        event_type: contract.event_type.to_owned(),
        event_version: contract.event_version as i32,
        schema: contract.schema.to_owned(),
        description: contract.description.clone(),
    });
    wire::ListEventTypesResponse { event_types: event_types.collect() }
}

pub(crate) fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

#[tonic::async_trait]
impl EventService for Events {
    async fn publish(&self, request: Request<wire::PublishRequest>) -> Result<Response<wire::PublishResponse>, Status> {
        answer(self.publish_all(request).await)
    }

    type SubscribeStream = stream::News<wire::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<wire::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        subscribe::subscribe(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn list_groups(
        &self,
        request: Request<wire::ListGroupsRequest>,
    ) -> Result<Response<wire::ListGroupsResponse>, Status> {
        answer(group::list(&self.0, request.into_inner()).await)
    }

    async fn delete_group(
        &self,
        request: Request<wire::DeleteGroupRequest>,
    ) -> Result<Response<wire::DeleteGroupResponse>, Status> {
        answer(group::delete(&self.0, request.into_inner()).await)
    }

    async fn list_event_types(
        &self,
        _request: Request<wire::ListEventTypesRequest>,
    ) -> Result<Response<wire::ListEventTypesResponse>, Status> {
        answer(Ok(event_types()))
    }

    async fn list_dead_letters(
        &self,
        request: Request<wire::ListDeadLettersRequest>,
    ) -> Result<Response<wire::ListDeadLettersResponse>, Status> {
        answer(self.dead_letters(request.into_inner()).await)
    }

    async fn requeue_dead_letters(
        &self,
        request: Request<wire::RequeueDeadLettersRequest>,
    ) -> Result<Response<wire::RequeueDeadLettersResponse>, Status> {
        answer(requeue::requeue(&self.0, request.into_inner()).await)
    }
}
