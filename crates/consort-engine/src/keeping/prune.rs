//! Pruning by a policy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use consort_core::Error;
use consort_core::ids::{Millis, RunId};
use consort_core::keep::{KeepStore, Selection};
use consort_core::ports::{ProjectState, RunQuery, RunRow, Store};
use consort_core::run::RunState;
use uuid::Uuid;

use super::floor::Floor;
use super::{Policy, Pruned, keep_error};
use crate::ledger::Message;
use crate::{Engine, store_error};

/// Runs that are read at a time.
const PAGE: u32 = 256;
/// Events of runs in one archive, and published events in one archive.
const EVENTS: u64 = 200_000;
/// Runs in one archive: they are left alone until it is written and they are gone.
const RUNS: usize = 2_000;
/// Runs of one family that can go together.
const FAMILY: usize = 100_000;
/// Other things of one archive.
const OTHERS: u32 = 5_000;
/// How long a blob that nothing refers to is kept: its upload comes before its use.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

const OVER: [RunState; 3] = [RunState::Succeeded, RunState::Failed, RunState::Cancelled];

/// What is due, until it is enough for an archive.
#[derive(Default)]
struct Due {
    /// Each family from its leaves to its root, with the number of each run's last event.
    families: Vec<Vec<(RunId, u64)>>,
    runs: usize,
    events: u64,
}

struct Pruning<'a> {
    engine: &'a Engine,
    store: &'a Arc<dyn Store>,
    keep: &'a Arc<dyn KeepStore>,
    policy: &'a Policy,
    dry_run: bool,
    floor: Floor,
    now: Millis,
    /// Whether projects are active, as far as they were looked at.
    active: HashMap<(Arc<str>, Arc<str>), bool>,
    pruned: Pruned,
}

impl Engine {
    /// Archives what a policy lets go, takes it out, and says what it was. `dry_run` only counts. One at a time; a caller who
    /// stops waiting stops it after the archive that is under way.
    pub async fn prune(&self, policy: &Policy, dry_run: bool) -> Result<Pruned, Error> {
        let (store, keep) = (&self.inner.store, self.keeper()?);
        let Ok(_one) = self.inner.pruning.try_lock() else {
            return Err(Error::precondition("KEEPER_BUSY", "another prune is under way; try again when it is done"));
        };
        let floor = Floor::find(store, keep).await?;
        let (active, pruned) = (HashMap::new(), Pruned::default());
        let mut pruning =
            Pruning { engine: self, store, keep, policy, dry_run, floor, now: self.now(), active, pruned };
        match &policy.namespace {
            _ if policy.older_than.is_none() && policy.keep_last == 0 => {}
            Some(namespace) => pruning.runs(namespace.clone()).await?,
            None => {
                let mut namespace: Arc<str> = Arc::from("");
                while let Some(next) = keep.next_namespace(&namespace).await.map_err(|e| store_error(&e))? {
                    namespace = next;
                    pruning.runs(namespace.clone()).await?;
                }
            }
        }
        if let Some(age) = policy.others_older_than {
            let before = pruning.before(age);
            pruning.events(before).await?;
            pruning.others(before).await?;
        }
        if policy.blobs && !dry_run {
            let collected = keep.collect_blobs(pruning.before(GRACE)).await.map_err(|e| store_error(&e))?;
            (pruning.pruned.blobs, pruning.pruned.blob_bytes) = (collected.blobs, collected.bytes);
        }
        Ok(pruning.pruned)
    }
}

impl Pruning<'_> {
    fn before(&self, age: Duration) -> Millis {
        self.now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
    }

    /// Goes through the finished runs of a namespace, the newest first.
    async fn runs(&mut self, namespace: Arc<str>) -> Result<(), Error> {
        let ended_before = self.policy.older_than.map(|age| self.before(age));
        // What ended before a time began before it, but to count the newest ones all must be seen.
        let begin = ended_before.filter(|_| self.policy.keep_last == 0).map(|at| (at, RunId(Uuid::max())));
        let mut query =
            RunQuery { namespace, workflow: None, states: OVER.to_vec(), project: None, before: begin, limit: PAGE };
        let mut newer: HashMap<Arc<str>, u32> = HashMap::new();
        let mut due = Due::default();
        loop {
            let page = self.store.runs(&query).await.map_err(|e| store_error(&e))?;
            let Some(last) = page.last() else { break };
            query.before = Some((last.created_at, last.id));
            for row in page.iter().filter(|row| row.parent.is_none()) {
                let count = newer.entry(row.workflow.clone()).or_default();
                *count = count.saturating_add(1);
                let old = row.ended_at.is_some_and(|at| ended_before.is_none_or(|before| at < before));
                let failed = row.state == RunState::Failed && self.policy.keep_failed;
                if *count <= self.policy.keep_last || !old || failed {
                    continue;
                }
                self.family(row, &mut due).await?;
                if due.runs >= RUNS || due.events >= EVENTS {
                    self.archive_runs(std::mem::take(&mut due)).await?;
                }
            }
        }
        self.archive_runs(due).await
    }

    /// Adds a finished run and its descendants, if all of them can go.
    async fn family(&mut self, root: &RunRow, due: &mut Due) -> Result<(), Error> {
        let mut found: Vec<(RunId, u64)> = Vec::new();
        let mut open = vec![root.clone()];
        let mut held = self.is_active(root).await?;
        while let Some(row) = open.pop().filter(|_| !held) {
            held = !row.state.is_over() || found.len() >= FAMILY || !self.was_seen(&row).await?;
            found.push((row.id, row.sequence));
            let mut after = None;
            loop {
                let children = self.keep.children(row.id, after, PAGE).await.map_err(|e| store_error(&e))?;
                let Some(last) = children.last() else { break };
                after = Some(*last);
                for child in children {
                    open.extend(self.store.run(child).await.map_err(|e| store_error(&e))?);
                }
            }
        }
        if held {
            self.pruned.runs_held += 1;
            return Ok(());
        }
        // Parents were found before their children.
        found.reverse();
        due.runs += found.len();
        due.events += found.iter().map(|(_, sequence)| sequence).sum::<u64>();
        due.families.push(found);
        Ok(())
    }

    /// Whether everybody has seen all events of a run.
    async fn was_seen(&self, row: &RunRow) -> Result<bool, Error> {
        if self.floor.runs.contains(&row.id) || row.sequence == 0 {
            return Ok(false);
        }
        let last = self.store.records_after(row.id, row.sequence - 1, 1).await.map_err(|e| store_error(&e))?;
        let Some(record) = last.first() else { return Ok(false) };
        let placed = self.keep.rows_of(row.id, record.sequence - 1, 1).await.map_err(|e| store_error(&e))?;
        Ok(placed.first().is_some_and(|(position, _)| *position <= self.floor.until))
    }

    /// Whether a run belongs to a project whose figures count it.
    async fn is_active(&mut self, row: &RunRow) -> Result<bool, Error> {
        let Some(project) = &row.project else { return Ok(false) };
        let name = (row.namespace.clone(), project.clone());
        if let Some(known) = self.active.get(&name) {
            return Ok(*known);
        }
        let found = self.store.project(&name.0, &name.1).await.map_err(|e| store_error(&e))?;
        let active = found.is_some_and(|row| row.state == ProjectState::Active);
        if self.active.len() >= RUNS {
            self.active.clear();
        }
        self.active.insert(name, active);
        Ok(active)
    }

    async fn archive_runs(&mut self, due: Due) -> Result<(), Error> {
        if due.families.is_empty() {
            return Ok(());
        }
        if self.dry_run {
            self.pruned.runs += due.runs as u64;
            return Ok(());
        }
        let runs: Vec<RunId> = due.families.iter().flatten().map(|(run, _)| *run).collect();
        let left = Left { engine: self.engine.clone(), runs: runs.clone() };
        let used = self.engine.ask(|reply| Message::Leave { runs, reply }).await?;
        let mut selection = Selection::default();
        for family in due.families {
            // Since they were found they may have been retried, before they were left alone.
            let mut same = !family.iter().any(|(run, _)| used.contains(run));
            for (run, sequence) in &family {
                if !same {
                    break;
                }
                let row = self.store.run(*run).await.map_err(|e| store_error(&e))?;
                same = row.is_some_and(|row| row.state.is_over() && row.sequence == *sequence);
            }
            if same {
                selection.runs.extend(family.into_iter().map(|(run, _)| run));
            } else {
                self.pruned.runs_held += 1;
            }
        }
        self.pruned.runs += selection.runs.len() as u64;
        self.put_away(selection, Some(left)).await
    }

    async fn events(&mut self, before: Millis) -> Result<(), Error> {
        let mut after = 0;
        let mut selection = Selection::default();
        loop {
            let found = self.keep.published(after, self.floor.until, before, OTHERS).await;
            let found = found.map_err(|e| store_error(&e))?;
            let Some((last, _)) = found.last() else { break };
            after = *last;
            let (floor, policy) = (&self.floor, self.policy);
            let of = |namespace: &Arc<str>| policy.namespace.as_ref().is_none_or(|wanted| wanted == namespace);
            let due =
                found.into_iter().filter(|(position, event)| !floor.places.contains(position) && of(&event.namespace));
            selection.events.extend(due.map(|(position, _)| position));
            if selection.events.len() as u64 >= EVENTS {
                self.pruned.events += selection.events.len() as u64;
                self.put_away(std::mem::take(&mut selection), None).await?;
            }
        }
        self.pruned.events += selection.events.len() as u64;
        self.put_away(selection, None).await
    }

    async fn others(&mut self, before: Millis) -> Result<(), Error> {
        loop {
            let aged = self.keep.aged(before, OTHERS).await.map_err(|e| store_error(&e))?;
            let of = |namespace: &Arc<str>| self.policy.namespace.as_ref().is_none_or(|wanted| wanted == namespace);
            let selection = Selection {
                signals: aged.signals.into_iter().filter(|row| of(&row.namespace)).map(|row| row.id).collect(),
                letters: aged.letters.into_iter().filter(|l| of(&l.namespace)).map(|l| (l.namespace, l.id)).collect(),
                projects: aged.projects.into_iter().filter(|p| of(&p.namespace)).map(|p| (p.namespace, p.id)).collect(),
                ..Selection::default()
            };
            self.pruned.signals += selection.signals.len() as u64;
            self.pruned.letters += selection.letters.len() as u64;
            self.pruned.projects += selection.projects.len() as u64;
            if selection.is_empty() || self.dry_run {
                return Ok(());
            }
            self.put_away(selection, None).await?;
        }
    }

    /// Archives, and only then takes out. What is begun is done to its end, even if the caller stops waiting.
    async fn put_away(&mut self, selection: Selection, left: Option<Left>) -> Result<(), Error> {
        if selection.is_empty() || self.dry_run {
            return Ok(());
        }
        let keep = Arc::clone(self.keep);
        let work = async move {
            let _left = left;
            let archive = keep.archive(&selection).await.map_err(|error| keep_error(&error))?;
            keep.remove(&selection).await.map_err(|error| store_error(&error))?;
            Ok::<_, Error>(archive)
        };
        let done = tokio::spawn(work).await.map_err(|why| Error::internal(format!("archiving stopped: {why}")))?;
        self.pruned.archives.push(done?);
        Ok(())
    }
}

/// Tells the ledger, whatever happens, that runs need not be left alone any more.
struct Left {
    engine: Engine,
    runs: Vec<RunId>,
}

impl Drop for Left {
    fn drop(&mut self) {
        self.engine.tell_later(Message::Left { runs: std::mem::take(&mut self.runs) });
    }
}
