//! `consort.project.v1.ProjectService`.

use std::sync::Arc;

use consort_core::Error;
use consort_core::ports::{ProjectQuery, ProjectRow, ProjectState};
use consort_engine::CreateProject;
use consort_proto::project as wire;
use tonic::{Request, Response, Status};
use wire::project_service_server::ProjectService;

use crate::paging::{self, List};
use crate::status::{self, answer};
use crate::{Context, convert, names, request as req};

/// See `proto/consort/project/v1/project_service.proto`.
pub(crate) struct Projects(pub(crate) Arc<Context>);

impl Projects {
    async fn create(&self, request: wire::CreateProjectRequest) -> Result<wire::Project, Error> {
        let namespace = names::parent("parent", &request.parent)?;
        req::all([
            req::check_id(&request.request_id),
            req::maybe_name("project_id", &request.project_id),
            req::some_text("title", &request.title, 200, "give the project a name that people know it by"),
            req::text("created_by", &request.created_by, 200),
            req::labels(request.labels.clone()).map(drop),
        ])?;
        let request_id = req::id(&request)?;
        let create = CreateProject {
            namespace,
            id: (!request.project_id.is_empty()).then(|| request.project_id.as_str().into()),
            title: request.title,
            request: self.0.values.take_object("request", request.request).await?,
            labels: req::labels(request.labels)?,
            created_by: request.created_by,
            request_id,
        };
        Ok(convert::project_row(&self.0.engine.create_project(create).await?))
    }

    async fn get(&self, request: wire::GetProjectRequest) -> Result<wire::Project, Error> {
        let (namespace, id) = names::project("name", &request.name)?;
        Ok(convert::project(&self.0.engine.project(&namespace, &id).await?))
    }

    async fn list(&self, request: wire::ListProjectsRequest) -> Result<wire::ListProjectsResponse, Error> {
        let namespace = names::parent("parent", &request.parent)?;
        let state = state_filter(request.state)?;
        let size = paging::size(request.page_size, 50)?;
        let list = List::new("ListProjects", &[&namespace, &request.state.to_string()]);
        let before = list.place(&request.page_token)?.map(|place| paging::time_and_uuid(&place)).transpose()?;
        let query = ProjectQuery { namespace, state, before, limit: size as u32 + 1 };
        let rows = self.0.store().projects(&query).await.map_err(status::store)?;
        let place = |row: &ProjectRow| paging::from_time_and_uuid(row.created_at, row.uid);
        let (projects, next_page_token) = paging::page(&list, size, &rows, convert::project_row, place);
        Ok(wire::ListProjectsResponse { projects, next_page_token })
    }

    async fn complete(&self, request: wire::CompleteProjectRequest) -> Result<wire::Project, Error> {
        req::check_id(&request.request_id)?;
        let (namespace, id) = names::project("name", &request.name)?;
        Ok(convert::project_row(&self.0.engine.complete_project(&namespace, &id).await?))
    }

    async fn stop(&self, request: wire::StopProjectRequest) -> Result<wire::Project, Error> {
        req::check_id(&request.request_id)?;
        req::text("reason", &request.reason, 1_000)?;
        let (namespace, id) = names::project("name", &request.name)?;
        Ok(convert::project_row(&self.0.engine.stop_project(&namespace, &id, request.reason).await?))
    }
}

fn state_filter(number: i32) -> Result<Option<ProjectState>, Error> {
    let known = wire::ProjectState::try_from(number).map_err(|_| {
        Error::bad_field("state", format!("`{number}` is not a state; give a ProjectState, or nothing for all"))
    })?;
    Ok(match known {
        wire::ProjectState::Unspecified => None,
        wire::ProjectState::Active => Some(ProjectState::Active),
        wire::ProjectState::Completed => Some(ProjectState::Completed),
        wire::ProjectState::Stopped => Some(ProjectState::Stopped),
    })
}

#[tonic::async_trait]
impl ProjectService for Projects {
    async fn create_project(
        &self,
        request: Request<wire::CreateProjectRequest>,
    ) -> Result<Response<wire::Project>, Status> {
        answer(self.create(request.into_inner()).await)
    }

    async fn get_project(&self, request: Request<wire::GetProjectRequest>) -> Result<Response<wire::Project>, Status> {
        answer(self.get(request.into_inner()).await)
    }

    async fn list_projects(
        &self,
        request: Request<wire::ListProjectsRequest>,
    ) -> Result<Response<wire::ListProjectsResponse>, Status> {
        answer(self.list(request.into_inner()).await)
    }

    async fn complete_project(
        &self,
        request: Request<wire::CompleteProjectRequest>,
    ) -> Result<Response<wire::Project>, Status> {
        answer(self.complete(request.into_inner()).await)
    }

    async fn stop_project(
        &self,
        request: Request<wire::StopProjectRequest>,
    ) -> Result<Response<wire::Project>, Status> {
        answer(self.stop(request.into_inner()).await)
    }
}
