use consort_core::ports::{Batch, DecisionKind, DecisionQuery, DecisionRow, DecisionState, Store};

use crate::build::{commit, decision, run_id};

fn all() -> DecisionQuery {
    let namespace = "default".into();
    DecisionQuery { namespace, run: None, state: None, kind: None, project: None, before: None, limit: 10 }
}

async fn numbers(store: &dyn Store, query: &DecisionQuery) -> Vec<u64> {
    store.decisions(query).await.unwrap().into_iter().map(|row| row.id.as_u64_pair().1).collect()
}

async fn decide(store: &dyn Store, decisions: Vec<DecisionRow>) {
    commit(store, Batch { decisions, ..Batch::default() }).await.unwrap();
}

pub(super) async fn a_decision_is_replaced_by_its_newest_row(store: &dyn Store) {
    let (open, answered) = (decision(1, 1, DecisionState::Open), decision(1, 1, DecisionState::Answered));
    decide(store, vec![open.clone()]).await;
    assert_eq!(store.decision(open.id).await.unwrap(), Some(open.clone()));
    decide(store, vec![open.clone(), answered.clone()]).await;
    assert_eq!(store.decision(open.id).await.unwrap(), Some(answered));
}

pub(super) async fn decisions_are_paged_and_filtered(store: &dyn Store) {
    use DecisionState::{Answered, Cancelled, Expired, Open};
    let rows = [(1, 1, Open), (2, 1, Answered), (3, 2, Open), (4, 2, Expired), (5, 1, Cancelled), (6, 1, Open)];
    decide(store, rows.map(|(number, run, state)| decision(number, run, state)).to_vec()).await;
    decide(store, vec![DecisionRow { namespace: "other".into(), ..decision(7, 1, Open) }]).await;
    let listed = async |run: Option<u64>, state, before: Option<u64>, limit| -> Vec<u64> {
        let before = before.map(|number| decision(number, 1, Open)).map(|row| (row.created_at, row.id));
        numbers(store, &DecisionQuery { run: run.map(run_id), state, before, limit, ..all() }).await
    };
    assert_eq!(listed(None, None, None, 10).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(listed(None, None, Some(4), 2).await, [3, 2]);
    assert_eq!(listed(None, Some(Open), None, 10).await, [6, 3, 1]);
    assert_eq!(listed(None, Some(Open), Some(6), 1).await, [3]);
    assert_eq!(listed(Some(1), None, None, 10).await, [6, 5, 2, 1]);
    assert_eq!(listed(Some(2), Some(Expired), None, 10).await, [4]);
    assert_eq!(listed(Some(3), None, None, 10).await, [0; 0]);
}

pub(super) async fn decisions_are_filtered_by_kind_and_project(store: &dyn Store) {
    use DecisionKind::{Choice, Clarification};
    use DecisionState::{Answered, Open};
    let rows = [
        (1, 1, Open, Choice, Some("oil")),
        (2, 1, Open, Clarification, Some("oil")),
        (3, 2, Answered, Clarification, None),
        (4, 2, Open, Clarification, Some("gas")),
        (5, 1, Answered, Clarification, Some("oil")),
    ];
    let row = |(number, run, state, kind, project): (u64, u64, DecisionState, DecisionKind, Option<&str>)| {
        DecisionRow { kind, project: project.map(Into::into), ..decision(number, run, state) }
    };
    decide(store, rows.map(row).to_vec()).await;
    decide(store, vec![DecisionRow { namespace: "other".into(), ..row((6, 1, Open, Clarification, Some("oil"))) }])
        .await;
    let stored = row(rows[1]);
    assert_eq!(store.decision(stored.id).await.unwrap(), Some(stored));
    let of = |kind, project: Option<&str>| DecisionQuery { kind, project: project.map(Into::into), ..all() };
    assert_eq!(numbers(store, &of(None, None)).await, [5, 4, 3, 2, 1]);
    assert_eq!(numbers(store, &of(Some(Clarification), None)).await, [5, 4, 3, 2]);
    assert_eq!(numbers(store, &of(Some(Choice), None)).await, [1]);
    assert_eq!(numbers(store, &of(None, Some("oil"))).await, [5, 2, 1]);
    assert_eq!(numbers(store, &of(Some(Clarification), Some("oil"))).await, [5, 2]);
    assert_eq!(numbers(store, &of(None, Some("coal"))).await, [0; 0]);
    let open = DecisionQuery { state: Some(Open), ..of(Some(Clarification), None) };
    assert_eq!(numbers(store, &open).await, [4, 2]);
    assert_eq!(numbers(store, &DecisionQuery { run: Some(run_id(1)), ..open.clone() }).await, [2]);
    let fourth = decision(4, 2, Open);
    assert_eq!(numbers(store, &DecisionQuery { before: Some((fourth.created_at, fourth.id)), ..open }).await, [2]);
    // A row that is replaced moves along.
    decide(store, vec![row((4, 2, Answered, Choice, Some("oil")))]).await;
    assert_eq!(numbers(store, &of(Some(Choice), Some("oil"))).await, [4, 1]);
    assert_eq!(numbers(store, &of(None, Some("gas"))).await, [0; 0]);
}
