//! `consort.signal.v1.SignalService`.

use std::sync::Arc;

use consort_core::Error;
use consort_core::ports::{SignalQuery, SignalRow};
use consort_core::signal::{Impact, Signal, Urgency, is_type};
use consort_engine::{RaiseSignal, SignalView};
use consort_proto::signal as wire;
use tonic::{Request, Response, Status};
use wire::signal_service_server::SignalService;

use crate::paging::{self, List};
use crate::status::{self, answer};
use crate::{Context, convert, names, request as req};

/// Longest description, in bytes.
const DESCRIPTION: usize = 64 * 1024;

/// See `proto/consort/signal/v1/signal_service.proto`.
pub(crate) struct Signals(pub(crate) Arc<Context>);

impl Signals {
    async fn raise(&self, request: wire::RaiseSignalRequest) -> Result<wire::Signal, Error> {
        let namespace = names::parent("parent", &request.parent)?;
        req::all([
            req::check_id(&request.request_id),
            kind("type", &request.r#type),
            req::some_text("title", &request.title, 200, "say in a line what was noticed"),
            req::text("source", &request.source, 200),
            description(&request.description),
            req::maybe_name("agent", &request.agent),
            project_filter(&request.project, &namespace).map(drop),
            urgency(request.urgency).map(drop),
            impact(request.impact).map(drop),
        ])?;
        let request_id = req::id(&request)?;
        let project = project_filter(&request.project, &namespace)?;
        let (urgency, impact) = (urgency(request.urgency)?, impact(request.impact)?);
        let signal = Signal {
            urgency: urgency.unwrap_or_else(|| Urgency::of(&request.r#type)),
            impact: impact.unwrap_or_else(|| Impact::of(&request.r#type)),
            kind: request.r#type,
            title: request.title,
            description: request.description,
            payload: self.0.values.take_object("payload", request.payload).await?,
            source: if request.source.is_empty() { "client".to_owned() } else { request.source },
            agent: (!request.agent.is_empty()).then(|| request.agent.as_str().into()),
        };
        let raise = RaiseSignal { namespace, project, signal, request: request_id };
        Ok(convert::signal(&self.0.engine.raise_signal(raise).await?))
    }

    async fn get(&self, request: wire::GetSignalRequest) -> Result<wire::Signal, Error> {
        let (namespace, id) = names::signal("name", &request.name)?;
        Ok(convert::signal(&self.0.engine.signal(&namespace, id).await?))
    }

    async fn list(&self, request: wire::ListSignalsRequest) -> Result<wire::ListSignalsResponse, Error> {
        let namespace = names::parent("parent", &request.parent)?;
        let project = project_filter(&request.project, &namespace)?;
        if !request.r#type.is_empty() {
            kind("type", &request.r#type)?;
        }
        let size = paging::size(request.page_size, 50)?;
        let list = List::new("ListSignals", &[&namespace, &request.r#type, &request.project]);
        let before = list.place(&request.page_token)?.map(|place| paging::time_and_uuid(&place)).transpose()?;
        let kind = (!request.r#type.is_empty()).then_some(request.r#type);
        let query = SignalQuery { namespace, kind, project, before, limit: size as u32 + 1 };
        let rows = self.0.store().signals(&query).await.map_err(status::store)?;
        let mut views = Vec::with_capacity(rows.len());
        for row in rows {
            views.push(SignalView { open: self.0.engine.is_open(&row).await?, row });
        }
        let place = |view: &SignalView| of_row(&view.row);
        let (signals, next_page_token) = paging::page(&list, size, &views, convert::signal, place);
        Ok(wire::ListSignalsResponse { signals, next_page_token })
    }
}

fn description(given: &str) -> Result<(), Error> {
    if given.len() <= DESCRIPTION {
        return Ok(());
    }
    Err(Error::bad_field("description", format!("has {} bytes; give at most {DESCRIPTION}", given.len())))
}

fn of_row(row: &SignalRow) -> Vec<u8> {
    paging::from_time_and_uuid(row.created_at, row.id)
}

/// A project of this namespace, if one is named.
pub(crate) fn project_filter(name: &str, namespace: &str) -> Result<Option<Arc<str>>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    let (of, id) = names::project("project", name)?;
    names::same_namespace("project", &of, namespace)?;
    Ok(Some(id))
}

fn kind(field: &str, given: &str) -> Result<(), Error> {
    if is_type(given) {
        return Ok(());
    }
    let shown = names::shown(given);
    let said = format!(
        "`{shown}` is not the type of a signal; give REQUIREMENT, DECISION_NEEDED, INNOVATION_DETECTED, QUALITY_ISSUE, \
         INTEGRATION_READY, or another upper-case name of at most 63 characters"
    );
    Err(Error::bad_field(field, said))
}

fn urgency(number: i32) -> Result<Option<Urgency>, Error> {
    let known = wire::Urgency::try_from(number);
    let known = known.map_err(|_| Error::bad_field("urgency", format!("`{number}` is not an urgency; give 0 to 4")))?;
    Ok(match known {
        wire::Urgency::Unspecified => None,
        wire::Urgency::Low => Some(Urgency::Low),
        wire::Urgency::Normal => Some(Urgency::Normal),
        wire::Urgency::High => Some(Urgency::High),
        wire::Urgency::Critical => Some(Urgency::Critical),
    })
}

fn impact(number: i32) -> Result<Option<Impact>, Error> {
    let known = wire::Impact::try_from(number);
    let known = known.map_err(|_| Error::bad_field("impact", format!("`{number}` is not an impact; give 0 to 3")))?;
    Ok(match known {
        wire::Impact::Unspecified => None,
        wire::Impact::Low => Some(Impact::Low),
        wire::Impact::Medium => Some(Impact::Medium),
        wire::Impact::High => Some(Impact::High),
    })
}

#[tonic::async_trait]
impl SignalService for Signals {
    async fn raise_signal(&self, request: Request<wire::RaiseSignalRequest>) -> Result<Response<wire::Signal>, Status> {
        answer(self.raise(request.into_inner()).await)
    }

    async fn get_signal(&self, request: Request<wire::GetSignalRequest>) -> Result<Response<wire::Signal>, Status> {
        answer(self.get(request.into_inner()).await)
    }

    async fn list_signals(
        &self,
        request: Request<wire::ListSignalsRequest>,
    ) -> Result<Response<wire::ListSignalsResponse>, Status> {
        answer(self.list(request.into_inner()).await)
    }
}
