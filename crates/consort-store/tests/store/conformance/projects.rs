use consort_core::ports::{Batch, ProjectQuery, ProjectRow, ProjectState, RunRow, Store};
use consort_core::run::RunState;

use crate::build::{begin, closed, commit, project, run_id, run_row, update};

async fn create(store: &dyn Store, new_projects: Vec<ProjectRow>) {
    commit(store, Batch { new_projects, ..Batch::default() }).await.unwrap();
}

async fn change(store: &dyn Store, projects: Vec<ProjectRow>) {
    commit(store, Batch { projects, ..Batch::default() }).await.unwrap();
}

pub(super) async fn a_project_comes_back_and_is_replaced(store: &dyn Store) {
    assert_eq!(store.project("default", "oil").await.unwrap(), None);
    let (first, elsewhere) = (project("oil", 1), ProjectRow { namespace: "other".into(), ..project("oil", 2) });
    create(store, vec![first.clone(), elsewhere.clone()]).await;
    assert_eq!(store.project("default", "oil").await.unwrap(), Some(first.clone()));
    assert_eq!(store.project("other", "oil").await.unwrap(), Some(elsewhere.clone()));
    assert_eq!(store.project("other", "gas").await.unwrap(), None);

    // The last change of a batch counts, and one comes after the creation in the same batch.
    let stopped = closed(first.clone(), ProjectState::Stopped);
    change(store, vec![stopped.clone(), first.clone(), stopped.clone()]).await;
    assert_eq!(store.project("default", "oil").await.unwrap(), Some(stopped));
    let gas = closed(project("gas", 3), ProjectState::Completed);
    let batch = Batch { new_projects: vec![project("gas", 3)], projects: vec![gas.clone()], ..Batch::default() };
    commit(store, batch).await.unwrap();
    assert_eq!(store.project("default", "gas").await.unwrap(), Some(gas));
    assert_eq!(store.project("other", "oil").await.unwrap(), Some(elsewhere));
    // One that is not there yet is there afterwards.
    change(store, vec![project("coal", 4)]).await;
    assert_eq!(store.project("default", "coal").await.unwrap(), Some(project("coal", 4)));
}

pub(super) async fn projects_are_paged_and_filtered(store: &dyn Store) {
    use ProjectState::{Active, Completed, Stopped};
    // Two began in the same millisecond: their uids decide.
    let row = |number: u64| ProjectRow {
        created_at: 3_000 + (number / 2) as i64,
        ..project(&format!("p{}", 9 - number), number)
    };
    create(store, [3, 1, 2, 5, 4].map(row).to_vec()).await;
    create(store, vec![ProjectRow { namespace: "other".into(), ..project("p", 6) }]).await;
    change(store, vec![closed(row(4), Completed), closed(row(2), Stopped)]).await;
    let listed = async |state, before: Option<u64>, limit| -> Vec<u64> {
        let before = before.map(row).map(|row| (row.created_at, row.uid));
        let query = ProjectQuery { namespace: "default".into(), state, before, limit };
        store.projects(&query).await.unwrap().into_iter().map(|row| row.uid.as_u64_pair().1).collect()
    };
    assert_eq!(listed(None, None, 10).await, [5, 4, 3, 2, 1]);
    assert_eq!(listed(None, None, 2).await, [5, 4]);
    assert_eq!(listed(None, Some(5), 2).await, [4, 3]);
    assert_eq!(listed(None, Some(3), 10).await, [2, 1]);
    assert_eq!(listed(None, Some(1), 10).await, [0; 0]);
    assert_eq!(listed(Some(Active), None, 10).await, [5, 3, 1]);
    assert_eq!(listed(Some(Active), Some(5), 1).await, [3]);
    assert_eq!(listed(Some(Completed), None, 10).await, [4]);
    assert_eq!(listed(Some(Stopped), Some(3), 10).await, [2]);
}

pub(super) async fn runs_of_a_project_are_counted_by_state(store: &dyn Store) {
    use RunState::{Failed, Pending, Running, Succeeded};
    let of = |project: &str, number| RunRow { project: Some(project.into()), ..run_row(number) };
    for number in 1..=5 {
        begin(store, of("oil", number)).await;
    }
    begin(store, of("gas", 6)).await;
    begin(store, run_row(7)).await;
    begin(store, RunRow { namespace: "other".into(), ..of("oil", 8) }).await;
    begin(store, RunRow { state: Pending, ..of("oil", 9) }).await;
    let counts = async |namespace, project| {
        let mut counts = store.run_counts(namespace, project).await.unwrap();
        counts.sort_by_key(|(state, _)| *state as u8);
        counts
    };
    assert_eq!(counts("default", "oil").await, [(Pending, 1), (Running, 5)]);
    let updated = vec![update(1, Succeeded, None), update(2, Failed, None), update(9, Succeeded, None)];
    commit(store, Batch { updated, ..Batch::default() }).await.unwrap();
    assert_eq!(counts("default", "oil").await, [(Running, 3), (Succeeded, 2), (Failed, 1)]);
    assert_eq!(counts("default", "gas").await, [(Running, 1)]);
    assert_eq!(counts("other", "oil").await, [(Running, 1)]);
    assert_eq!(counts("other", "gas").await, []);
    // A change of a run leaves its project as it is.
    assert_eq!(store.run(run_id(2)).await.unwrap().unwrap().project.as_deref(), Some("oil"));
}
