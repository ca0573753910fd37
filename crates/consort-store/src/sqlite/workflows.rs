//! Definitions. A workflow is deleted while its newest revision is marked so.

use async_trait::async_trait;
use consort_core::ports::{StoreError, WorkflowRow, WorkflowStore};

use rusqlite::{Connection, params};

use super::SqliteStore;
use super::rows::{self, failed, workflow_columns};
use super::runs::read;
use super::writer::cached;

#[async_trait]
impl WorkflowStore for SqliteStore {
    async fn apply(&self, row: &WorkflowRow) -> Result<WorkflowRow, StoreError> {
        let insert = "INSERT INTO workflows (namespace, id, revision, source, digest, created_at, created_by, triggers) \
            SELECT ?1, ?2, \
                coalesce((SELECT max(revision) FROM workflows WHERE namespace = ?1 AND id = ?2), 0) + 1, ?3, ?4, ?5, ?6, ?7 \
            WHERE NOT EXISTS (SELECT 1 FROM workflows WHERE namespace = ?1 AND id = ?2 AND digest = ?4 AND deleted = 0 \
                AND revision = (SELECT max(revision) FROM workflows WHERE namespace = ?1 AND id = ?2))";
        let new = row.clone();
        let insert = move |connection: &Connection| {
            let row =
                params![new.namespace, new.id, new.source, new.digest, new.created_at, new.created_by, new.triggers];
            cached(connection, insert)?.execute(row)?;
            let newest = "SELECT max(revision) FROM workflows WHERE namespace = ?1 AND id = ?2";
            cached(connection, newest)?.query_row([&new.namespace, &new.id], |row| row.get::<_, i64>(0))
        };
        let revision = self.writer.transaction(insert).await? as u64;
        let stored = self.workflow(&row.namespace, &row.id, Some(revision)).await?;
        stored.ok_or_else(|| StoreError::Corrupt("an applied workflow is not there".into()))
    }

    async fn workflow(
        &self,
        namespace: &str,
        id: &str,
        revision: Option<u64>,
    ) -> Result<Option<WorkflowRow>, StoreError> {
        let query = match revision {
            Some(revision) => sqlx::query(concat!(
                "SELECT ",
                workflow_columns!(),
                " FROM workflows WHERE namespace = ?1 AND id = ?2 AND revision = ?3"
            ))
            .bind(namespace)
            .bind(id)
            .bind(i64::try_from(revision).unwrap_or(i64::MAX)),
            None => sqlx::query(concat!(
                "SELECT ",
                workflow_columns!(),
                " FROM workflows WHERE namespace = ?1 AND id = ?2 AND deleted = 0 \
                 AND revision = (SELECT max(revision) FROM workflows WHERE namespace = ?1 AND id = ?2)"
            ))
            .bind(namespace)
            .bind(id),
        };
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        row.map(|row| rows::workflow(&row)).transpose()
    }

    async fn workflows(&self, namespace: &str, after: &str, limit: u32) -> Result<Vec<WorkflowRow>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            workflow_columns!(),
            " FROM workflows AS w WHERE namespace = ?1 AND id > ?2 AND deleted = 0 AND revision = \
             (SELECT max(revision) FROM workflows WHERE namespace = ?1 AND id = w.id) ORDER BY id LIMIT ?3"
        ));
        let query = query.bind(namespace).bind(after).bind(i64::from(limit));
        read(&query.fetch_all(&self.readers).await.map_err(failed)?, rows::workflow)
    }

    async fn revisions(
        &self,
        namespace: &str,
        id: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<WorkflowRow>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            workflow_columns!(),
            " FROM workflows WHERE namespace = ?1 AND id = ?2 AND revision < ?3 ORDER BY revision DESC LIMIT ?4"
        ));
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let query = query.bind(namespace).bind(id).bind(before).bind(i64::from(limit));
        read(&query.fetch_all(&self.readers).await.map_err(failed)?, rows::workflow)
    }

    async fn triggered(&self, after: (&str, &str), limit: u32) -> Result<Vec<WorkflowRow>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            workflow_columns!(),
            " FROM workflows AS w WHERE triggers = 1 AND (namespace, id) > (?1, ?2) AND deleted = 0 AND revision = \
             (SELECT max(revision) FROM workflows WHERE namespace = w.namespace AND id = w.id) \
             ORDER BY namespace, id LIMIT ?3"
        ));
        let query = query.bind(after.0).bind(after.1).bind(i64::from(limit));
        read(&query.fetch_all(&self.readers).await.map_err(failed)?, rows::workflow)
    }

    async fn delete(&self, namespace: &str, id: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE workflows SET deleted = 1 WHERE namespace = ?1 AND id = ?2 AND deleted = 0 \
            AND revision = (SELECT max(revision) FROM workflows WHERE namespace = ?1 AND id = ?2)";
        let names = [namespace.to_owned(), id.to_owned()];
        let delete = move |connection: &Connection| cached(connection, sql)?.execute(names);
        Ok(self.writer.transaction(delete).await? > 0)
    }
}
