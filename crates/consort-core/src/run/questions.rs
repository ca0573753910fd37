//! Questions to people: decisions, and clarifications before and in the middle of a step.

use serde_json::{Value, json};
use uuid::Uuid;

use super::scope::RunScope;
use super::state::{Place, Run};
use super::{Context, MAX_QUESTIONS, Question, Transition};
use crate::data::Data;
use crate::error::{Error, Violation};
use crate::event::{Code, DecisionRequested, Fact, Failure};
use crate::ids::{Millis, StepKey};
use crate::ports::{DecisionKind, DecisionRow, DecisionState};
use crate::workflow::{Action, Decide, EvalError};

/// Who answers when the deadline passes.
pub(super) const DEADLINE: &str = "deadline";
/// Who answers when the step's `auto` chooses.
const RULE: &str = "rule";
/// Why a step failed whose question nobody answered.
const UNANSWERED: &str = "nobody answered before the deadline";

/// Whether a step failed because nobody answered its question.
pub(super) fn is_unanswered(error: &Failure) -> bool {
    error.code == Code::DeadlineExceeded as i32 && error.message == UNANSWERED
}

impl Run {
    /// The question of a definition, with its expressions evaluated.
    pub(super) fn question(
        decision: Uuid,
        decide: &Decide,
        scope: &RunScope<'_>,
        now: Millis,
    ) -> Result<DecisionRequested, EvalError> {
        Ok(DecisionRequested {
            decision,
            title: scope.string(&decide.title)?,
            description: decide.description.as_ref().map_or(Ok(String::new()), |d| scope.string(d))?,
            options: decide.options.clone(),
            form: decide.form.clone().map(Data::Inline),
            deadline: decide.deadline.map(|d| now.saturating_add(d.as_millis() as Millis)),
            default: decide.default.clone(),
        })
    }

    /// Puts a question on record; `auto` may answer it at once.
    pub(super) fn ask_choice(
        &mut self,
        place: Place,
        asked: DecisionRequested,
        auto: Option<String>,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let key = self.key(place);
        self.emit(Some(key.clone()), Fact::DecisionRequested(asked.clone()), cx, t)?;
        let asked = self.at(place).asked.as_deref().cloned().unwrap_or(asked);
        if let Some(option) = auto {
            return self.record_answer(place, &asked, option, None, RULE.into(), cx, t);
        }
        t.decisions.push(self.decision_row(&key, &asked, DecisionState::Open, cx));
        Ok(())
    }

    /// Puts a question about what a step shall do on record.
    pub(super) fn ask_for_clarification(
        &mut self,
        place: Place,
        question: DecisionRequested,
        token: Option<u64>,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let (key, attempt) = (self.key(place), self.at(place).attempt);
        let fact = Fact::ClarificationRequested { question: question.clone(), attempt, token };
        self.emit(Some(key.clone()), fact, cx, t)?;
        let asked = self.at(place).asked.as_deref().cloned().unwrap_or(question);
        t.decisions.push(self.decision_row(&key, &asked, DecisionState::Open, cx));
        Ok(())
    }

    /// A worker cannot go on without an answer.
    pub(super) fn ask_for_worker(
        &mut self,
        step: &StepKey,
        token: u64,
        question: Question,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let Some(place) = self.answered(step, token, t)? else { return Ok(()) };
        let number = self.at(place).questions + 1;
        if number > MAX_QUESTIONS {
            let text = format!("the step has asked {MAX_QUESTIONS} questions; it must do without more");
            let error = Failure::new(Code::ResourceExhausted, text);
            return self.fail_attempt(place, Some(token), error, false, None, cx, t);
        }
        let Question { title, description, options, form, deadline, default } = question;
        let asked = DecisionRequested {
            decision: self.id.clarification(step, number),
            title,
            description,
            options,
            form: form.map(Data::Inline),
            deadline: deadline.map(|d| cx.now.saturating_add(d.as_millis() as Millis)),
            default,
        };
        self.ask_for_clarification(place, asked, Some(token), cx, t)
    }

    #[allow(clippy::too_many_arguments)] // the fields of one command
    pub(super) fn answer(
        &mut self,
        step: &StepKey,
        decision: Uuid,
        option: String,
        form: Option<Data>,
        by: String,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let place = self.place(step).ok_or_else(|| Error::not_found("step", step))?;
        let unit = self.at(place);
        let Some(asked) = unit.asked.clone().filter(|asked| asked.decision == decision) else {
            if self.given(place, decision) == Some(option) {
                t.repeated = true;
                return Ok(());
            }
            return Err(Error::precondition("DECISION_CLOSED", "the decision is closed; read it to see how"));
        };
        if !asked.options.contains(&option) {
            return Err(Error::bad_field(
                "option",
                format!("`{option}` is not an option; choose one of: {}", asked.options.join(", ")),
            ));
        }
        match (&asked.form, &form) {
            (None, Some(_)) => return Err(Error::bad_field("form", "the decision has no form; leave it out")),
            (Some(_), None) => return Err(Error::bad_field("form", "the decision has a form; fill it in")),
            (Some(Data::Inline(schema)), Some(Data::Inline(filled))) => check_form(&schema.value(), &filled.value())?,
            (None, None) => {}
            _ => return Err(Error::bad_field("form", "the form must be at most 64 KiB")),
        }
        self.record_answer(place, &asked, option, form, by, cx, t)
    }

    /// The option that was chosen in a decision that is closed.
    fn given(&self, place: Place, decision: Uuid) -> Option<String> {
        let unit = self.at(place);
        if let Some(clarified) = unit.clarified.iter().find(|c| c.decision == decision) {
            return Some(clarified.option.clone());
        }
        match (&self.step(place).action, unit.output.as_ref()?) {
            (Action::Decide(_), Data::Inline(json)) => json.value().get("option")?.as_str().map(str::to_owned),
            _ => None,
        }
    }

    /// The deadline of a question, or the step's own, has passed.
    pub(super) fn nobody_answered(
        &mut self,
        place: Place,
        asked: &DecisionRequested,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let expired = asked.deadline.is_some_and(|deadline| deadline <= cx.now);
        if let Some(option) = asked.default.clone().filter(|_| expired) {
            return self.record_answer(place, asked, option, None, DEADLINE.into(), cx, t);
        }
        let error = Failure::new(Code::DeadlineExceeded, UNANSWERED);
        self.fail_step(place, None, error, cx, t)?;
        // Not cancelled, but expired.
        let row = t.decisions.iter_mut().find(|row| row.id == asked.decision);
        if let Some(row) = row {
            row.state = DecisionState::Expired;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // the parts of one answer
    fn record_answer(
        &mut self,
        place: Place,
        asked: &DecisionRequested,
        option: String,
        form: Option<Data>,
        by: String,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let key = self.key(place);
        let state = if by == DEADLINE { DecisionState::Expired } else { DecisionState::Answered };
        t.decisions.push(DecisionRow {
            option: Some(option.clone()),
            form: form.clone(),
            answered_by: Some(by.clone()),
            ..self.decision_row(&key, asked, state, cx)
        });
        let decision = asked.decision;
        if !matches!(self.step(place).action, Action::Decide(_)) {
            let fact = Fact::ClarificationAnswered { decision, option, form, by };
            return self.emit(Some(key), fact, cx, t);
        }
        let output = answer_value(&option, form.as_ref(), &by);
        self.emit(Some(key.clone()), Fact::DecisionAnswered { decision, option, form, by }, cx, t)?;
        let fact = Fact::StepSucceeded { token: None, attempt: self.at(place).attempt, output: Data::of(&output) };
        self.emit(Some(key), fact, cx, t)
    }

    pub(super) fn decision_row(
        &self,
        key: &StepKey,
        asked: &DecisionRequested,
        state: DecisionState,
        cx: &Context<'_>,
    ) -> DecisionRow {
        let place = self.place(key);
        let choice = place.is_none_or(|place| matches!(self.step(place).action, Action::Decide(_)));
        // A decision's step begins with its question; a step that asks in the middle began before.
        let began = place.map(|place| self.at(place)).and_then(|unit| unit.asked_at);
        DecisionRow {
            id: asked.decision,
            namespace: self.s.namespace.clone(),
            run: self.id,
            step: key.clone(),
            asked: asked.clone(),
            state,
            created_at: began.unwrap_or(cx.now),
            closed_at: (state != DecisionState::Open).then_some(cx.now),
            option: None,
            form: None,
            answered_by: None,
            kind: if choice { DecisionKind::Choice } else { DecisionKind::Clarification },
            project: self.s.project.as_ref().map(|project| project.id.clone()),
        }
    }
}

/// An answer as expressions see it.
pub(super) fn answer_value(option: &str, form: Option<&Data>, by: &str) -> Value {
    let filled = match form {
        Some(Data::Inline(json)) => json.value(),
        _ => Value::Null,
    };
    json!({"option": option, "form": filled, "answered_by": by})
}

fn check_form(schema: &Value, filled: &Value) -> Result<(), Error> {
    let validator = jsonschema::validator_for(schema)
        .map_err(|e| Error::internal(format!("the decision's form is not a valid JSON Schema: {e}")))?;
    let violations: Vec<_> = validator
        .iter_errors(filled)
        .map(|e| Violation { field: format!("form{}", e.instance_path()), description: e.to_string() })
        .collect();
    if violations.is_empty() { Ok(()) } else { Err(Error::bad_fields(violations)) }
}
