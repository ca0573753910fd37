//! Projects: pieces of work that many runs belong to.

use std::collections::HashMap;

use consort_proto::project::{
    CompleteProjectRequest, CreateProjectRequest, GetProjectRequest, ListProjectsRequest, Project, ProjectState,
    StopProjectRequest,
};
use serde::Serialize;

use crate::client::{Client, fresh_id};
use crate::error::Error;

/// How a project is created.
#[derive(Clone, Debug, Default)]
pub struct ProjectOptions {
    /// Its id: 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`; absent means that the mesh chooses one.
    pub id: Option<String>,
    /// Free labels: at most 32, keys of at most 63 and values of at most 255 characters.
    pub labels: HashMap<String, String>,
    /// Who creates it, for the record; at most 200 characters.
    pub created_by: String,
    /// Makes the call idempotent for 24 hours; absent means a fresh one.
    pub request_id: Option<String>,
}

impl Client {
    /// Creates a project with a title of 1 to 200 characters and what is asked for, any value that serialises to a JSON object.
    /// ALREADY_EXISTS if the id is taken. Runs join it by [`StartOptions::project`](crate::StartOptions::project).
    pub async fn create_project(
        &self,
        title: &str,
        request: &impl Serialize,
        options: ProjectOptions,
    ) -> Result<Project, Error> {
        let asked = serde_json::to_string(request)
            .map_err(|source| Error::Json { what: "the request of the project", source })?;
        let request = CreateProjectRequest {
            parent: self.parent(),
            project_id: options.id.unwrap_or_default(),
            title: title.to_owned(),
            request: Some(self.pack(asked).await?),
            labels: options.labels,
            created_by: options.created_by,
            request_id: options.request_id.unwrap_or_else(fresh_id),
        };
        self.call(request, |client, request| async move { client.projects().create_project(request).await }).await
    }

    /// A project with its figures as they are now. NOT_FOUND if there is none.
    pub async fn get_project(&self, project: &str) -> Result<Project, Error> {
        let request = GetProjectRequest { name: self.name("projects", project) };
        self.call(request, |client, request| async move { client.projects().get_project(request).await }).await
    }

    /// The newest projects in a state (`Unspecified` means in any), at most `limit` of them, without figures.
    pub async fn list_projects(&self, state: ProjectState, limit: usize) -> Result<Vec<Project>, Error> {
        self.pages(limit, |client, page_size, page_token| {
            let request = ListProjectsRequest { parent: client.parent(), page_size, page_token, state: state.into() };
            async move {
                let page = client
                    .call(request, |client, request| async move { client.projects().list_projects(request).await })
                    .await?;
                Ok((page.projects, page.next_page_token))
            }
        })
        .await
    }

    /// Closes a project whose runs are all over; FAILED_PRECONDITION while one is not, or if the project was stopped.
    pub async fn complete_project(&self, project: &str) -> Result<Project, Error> {
        let request = CompleteProjectRequest { name: self.name("projects", project), request_id: fresh_id() };
        self.call(request, |client, request| async move { client.projects().complete_project(request).await }).await
    }

    /// Closes a project and cancels its live runs, which end within moments; FAILED_PRECONDITION if it was completed. The reason, of
    /// at most 1,000 characters, is for the record.
    pub async fn stop_project(&self, project: &str, reason: impl Into<String>) -> Result<Project, Error> {
        let name = self.name("projects", project);
        let request = StopProjectRequest { name, reason: reason.into(), request_id: fresh_id() };
        self.call(request, |client, request| async move { client.projects().stop_project(request).await }).await
    }
}
