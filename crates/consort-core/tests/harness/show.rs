//! What happened, for people.

use std::collections::HashMap;
use std::fmt::Write as _;

use consort_core::data::Data;
use consort_core::event::{Code, DecisionRequested, Fact, Failure, Report};
use consort_core::ports::{DecisionKind, DecisionRow};
use consort_core::run::Transition;
use serde_json::Value;

use super::world::{BEGIN, Member};

/// An entry of a script.
pub(super) fn entry(entry: &Value) -> String {
    match entry {
        Value::String(verb) => verb.clone(),
        Value::Object(map) => {
            let words = map.iter().map(|(verb, said)| match said {
                Value::String(text) => format!("{verb} {}", text.lines().next().unwrap_or_default()),
                other => format!("{verb} {other}"),
            });
            words.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Events, one a line, and what goes with them.
pub(super) fn transition(member: &Member, first: u64, now: i64, t: &Transition) -> String {
    let mut text = String::new();
    let label = if member.label.is_empty() { String::new() } else { format!("{} │ ", member.label) };
    for (sequence, entry) in (first..).zip(&t.entries) {
        let step = entry.step.as_ref().map(|step| format!(" {step}")).unwrap_or_default();
        let fields = fields(&entry.fact);
        let line = format!("{label}{sequence:>3} {:>5} {}{step}{fields}", time(now), entry.fact.event_type());
        writeln!(text, "{line}").unwrap();
    }
    for event in &t.published {
        let (kind, version, about) = (&event.event_type, event.event_version, &event.subject);
        writeln!(text, "      publishes {kind} v{version} by {} about {about}: {}", event.source, data(&event.payload))
            .unwrap();
    }
    for (event, why) in &t.refused {
        writeln!(text, "      dead letter {}: {why}", event.event_type).unwrap();
    }
    for row in &t.decisions {
        writeln!(text, "      {}", decision(row)).unwrap();
    }
    for lease in &t.revoked {
        writeln!(
            text,
            "      revokes {}, attempt {}, token {}: {}",
            lease.step, lease.attempt, lease.token, lease.reason
        )
        .unwrap();
    }
    text
}

fn decision(row: &DecisionRow) -> String {
    let kind = if row.kind == DecisionKind::Choice { "decision" } else { "clarification" };
    let how = match (&row.option, &row.answered_by) {
        (Some(option), Some(by)) => format!(": {option} by {by}"),
        _ => String::new(),
    };
    format!("{kind} of {} is {}{how}", row.step, format!("{:?}", row.state).to_uppercase())
}

/// What a fact says, beside its type and step.
fn fields(fact: &Fact) -> String {
    match fact {
        Fact::RunStarted(started) => {
            let cause = started.parent.as_ref().map(|parent| format!(", for {}", parent.step)).unwrap_or_default();
            format!(": {} {}{cause}", started.workflow, data(&started.inputs))
        }
        Fact::RunPaused { reason } | Fact::RunCancelled { reason } | Fact::StepSkipped { reason } => {
            format!(": {reason}")
        }
        Fact::RunResumed => String::new(),
        Fact::RunRetried { steps } => format!(": {steps:?}"),
        Fact::RunFailed { step, error } => {
            format!(
                "{}: {}",
                step.as_ref().map(|step| format!(" because of {step}")).unwrap_or_default(),
                failure(error)
            )
        }
        Fact::SignalReceived { signal, payload } => format!(": {signal} {}", data(payload)),
        Fact::StepScheduled { agent, attempt, input } => {
            let input = input.as_ref().map_or_else(|| "as before".to_owned(), data);
            format!(": agent {agent}, attempt {attempt}, input {input}")
        }
        Fact::StepLeased { attempt, token, .. } => format!(": attempt {attempt}, token {token}"),
        Fact::StepLeaseLost { token, reason } => format!(": token {token}, {}", reason.as_str()),
        Fact::StepReported { report: Report::Log { level, text } } => format!(": {level} {text}"),
        Fact::StepReported { report: Report::Note { name, value } } => format!(": {name} {}", data(value)),
        Fact::RunSucceeded { output } | Fact::StepSucceeded { output, .. } => format!(": {}", data(output)),
        Fact::StepRetryScheduled { attempt, error, at, .. } => {
            format!(": attempt {attempt} failed with {}; again at {}", failure(error), time(*at))
        }
        Fact::StepFailed { error, .. } => format!(": {}", failure(error)),
        Fact::StepExpanded { items, .. } => format!(": {items} items"),
        Fact::WaitStarted { until } => format!(": until {}", time(*until)),
        Fact::DecisionRequested(asked) => format!(": {}", question(asked)),
        Fact::ClarificationRequested { question: asked, token, .. } => {
            let who = if token.is_some() { "its worker asks: " } else { "" };
            format!(": {who}{}", question(asked))
        }
        Fact::DecisionAnswered { option, form, by, .. } | Fact::ClarificationAnswered { option, form, by, .. } => {
            let form = form.as_ref().map(|form| format!(" {}", data(form))).unwrap_or_default();
            format!(": {option}{form} by {by}")
        }
        Fact::ChildStarted { workflow, inputs, plan, .. } => {
            let what = if plan.is_some() { "the plan" } else { "workflow" };
            format!(": {what} {workflow} {}", data(inputs))
        }
        Fact::StepIterated { iteration } => format!(": iteration {iteration}"),
        Fact::SignalAwaited { signal, until } => {
            format!(": {signal}{}", until.map(|at| format!(", until {}", time(at))).unwrap_or_default())
        }
        Fact::RunCompensating { step, error, goto } => format!(": from {goto}, because of {step}: {}", failure(error)),
        Fact::EventEmitted { event_type, .. } => format!(": {event_type}"),
        Fact::ModelCalled(call) => format!(": {} said {}", call.started.model, data(&call.reply)),
        Fact::OperationBegan(call) => format!(": {}", call.operation),
        Fact::OperationCalled(call) => match (&call.output, &call.error) {
            (Some(output), _) => format!(": {} yielded {}", call.operation, data(output)),
            (None, error) => {
                format!(": {} failed: {}", call.operation, error.as_ref().map(failure).unwrap_or_default())
            }
        },
    }
}

fn question(asked: &DecisionRequested) -> String {
    let mut text = format!("{:?} {:?}", asked.title, asked.options);
    if !asked.description.is_empty() {
        write!(text, ", {:?}", asked.description).unwrap();
    }
    if asked.form.is_some() {
        text += ", with a form";
    }
    if let Some(deadline) = asked.deadline {
        write!(text, ", until {}", time(deadline)).unwrap();
    }
    if let Some(default) = &asked.default {
        write!(text, ", else {default}").unwrap();
    }
    text
}

fn failure(error: &Failure) -> String {
    format!("{} {}", Code::name_of(error.code), error.message)
}

/// A value; a long one is cut.
fn data(data: &Data) -> String {
    match data {
        Data::Inline(json) if json.as_str().len() > 400 => format!("… {} bytes", json.as_str().len()),
        Data::Inline(json) => json.as_str().to_owned(),
        Data::Blob(blob) => format!("a blob of {} bytes", blob.size),
    }
}

/// Time since the beginning.
fn time(at: i64) -> String {
    let millis = at - BEGIN;
    if millis % 1000 == 0 { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

/// How a run ended.
pub(super) fn end(member: &Member) -> String {
    let run = &member.run;
    let label = if member.label.is_empty() { "the run".to_owned() } else { format!("the run of {}", member.label) };
    let mut text = format!("\n= {label} is {}", run.state().name());
    if let Some(output) = run.output() {
        write!(text, ": {}", data(output)).unwrap();
    }
    if let Some(error) = run.error() {
        write!(text, ": {}", failure(error)).unwrap();
    }
    text.push('\n');
    for (key, unit) in run.units() {
        let mut line = format!("  {key}: {}", unit.state.name());
        if unit.attempt > 1 {
            write!(line, " in attempt {}", unit.attempt).unwrap();
        }
        if let Some(output) = &unit.output {
            write!(line, " {}", data(output)).unwrap();
        }
        if let Some(error) = &unit.error {
            write!(line, " ({})", failure(error)).unwrap();
        }
        text += &line;
        text.push('\n');
    }
    text
}

/// Gives every UUID a short name, in the order in which they turn up.
pub(super) fn name_ids(text: &str) -> String {
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let candidate = rest.get(..36).filter(|id| uuid::Uuid::try_parse(id).is_ok());
        if let Some(id) = candidate {
            let next = names.len() + 1;
            write!(out, "#{}", names.entry(id.to_owned()).or_insert(next)).unwrap();
            rest = &rest[36..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}
