use consort_core::ports::{Batch, DecisionQuery, DecisionRow, DecisionState, Store};

use crate::build::{commit, decision, run_id};

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
        let query = DecisionQuery { namespace: "default".into(), run: run.map(run_id), state, before, limit };
        store.decisions(&query).await.unwrap().into_iter().map(|row| row.id.as_u64_pair().1).collect()
    };
    assert_eq!(listed(None, None, None, 10).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(listed(None, None, Some(4), 2).await, [3, 2]);
    assert_eq!(listed(None, Some(Open), None, 10).await, [6, 3, 1]);
    assert_eq!(listed(None, Some(Open), Some(6), 1).await, [3]);
    assert_eq!(listed(Some(1), None, None, 10).await, [6, 5, 2, 1]);
    assert_eq!(listed(Some(2), Some(Expired), None, 10).await, [4]);
    assert_eq!(listed(Some(3), None, None, 10).await, [0; 0]);
}
