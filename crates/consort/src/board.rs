//! What a run's events say about its steps now: the fold behind the live view.

use std::collections::HashMap;

use consort_proto::agent::step_report;
use consort_proto::orchestrator::{RunEvent, StepProgress, StepState, StepStatus, run_event::Fact};

use crate::output::text;

/// A run at a glance.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// The steps in the order of the definition; items of a `for_each` count in their step.
    pub rows: Vec<Row>,
    /// The decision that is open, by name, with its question.
    pub open_decision: Option<Question>,
    index: HashMap<String, usize>,
}

/// A question that waits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    /// Name of the decision.
    pub name: String,
    /// The question.
    pub title: String,
    /// More about it.
    pub description: String,
    /// What can be chosen.
    pub options: Vec<String>,
    /// What the deadline chooses; may be empty.
    pub default_option: String,
}

/// A step at a glance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    /// Its id.
    pub step: String,
    /// Where it stands; a number of [`StepState`].
    pub state: i32,
    /// Who has or had it.
    pub worker: String,
    /// Attempt, from 1.
    pub attempt: i32,
    /// From 0 to 1.
    pub progress: f64,
    /// What it does, or why it stands still.
    pub text: String,
    /// When it was begun, in seconds since 1970.
    pub begun: Option<f64>,
    /// When it ended.
    pub ended: Option<f64>,
    /// Items of a `for_each`.
    pub items: i32,
    /// Items that are over.
    pub items_over: i32,
}

impl Row {
    /// Whether a worker has it.
    pub(crate) fn is_in_progress(&self) -> bool {
        self.state == StepState::InProgress as i32
    }

    /// How long it has taken, in words; empty before it began.
    pub(crate) fn took(&self) -> String {
        self.begun.map_or_else(String::new, |begun| text::span((self.ended.unwrap_or_else(text::now) - begun).max(0.0)))
    }
}

impl Board {
    /// A board with the steps of a run, before any event.
    pub(crate) fn new(steps: &[StepStatus]) -> Board {
        let mut board = Board::default();
        for step in steps.iter().filter(|step| !step.step.contains('[')) {
            board.row(&step.step);
        }
        board
    }

    /// Takes an event in; the id of the step whose state it changed, if any.
    pub(crate) fn apply(&mut self, event: &RunEvent) -> Option<String> {
        let at = event.time.as_ref().map_or_else(text::now, text::seconds);
        let fact = event.fact.as_ref()?;
        if event.step.is_empty() {
            self.apply_to_run(fact);
            return None;
        }
        let (id, is_item) = match event.step.split_once('[') {
            Some((id, _)) => (id, true),
            None => (event.step.as_str(), false),
        };
        match fact {
            Fact::DecisionRequested(asked) => {
                self.open_decision = Some(Question {
                    name: asked.decision.clone(),
                    title: asked.title.clone(),
                    description: asked.description.clone(),
                    options: asked.options.clone(),
                    default_option: asked.default_option.clone(),
                });
            }
            Fact::DecisionAnswered(_) => self.open_decision = None,
            _ => {}
        }
        let row = self.row(id);
        if is_item {
            return row.apply_item(fact, at).then(|| id.to_owned());
        }
        let before = (row.state, row.attempt);
        row.apply(fact, at);
        ((row.state, row.attempt) != before).then(|| id.to_owned())
    }

    /// Takes news of a step's progress in.
    pub(crate) fn progress(&mut self, news: &StepProgress) {
        let Some(progress) = &news.progress else { return };
        if news.step.contains('[') {
            return;
        }
        let row = self.row(&news.step);
        if row.is_in_progress() {
            row.progress = progress.fraction.clamp(0.0, 1.0);
            row.text = text::one_line(&progress.text, 60);
        }
    }

    /// The row of a step.
    pub(crate) fn find(&self, step: &str) -> Option<&Row> {
        self.index.get(step).map(|index| &self.rows[*index])
    }

    fn apply_to_run(&mut self, fact: &Fact) {
        match fact {
            Fact::RunCancelled(_) => {
                self.open_decision = None;
                for row in self.rows.iter_mut().filter(|row| !is_over(row.state)) {
                    row.state = StepState::Cancelled as i32;
                }
            }
            Fact::RunRetried(retried) => {
                for step in &retried.steps {
                    let id = step.split('[').next().unwrap_or(step).to_owned();
                    *self.row(&id) = Row { step: id.clone(), state: StepState::Created as i32, ..Row::default() };
                }
            }
            _ => {}
        }
    }

    fn row(&mut self, step: &str) -> &mut Row {
        let index = *self.index.entry(step.to_owned()).or_insert_with(|| {
            self.rows.push(Row { step: step.to_owned(), state: StepState::Created as i32, ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }
}

impl Row {
    fn apply(&mut self, fact: &Fact, at: f64) {
        match fact {
            Fact::StepScheduled(scheduled) => {
                self.attempt = scheduled.attempt;
                // Calls of models and of operations are the mesh's own work.
                let text = match scheduled.agent.strip_suffix("@mesh") {
                    Some(_) => "waits for the mesh".to_owned(),
                    None => format!("waits for a worker of {}", scheduled.agent),
                };
                self.enter(StepState::Ready, text);
            }
            Fact::StepLeased(leased) => {
                self.begun.get_or_insert(at);
                self.worker.clone_from(&leased.worker);
                self.progress = 0.0;
                self.enter(StepState::InProgress, String::new());
            }
            Fact::StepLeaseLost(lost) => self.enter(StepState::Blocked, format!("lease lost: {}", lost.reason)),
            Fact::StepReported(reported) => {
                if let Some(step_report::Kind::Log(line)) = reported.report.as_ref().and_then(|r| r.kind.as_ref()) {
                    self.text = text::one_line(&line.text, 60);
                }
            }
            Fact::StepRetryScheduled(retry) => {
                let why = retry.error.as_ref().map_or("", |error| error.message.as_str());
                self.enter(StepState::Blocked, format!("tries again: {}", text::one_line(why, 60)));
            }
            Fact::StepExpanded(expanded) => {
                self.begun.get_or_insert(at);
                self.items = expanded.items;
                self.enter(StepState::Blocked, format!("0 of {} items", expanded.items));
            }
            Fact::WaitStarted(wait) => {
                self.begun.get_or_insert(at);
                self.enter(StepState::Blocked, format!("waits until {}", text::time(wait.until.as_ref())));
            }
            Fact::DecisionRequested(asked) => {
                self.begun.get_or_insert(at);
                self.enter(StepState::Blocked, format!("waits for a person: {}", text::one_line(&asked.title, 60)));
            }
            Fact::DecisionAnswered(answered) => {
                self.text = format!("{} by {}", answered.option, answered.answered_by);
            }
            Fact::ChildStarted(child) => {
                self.begun.get_or_insert(at);
                self.enter(StepState::Blocked, format!("waits for run {}", text::id(&child.child)));
            }
            Fact::StepSucceeded(_) => {
                self.progress = 1.0;
                self.begun.get_or_insert(at);
                let kept = std::mem::take(&mut self.text);
                // What a person answered is worth keeping; what a worker was doing is not.
                self.enter(StepState::Done, if self.worker.is_empty() { kept } else { String::new() });
                self.ended = Some(at);
            }
            Fact::StepFailed(failed) => {
                let why = failed.error.as_ref().map_or("", |error| error.message.as_str());
                self.enter(StepState::Failed, text::one_line(why, 80));
                self.ended = Some(at);
            }
            Fact::StepSkipped(skipped) => self.enter(StepState::Skipped, skipped.reason.clone()),
            _ => {}
        }
    }

    /// An item of a `for_each` shows in the counts of its step; true when one is over.
    fn apply_item(&mut self, fact: &Fact, at: f64) -> bool {
        self.begun.get_or_insert(at);
        match fact {
            Fact::StepLeased(leased) => self.worker.clone_from(&leased.worker),
            Fact::StepSucceeded(_) | Fact::StepFailed(_) | Fact::StepSkipped(_) => {
                self.items_over += 1;
                self.progress = f64::from(self.items_over) / f64::from(self.items.max(1));
                self.text = format!("{} of {} items", self.items_over, self.items);
                return true;
            }
            _ => {}
        }
        false
    }

    fn enter(&mut self, state: StepState, text: String) {
        self.state = state as i32;
        self.text = text;
    }
}

fn is_over(state: i32) -> bool {
    use StepState::{Cancelled, Done, Failed, Skipped};
    [Done, Failed, Cancelled, Skipped].iter().any(|over| *over as i32 == state)
}

#[cfg(test)]
mod tests {
    use consort_proto::agent::Progress;
    use consort_proto::orchestrator::{
        DecisionAnswered, DecisionRequested, StepExpanded, StepLeased, StepScheduled, StepSucceeded,
    };
    use prost_types::Timestamp;

    use super::*;

    fn event(step: &str, second: i64, fact: Fact) -> RunEvent {
        let time = Some(Timestamp { seconds: second, nanos: 0 });
        RunEvent { step: step.into(), time, fact: Some(fact), ..RunEvent::default() }
    }

    #[test]
    fn a_step_goes_through_its_life() {
        let mut board = Board::new(&[StepStatus { step: "cost".into(), ..Default::default() }]);
        let scheduled = Fact::StepScheduled(StepScheduled { agent: "cost".into(), attempt: 1, input: None });
        assert_eq!(board.apply(&event("cost", 1, scheduled)).as_deref(), Some("cost"));
        assert_eq!(board.rows[0].text, "waits for a worker of cost");
        let call = Fact::StepScheduled(StepScheduled { agent: "call@mesh".into(), attempt: 1, input: None });
        board.apply(&event("log", 1, call));
        assert_eq!(board.rows[1].text, "waits for the mesh");
        board.apply(&event("cost", 2, Fact::StepLeased(StepLeased { worker: "w".into(), ..Default::default() })));
        let progress = Some(Progress { fraction: 0.5, text: "half".into() });
        board.progress(&StepProgress { step: "cost".into(), progress, time: None });
        assert!(board.rows[0].is_in_progress());
        assert_eq!((board.rows[0].progress, board.rows[0].text.as_str()), (0.5, "half"));
        board.apply(&event("cost", 5, Fact::StepSucceeded(StepSucceeded::default())));
        let row = board.find("cost").unwrap();
        assert_eq!((row.state, row.took().as_str(), row.worker.as_str()), (StepState::Done as i32, "3.0 s", "w"));
    }

    #[test]
    fn an_answer_closes_the_question() {
        let mut board = Board::default();
        let asked = DecisionRequested { decision: "d".into(), title: "Go?".into(), ..Default::default() };
        board.apply(&event("approve", 1, Fact::DecisionRequested(asked)));
        assert_eq!(board.open_decision.as_ref().unwrap().title, "Go?");
        let answered = DecisionAnswered { option: "yes".into(), answered_by: "me".into(), ..Default::default() };
        board.apply(&event("approve", 2, Fact::DecisionAnswered(answered)));
        board.apply(&event("approve", 2, Fact::StepSucceeded(StepSucceeded::default())));
        assert_eq!(board.open_decision, None);
        assert_eq!(board.rows[0].text, "yes by me");
    }

    #[test]
    fn items_count_in_their_step() {
        let mut board = Board::default();
        board.apply(&event("each", 1, Fact::StepExpanded(StepExpanded { items: 4, list: None })));
        board.apply(&event("each[2]", 2, Fact::StepSucceeded(StepSucceeded::default())));
        assert_eq!(board.rows.len(), 1);
        assert_eq!((board.rows[0].items_over, board.rows[0].progress), (1, 0.25));
        assert_eq!(board.rows[0].text, "1 of 4 items");
    }
}
