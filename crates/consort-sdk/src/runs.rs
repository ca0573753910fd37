//! Lists of runs and schedules.

use consort_proto::orchestrator::{ListRunsRequest, ListSchedulesRequest, Run, RunState, Schedule};

use crate::client::Client;
use crate::error::Error;

/// Which runs are listed; every set field must match.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Only runs of this workflow.
    pub workflow: Option<String>,
    /// Only runs of this project.
    pub project: Option<String>,
    /// Only runs in one of these states; empty means in any.
    pub states: Vec<RunState>,
}

impl Client {
    /// The newest runs that match, at most `limit` of them, without their steps.
    pub async fn list_runs(&self, filter: RunFilter, limit: usize) -> Result<Vec<Run>, Error> {
        let name = |collection, it: Option<String>| it.map(|it| self.name(collection, &it)).unwrap_or_default();
        let request = ListRunsRequest {
            parent: self.parent(),
            workflow: name("workflows", filter.workflow),
            project: name("projects", filter.project),
            states: filter.states.into_iter().map(Into::into).collect(),
            ..Default::default()
        };
        self.pages(limit, |client, page_size, page_token| {
            let request = ListRunsRequest { page_size, page_token, ..request.clone() };
            async move {
                let page = client
                    .call(request, |client, request| async move { client.orchestrator().list_runs(request).await })
                    .await?;
                Ok((page.runs, page.next_page_token))
            }
        })
        .await
    }

    /// The schedules of the newest revisions of the namespace's workflows, by workflow, at most `limit` of them.
    pub async fn list_schedules(&self, limit: usize) -> Result<Vec<Schedule>, Error> {
        self.pages(limit, |client, page_size, page_token| {
            let request = ListSchedulesRequest { parent: client.parent(), page_size, page_token };
            async move {
                let page = client
                    .call(request, |client, request| async move { client.orchestrator().list_schedules(request).await })
                    .await?;
                Ok((page.schedules, page.next_page_token))
            }
        })
        .await
    }
}
