//! Reading projects and signals.

use async_trait::async_trait;
use consort_core::ports::{ProjectQuery, ProjectRow, ProjectStore, SignalQuery, SignalRow, StoreError};
use consort_core::run::RunState;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use super::SqliteStore;
use super::rows::{self, failed, get, number};
use super::runs::read;
use super::tables::project_state_name;

#[async_trait]
impl ProjectStore for SqliteStore {
    async fn project(&self, namespace: &str, id: &str) -> Result<Option<ProjectRow>, StoreError> {
        let query = sqlx::query("SELECT body FROM projects WHERE namespace = ?1 AND id = ?2");
        let row = query.bind(namespace).bind(id).fetch_optional(&self.readers).await.map_err(failed)?;
        row.map(|row| project(&row)).transpose()
    }

    async fn projects(&self, query: &ProjectQuery) -> Result<Vec<ProjectRow>, StoreError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT body FROM projects WHERE namespace = ");
        sql.push_bind(query.namespace.clone());
        if let Some(state) = query.state {
            sql.push(" AND state = ").push_bind(project_state_name(state));
        }
        if let Some((created_at, uid)) = query.before {
            sql.push(" AND (created_at, uid) < (").push_bind(created_at).push(", ");
            sql.push_bind(uid.into_bytes().to_vec()).push(")");
        }
        sql.push(" ORDER BY created_at DESC, uid DESC LIMIT ").push_bind(i64::from(query.limit));
        read(&sql.build().fetch_all(&self.readers).await.map_err(failed)?, project)
    }

    async fn run_counts(&self, namespace: &str, project: &str) -> Result<Vec<(RunState, u64)>, StoreError> {
        // Reads nothing but the index `runs_of_project_by_state`.
        let query = sqlx::query(
            "SELECT state, count(*) FROM runs WHERE namespace = ?1 AND project = ?2 GROUP BY state ORDER BY state",
        );
        let found = query.bind(namespace).bind(project).fetch_all(&self.readers).await.map_err(failed)?;
        read(&found, |row| Ok((rows::run_state(row, 0)?, number(row, 1)?)))
    }

    async fn signal(&self, id: Uuid) -> Result<Option<SignalRow>, StoreError> {
        let query = sqlx::query("SELECT body FROM signals WHERE id = ?1");
        let row = query.bind(id.as_bytes().as_slice()).fetch_optional(&self.readers).await.map_err(failed)?;
        row.map(|row| signal(&row)).transpose()
    }

    async fn signals(&self, query: &SignalQuery) -> Result<Vec<SignalRow>, StoreError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT body FROM signals WHERE namespace = ");
        sql.push_bind(query.namespace.clone());
        if let Some(kind) = &query.kind {
            sql.push(" AND type = ").push_bind(kind.clone());
        }
        if let Some(project) = &query.project {
            sql.push(" AND project = ").push_bind(project.clone());
        }
        if let Some((created_at, id)) = query.before {
            sql.push(" AND (created_at, id) < (").push_bind(created_at).push(", ");
            sql.push_bind(id.into_bytes().to_vec()).push(")");
        }
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(i64::from(query.limit));
        read(&sql.build().fetch_all(&self.readers).await.map_err(failed)?, signal)
    }
}

fn project(row: &SqliteRow) -> Result<ProjectRow, StoreError> {
    rows::json("a project", get(row, 0)?)
}

fn signal(row: &SqliteRow) -> Result<SignalRow, StoreError> {
    rows::json("a signal", get(row, 0)?)
}
