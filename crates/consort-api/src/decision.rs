//! `consort.decision.v1.DecisionService`.

use std::sync::Arc;

use consort_core::ports::{DecisionKind, DecisionQuery, DecisionRow, DecisionState};
use consort_core::{Error, RunId};
use consort_engine::AnswerDecision;
use consort_proto::decision as wire;
use futures::FutureExt as _;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};
use wire::decision_service_server::DecisionService;

use crate::agent::lagged;
use crate::paging::{self, List};
use crate::signal::project_filter;
use crate::status::{self, answer};
use crate::stream::{self, Reader};
use crate::{Context, convert, names, request as req};

/// How the mesh signs its own answers; a person may not sign so.
const OURS: [&str; 2] = ["deadline", "rule"];
/// Open decisions read from the store at once.
const PAGE: u32 = 256;

/// See `proto/consort/decision/v1/decision_service.proto`.
pub(crate) struct Decisions(pub(crate) Arc<Context>);

impl Decisions {
    async fn list(&self, request: wire::ListDecisionsRequest) -> Result<wire::ListDecisionsResponse, Error> {
        let namespace = names::parent("parent", &request.parent)?;
        let run = run_filter(&request.run, &namespace)?;
        let state = state_filter(request.state)?;
        let size = paging::size(request.page_size, 50)?;
        let kind = kind_filter(request.kind)?;
        let project = project_filter(&request.project, &namespace)?;
        let filters =
            [&*namespace, &request.run, &request.state.to_string(), &request.kind.to_string(), &request.project];
        let list = List::new("ListDecisions", &filters);
        let before = list.place(&request.page_token)?.map(|place| paging::time_and_uuid(&place)).transpose()?;
        let query = DecisionQuery { namespace, run, state, kind, project, before, limit: size as u32 + 1 };
        let rows = self.0.store().decisions(&query).await.map_err(status::store)?;
        let place = |row: &DecisionRow| paging::from_time_and_uuid(row.created_at, row.id);
        let (decisions, next_page_token) = paging::page(&list, size, &rows, convert::decision, place);
        Ok(wire::ListDecisionsResponse { decisions, next_page_token })
    }

    async fn get(&self, request: wire::GetDecisionRequest) -> Result<wire::Decision, Error> {
        let (namespace, id) = names::decision("name", &request.name)?;
        let row = self.0.store().decision(id).await.map_err(status::store)?;
        let row = row.filter(|row| row.namespace == namespace);
        row.map(|row| convert::decision(&row)).ok_or_else(|| Error::not_found("decision", &request.name))
    }

    async fn answer(&self, mut request: wire::AnswerDecisionRequest) -> Result<wire::Decision, Error> {
        let (namespace, id) = names::decision("name", &request.name)?;
        let request_id = req::id(&request)?;
        req::text("option", &request.option, 1_000)?;
        req::text("answered_by", &request.answered_by, 200)?;
        if OURS.contains(&request.answered_by.as_str()) {
            let said =
                format!("`{}` is how the mesh signs; give the name of the person who answers", request.answered_by);
            return Err(Error::bad_field("answered_by", said));
        }
        let form = match request.form.take() {
            None => None,
            given => Some(self.0.values.take("form", given).await?),
        };
        let answer = AnswerDecision {
            namespace,
            id,
            option: request.option,
            form,
            by: request.answered_by,
            request: request_id,
        };
        Ok(convert::decision(&self.0.engine.answer(answer).await?))
    }

    fn watch(
        &self,
        request: &wire::WatchDecisionsRequest,
    ) -> Result<stream::News<wire::WatchDecisionsResponse>, Error> {
        let namespace = names::parent("parent", &request.parent)?;
        let run = run_filter(&request.run, &namespace)?;
        let watch = Watch { context: self.0.clone(), namespace, run };
        // Followed before anything is read, so that nothing falls between; what opens meanwhile is sent twice at most.
        let news = self.0.bus.follow_decisions();
        Ok(stream::news(&self.0, |reader| watch.follow(reader, news).boxed()))
    }
}

struct Watch {
    context: Arc<Context>,
    namespace: Arc<str>,
    run: Option<RunId>,
}

impl Watch {
    async fn follow(
        self,
        reader: Reader<wire::WatchDecisionsResponse>,
        mut news: Receiver<DecisionRow>,
    ) -> Result<(), Error> {
        self.send_open(&reader).await?;
        loop {
            let row = match news.recv().await {
                Ok(row) => row,
                Err(RecvError::Lagged(lost)) => return Err(lagged(lost)),
                Err(RecvError::Closed) => return Err(status::stopping()),
            };
            if row.namespace == self.namespace && self.run.is_none_or(|run| run == row.run) {
                reader.give(response(&row)).await?;
            }
        }
    }

    async fn send_open(&self, reader: &Reader<wire::WatchDecisionsResponse>) -> Result<(), Error> {
        let mut query = DecisionQuery {
            namespace: self.namespace.clone(),
            run: self.run,
            state: Some(DecisionState::Open),
            kind: None,
            project: None,
            before: None,
            limit: PAGE,
        };
        loop {
            let rows = self.context.store().decisions(&query).await.map_err(status::store)?;
            for row in &rows {
                reader.give(response(row)).await?;
            }
            match rows.last() {
                Some(last) if rows.len() == PAGE as usize => query.before = Some((last.created_at, last.id)),
                _ => return Ok(()),
            }
        }
    }
}

fn response(row: &DecisionRow) -> wire::WatchDecisionsResponse {
    wire::WatchDecisionsResponse { decision: Some(convert::decision(row)) }
}

fn run_filter(name: &str, namespace: &str) -> Result<Option<RunId>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    let (of, run) = names::run("run", name)?;
    names::same_namespace("run", &of, namespace)?;
    Ok(Some(run))
}

fn state_filter(number: i32) -> Result<Option<DecisionState>, Error> {
    let known = wire::DecisionState::try_from(number).map_err(|_| {
        Error::bad_field("state", format!("`{number}` is not a state; give a DecisionState, or nothing for all"))
    })?;
    Ok(match known {
        wire::DecisionState::Unspecified => None,
        wire::DecisionState::Open => Some(DecisionState::Open),
        wire::DecisionState::Answered => Some(DecisionState::Answered),
        wire::DecisionState::Expired => Some(DecisionState::Expired),
        wire::DecisionState::Cancelled => Some(DecisionState::Cancelled),
    })
}

fn kind_filter(number: i32) -> Result<Option<DecisionKind>, Error> {
    let known = wire::DecisionKind::try_from(number).map_err(|_| {
        Error::bad_field("kind", format!("`{number}` is not a kind; give a DecisionKind, or nothing for all"))
    })?;
    Ok(match known {
        wire::DecisionKind::Unspecified => None,
        wire::DecisionKind::Choice => Some(DecisionKind::Choice),
        wire::DecisionKind::Clarification => Some(DecisionKind::Clarification),
    })
}

#[tonic::async_trait]
impl DecisionService for Decisions {
    async fn list_decisions(
        &self,
        request: Request<wire::ListDecisionsRequest>,
    ) -> Result<Response<wire::ListDecisionsResponse>, Status> {
        answer(self.list(request.into_inner()).await)
    }

    async fn get_decision(
        &self,
        request: Request<wire::GetDecisionRequest>,
    ) -> Result<Response<wire::Decision>, Status> {
        answer(self.get(request.into_inner()).await)
    }

    type WatchDecisionsStream = stream::News<wire::WatchDecisionsResponse>;

    async fn watch_decisions(
        &self,
        request: Request<wire::WatchDecisionsRequest>,
    ) -> Result<Response<Self::WatchDecisionsStream>, Status> {
        answer(self.watch(request.get_ref()))
    }

    async fn answer_decision(
        &self,
        request: Request<wire::AnswerDecisionRequest>,
    ) -> Result<Response<wire::Decision>, Status> {
        answer(self.answer(request.into_inner()).await)
    }
}
