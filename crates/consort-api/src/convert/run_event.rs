//! The facts of a run's history.

use consort_core::event::{DecisionRequested, Fact, Record};
use consort_core::{Error, StepKey};
use consort_proto::orchestrator as wire;
use wire::run_event::Fact as Wire;

use super::run::{project_of, trigger};
use super::{duration, inference, kept_report, payload, plugin, rpc_status, timestamp};
use crate::names;

/// The events of a record that are numbered above `after`, in order.
pub(crate) fn run_events(record: &Record, after: u64) -> Result<Vec<wire::RunEvent>, Error> {
    let entries = record.entries().map_err(|why| {
        Error::internal(format!("record {} of run {} cannot be read: {why}", record.sequence, record.run))
    })?;
    let run = names::of_run(&record.namespace, record.run);
    let numbered = (record.sequence..).zip(entries).filter(|(sequence, _)| *sequence > after);
    let events = numbered.map(|(sequence, entry)| wire::RunEvent {
        run: run.clone(),
        sequence: sequence as i64,
        time: Some(timestamp(record.at)),
        event_id: record.run.event(sequence).to_string(),
        step: entry.step.as_ref().map(ToString::to_string).unwrap_or_default(),
        fact: Some(fact(entry.fact, &record.namespace)),
    });
    Ok(events.collect())
}

fn fact(fact: Fact, namespace: &str) -> Wire {
    let workflow = |id: &str| names::of(namespace, "workflows", id);
    let decision = |id| names::of(namespace, "decisions", id);
    let text = |step: Option<StepKey>| step.map(|step| step.to_string()).unwrap_or_default();
    match fact {
        Fact::RunStarted(started) => Wire::RunStarted(wire::RunStarted {
            workflow: workflow(&started.workflow),
            revision: started.revision as i64,
            inputs: Some(payload(&started.inputs)),
            parent: started.parent.as_ref().map(|p| names::of_run(namespace, p.run)).unwrap_or_default(),
            parent_step: started.parent.as_ref().map(|p| p.step.to_string()).unwrap_or_default(),
            labels: started.labels.into_iter().collect(),
            project: project_of(namespace, started.project.as_ref().map(|project| &*project.id)),
            trigger: started.cause.as_ref().map(|cause| trigger(namespace, cause)),
            plan: started.plan.as_ref().map(payload),
        }),
        Fact::RunPaused { reason } => Wire::RunPaused(wire::RunPaused { reason }),
        Fact::RunResumed => Wire::RunResumed(wire::RunResumed {}),
        Fact::RunCancelled { reason } => Wire::RunCancelled(wire::RunCancelled { reason }),
        Fact::RunRetried { steps } => {
            Wire::RunRetried(wire::RunRetried { steps: steps.iter().map(ToString::to_string).collect() })
        }
        Fact::RunSucceeded { output } => Wire::RunSucceeded(wire::RunSucceeded { output: Some(payload(&output)) }),
        Fact::RunFailed { step, error } => {
            Wire::RunFailed(wire::RunFailed { failed_step: text(step), error: Some(rpc_status(&error)) })
        }
        Fact::SignalReceived { signal, payload: value } => {
            Wire::SignalReceived(wire::SignalReceived { signal, payload: Some(payload(&value)) })
        }
        Fact::StepScheduled { agent, attempt, input } => Wire::StepScheduled(wire::StepScheduled {
            agent: agent.to_string(),
            attempt: attempt as i32,
            input: input.as_ref().map(payload),
        }),
        Fact::StepLeased { attempt, worker, session, token } => Wire::StepLeased(wire::StepLeased {
            attempt: attempt as i32,
            worker: worker.to_string(),
            session_id: session.to_string(),
            lease_token: token,
        }),
        Fact::StepLeaseLost { token, reason } => {
            Wire::StepLeaseLost(wire::StepLeaseLost { lease_token: token, reason: reason.as_str().to_owned() })
        }
        Fact::StepReported { report } => Wire::StepReported(wire::StepReported { report: Some(kept_report(&report)) }),
        Fact::StepSucceeded { attempt, output, .. } => {
            Wire::StepSucceeded(wire::StepSucceeded { attempt: attempt as i32, output: Some(payload(&output)) })
        }
        Fact::StepRetryScheduled { attempt, error, at, .. } => Wire::StepRetryScheduled(wire::StepRetryScheduled {
            attempt: attempt as i32,
            error: Some(rpc_status(&error)),
            retry_time: Some(timestamp(at)),
        }),
        Fact::StepFailed { attempt, error, .. } => {
            Wire::StepFailed(wire::StepFailed { attempt: attempt as i32, error: Some(rpc_status(&error)) })
        }
        Fact::StepSkipped { reason } => Wire::StepSkipped(wire::StepSkipped { reason }),
        Fact::StepExpanded { items, list } => {
            Wire::StepExpanded(wire::StepExpanded { items: items as i32, list: Some(payload(&list)) })
        }
        Fact::WaitStarted { until } => Wire::WaitStarted(wire::WaitStarted { until: Some(timestamp(until)) }),
        Fact::DecisionRequested(asked) => Wire::DecisionRequested(question(asked, namespace)),
        Fact::DecisionAnswered { decision: id, option, form, by } => Wire::DecisionAnswered(wire::DecisionAnswered {
            decision: decision(id),
            option,
            form: form.as_ref().map(payload),
            answered_by: by,
        }),
        Fact::ChildStarted { child, workflow: id, revision, .. } => Wire::ChildStarted(wire::ChildStarted {
            child: names::of_run(namespace, child),
            workflow: workflow(&id),
            revision: revision as i64,
        }),
        Fact::StepIterated { iteration } => Wire::StepIterated(wire::StepIterated { iteration: iteration as i32 }),
        Fact::SignalAwaited { signal, until } => {
            Wire::SignalAwaited(wire::SignalAwaited { signal, until: until.map(timestamp) })
        }
        Fact::RunCompensating { step, error, goto } => Wire::RunCompensating(wire::RunCompensating {
            failed_step: step.to_string(),
            error: Some(rpc_status(&error)),
            goto_step: goto.to_string(),
        }),
        Fact::ClarificationRequested { question: asked, attempt, .. } => {
            let question = Some(question(asked, namespace));
            Wire::ClarificationRequested(wire::ClarificationRequested { question, attempt: attempt as i32 })
        }
        Fact::ClarificationAnswered { decision: id, option, form, by } => {
            let (decision, form) = (decision(id), form.as_ref().map(payload));
            let answer = wire::DecisionAnswered { decision, option, form, answered_by: by };
            Wire::ClarificationAnswered(wire::ClarificationAnswered { answer: Some(answer) })
        }
        Fact::EventEmitted { event_id, event_type } => {
            Wire::EventEmitted(wire::EventEmitted { event_id: event_id.to_string(), event_type })
        }
        Fact::ModelCalled(call) => Wire::ModelCalled(wire::ModelCalled {
            response_id: call.started.id.clone(),
            attempt: call.attempt as i32,
            request: call.request.to_string(),
            settings_digest: call.settings_digest.to_string(),
            settings: call.settings.as_ref().map(payload),
            parent: call.parent.map(|parent| parent.to_string()).unwrap_or_default(),
            messages: Some(payload(&call.messages)),
            transcript: call.transcript.to_string(),
            reply: Some(payload(&call.reply)),
            answered: call.answered.to_string(),
            finish: Some(inference::finish(call.finish())),
            started: Some(inference::started(call.started)),
        }),
        Fact::OperationBegan(call) => Wire::OperationBegan(wire::OperationBegan {
            operation: operation(&call.operation),
            attempt: call.attempt as i32,
            call_id: call.call_id.to_string(),
            request: call.request.to_string(),
            effect: plugin::effect(call.effect).into(),
        }),
        Fact::OperationCalled(call) => Wire::OperationCalled(wire::OperationCalled {
            operation: operation(&call.operation),
            attempt: call.attempt as i32,
            call_id: call.call_id.to_string(),
            request: call.request.to_string(),
            effect: plugin::effect(call.effect).into(),
            version: call.version.to_string(),
            input: Some(payload(&call.input)),
            output: call.output.as_ref().map(payload),
            error: call.error.as_ref().map(rpc_status),
            would: call.would,
            actions: call.actions,
            dry_run: call.dry_run,
            took: Some(duration(std::time::Duration::from_millis(call.took_ms))),
        }),
    }
}

fn operation(name: &consort_core::plugin::OperationName) -> String {
    format!("plugins/{}/operations/{}", name.plugin, name.operation)
}

fn question(asked: DecisionRequested, namespace: &str) -> wire::DecisionRequested {
    wire::DecisionRequested {
        decision: names::of(namespace, "decisions", asked.decision),
        title: asked.title,
        description: asked.description,
        options: asked.options,
        form: asked.form.as_ref().map(payload),
        deadline: asked.deadline.map(timestamp),
        default_option: asked.default.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::event::{Code, Entry, Failure, LeaseLoss};
    use consort_core::{Data, RunId};
    use uuid::Uuid;

    fn record(sequence: u64, facts: Vec<Fact>) -> Record {
        let entries: Vec<_> =
            facts.into_iter().map(|fact| Entry { step: Some(StepKey::item("cost", 3)), fact }).collect();
        Record {
            run: RunId(Uuid::from_u128(7)),
            namespace: "acme".into(),
            root: RunId(Uuid::from_u128(7)),
            sequence,
            count: entries.len() as u32,
            at: 1_500,
            body: serde_json::to_vec(&entries).unwrap(),
            hash: [0; 32],
        }
    }

    #[test]
    fn events_are_numbered_on_and_old_ones_left_out() {
        let output = Data::of(&serde_json::json!(1));
        let record = record(
            5,
            vec![
                Fact::StepLeaseLost { token: 9, reason: LeaseLoss::Replaced },
                Fact::StepSucceeded { token: Some(9), attempt: 2, output },
                Fact::StepFailed { token: None, attempt: 1, error: Failure::new(Code::Unavailable, "gone") },
            ],
        );
        let events = run_events(&record, 5).unwrap();
        assert_eq!(events.iter().map(|e| e.sequence).collect::<Vec<_>>(), [6, 7]);
        assert_eq!(events[0].step, "cost[3]");
        assert_eq!(events[0].run, "namespaces/acme/runs/00000000-0000-0000-0000-000000000007");
        assert_eq!(events[0].event_id, record.run.event(6).to_string());
        let Some(Wire::StepSucceeded(done)) = &events[0].fact else { panic!("{:?}", events[0]) };
        assert_eq!(done.attempt, 2);
        let Some(Wire::StepFailed(failed)) = &events[1].fact else { panic!("{:?}", events[1]) };
        assert_eq!(failed.error.as_ref().unwrap().code, 14);
        let all = run_events(&record, 0).unwrap();
        let Some(Wire::StepLeaseLost(lost)) = &all[0].fact else { panic!("{:?}", all[0]) };
        assert_eq!((lost.lease_token, lost.reason.as_str()), (9, "worker replaced"));
    }

    #[test]
    fn a_damaged_record_is_an_internal_error() {
        let mut record = record(1, vec![Fact::RunResumed]);
        record.body.pop();
        assert_eq!(run_events(&record, 0).unwrap_err().kind, consort_core::Kind::Internal);
    }
}
