//! `consort events` and `events tail`.

use std::pin::pin;

use clap::{Args, Subcommand};
use consort_proto::agent::{LogLevel, step_report};
use consort_proto::event::subscribe_request::Kind as SubscriberSays;
use consort_proto::event::{Event, EventFilter, SubscribeRequest, SubscribeStart, subscribe_start::From as StartAt};
use consort_proto::orchestrator::{ListRunEventsResponse, RunEvent, run_event::Fact, watch_run_response::Kind};
use futures::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::names;
use crate::output::text;

/// How many characters of a value a line shows.
const SHOWN: usize = 80;
/// Events on the way to us at once; half is granted again when half is used.
const CREDIT: i32 = 512;

/// Show a run's history, or follow all events with `events tail`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  consort events 0192ab
  consort events 0192ab --follow
  consort events tail --type 'STEP.*' --type RUN.FAILED
  consort events tail --after 0 -o json      everything from the beginning, an object a line"
)]
pub(crate) struct Events {
    /// Name of the run, its uuid, or the first digits of it.
    #[arg(required = true)]
    pub run: Option<String>,
    /// Go on with what comes until the run is over.
    #[arg(short, long)]
    pub follow: bool,
    /// Only events after this sequence.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub after: i64,
    /// At most this many, unless they are followed.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// Follow all events of the namespace instead.
    #[command(subcommand)]
    pub tail: Option<Which>,
}

/// Which events, if not those of one run.
#[derive(Debug, Subcommand)]
pub(crate) enum Which {
    /// Follow all events of the namespace until interrupted.
    Tail(Tail),
}

/// Follow all events of the namespace.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Only events of this type, exact or a prefix that ends in `*`. May be repeated.
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only events about this subject, for example the full name of a run.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub subject: String,
    /// Only events with this correlation id: the uuid of a family's root run.
    #[arg(long, value_name = "UUID", default_value = "")]
    pub correlation: String,
    /// Begin after this position of the log; 0 is its beginning. Otherwise only what comes from now on.
    #[arg(long, value_name = "CURSOR", value_parser = clap::value_parser!(i64).range(0..))]
    pub after: Option<i64>,
}

impl Events {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        if let Some(Which::Tail(tail)) = self.tail {
            return tail.run(context).await;
        }
        let run = names::run(context, self.run.as_deref().unwrap_or_default()).await?;
        if !self.follow {
            let events = context.mesh.history(&run, self.after, self.limit as usize).await?;
            let page = ListRunEventsResponse { events, next_page_token: String::new() };
            return context.format.print(&page, || page.events.iter().map(line).collect());
        }
        // The first look tells at once that there is no such run, or no server.
        context.mesh.check(context.mesh.client.get(&run).await)?;
        let mut news = pin!(context.mesh.patient.watch(&run, self.after));
        while let Some(next) = news.next().await {
            if let Some(Kind::Event(event)) = context.mesh.check(next)?.kind {
                context.format.print_next(&event, || line(&event))?;
            }
        }
        Ok(())
    }
}

impl Tail {
    async fn run(self, context: &Context) -> Result<()> {
        let (say, said) = tokio::sync::mpsc::channel(4);
        let start = SubscribeStart {
            parent: context.parent.clone(),
            filter: Some(EventFilter {
                event_types: self.types,
                correlation_id: self.correlation,
                subject: self.subject,
            }),
            from: Some(self.after.map_or(StartAt::Latest(true), StartAt::Cursor)),
            credit: CREDIT,
            ..Default::default()
        };
        let gone = || Failure::failed("the server closed the subscription");
        say.send(SubscribeRequest { kind: Some(SubscriberSays::Start(start)) }).await.map_err(|_| gone())?;
        let answer = context.mesh.client.events().subscribe(ReceiverStream::new(said)).await;
        let mut deliveries = context.mesh.answer(answer)?;
        let mut used = 0;
        loop {
            let delivery = deliveries.message().await;
            let Some(delivery) = context.mesh.answer(delivery.map(tonic::Response::new))? else { return Err(gone()) };
            if let Some(event) = &delivery.event {
                context.format.print_next(event, || tail_line(delivery.cursor, event))?;
            }
            used += 1;
            if used == CREDIT / 2 {
                let credit = SubscribeRequest { kind: Some(SubscriberSays::Credit(used)) };
                say.send(credit).await.map_err(|_| gone())?;
                used = 0;
            }
        }
    }
}

/// An event of a run on one line.
pub(crate) fn line(event: &RunEvent) -> String {
    let (name, what) = event.fact.as_ref().map_or(("Unknown", String::new()), describe);
    let line =
        format!("{:>5}  {}  {name:<18} {:<16} {what}", event.sequence, text::clock(event.time.as_ref()), event.step);
    format!("{}\n", line.trim_end())
}

fn tail_line(cursor: i64, event: &Event) -> String {
    let at = text::clock(event.timestamp.as_ref());
    let what = text::payload(event.payload.as_ref(), SHOWN);
    format!("{cursor:>7}  {at}  {:<22} {}  {what}\n", event.event_type, text::id(&event.subject))
}

/// The fact's name and what a person wants to know of it.
fn describe(fact: &Fact) -> (&'static str, String) {
    let value = |payload: Option<&consort_proto::blob::Payload>| text::payload(payload, SHOWN);
    let message = |error: Option<&consort_proto::google::rpc::Status>| {
        error.map_or_else(String::new, |error| {
            let code = consort_core::event::Code::name_of(error.code);
            text::one_line(&format!("{code}: {}", error.message), SHOWN * 2)
        })
    };
    match fact {
        Fact::RunStarted(f) => ("RunStarted", format!("{} r{}", text::id(&f.workflow), f.revision)),
        Fact::RunPaused(f) => ("RunPaused", f.reason.clone()),
        Fact::RunResumed(_) => ("RunResumed", String::new()),
        Fact::RunCancelled(f) => ("RunCancelled", f.reason.clone()),
        Fact::RunRetried(f) => ("RunRetried", f.steps.join(" ")),
        Fact::RunSucceeded(f) => ("RunSucceeded", value(f.output.as_ref())),
        Fact::RunFailed(f) => ("RunFailed", message(f.error.as_ref())),
        Fact::SignalReceived(f) => ("SignalReceived", format!("{} {}", f.signal, value(f.payload.as_ref()))),
        Fact::StepScheduled(f) => ("StepScheduled", format!("agent {} attempt {}", f.agent, f.attempt)),
        Fact::StepLeased(f) => ("StepLeased", format!("worker {} token {}", f.worker, f.lease_token)),
        Fact::StepLeaseLost(f) => ("StepLeaseLost", format!("token {} {}", f.lease_token, f.reason)),
        Fact::StepReported(f) => ("StepReported", reported(f.report.as_ref().and_then(|report| report.kind.as_ref()))),
        Fact::StepSucceeded(f) => ("StepSucceeded", value(f.output.as_ref())),
        Fact::StepRetryScheduled(f) => {
            ("StepRetryScheduled", format!("{} at {}", message(f.error.as_ref()), text::clock(f.retry_time.as_ref())))
        }
        Fact::StepFailed(f) => ("StepFailed", message(f.error.as_ref())),
        Fact::StepSkipped(f) => ("StepSkipped", f.reason.clone()),
        Fact::StepExpanded(f) => ("StepExpanded", format!("{} items", f.items)),
        Fact::WaitStarted(f) => ("WaitStarted", format!("until {}", text::time(f.until.as_ref()))),
        Fact::DecisionRequested(f) => ("DecisionRequested", format!("{} {}", text::id(&f.decision), f.title)),
        Fact::DecisionAnswered(f) => ("DecisionAnswered", format!("{} by {}", f.option, f.answered_by)),
        Fact::ChildStarted(f) => ("ChildStarted", format!("{} {}", text::id(&f.workflow), text::id(&f.child))),
        Fact::StepIterated(f) => ("StepIterated", format!("iteration {}", f.iteration)),
        Fact::SignalAwaited(f) => ("SignalAwaited", f.signal.clone()),
        Fact::RunCompensating(f) => {
            ("RunCompensating", format!("{} failed, so {}: {}", f.failed_step, f.goto_step, message(f.error.as_ref())))
        }
        Fact::ClarificationRequested(f) => {
            let asked = f.question.as_ref().map(|asked| format!("{} {}", text::id(&asked.decision), asked.title));
            ("ClarificationRequested", asked.unwrap_or_default())
        }
        Fact::ClarificationAnswered(f) => {
            let answer = f.answer.as_ref().map(|answer| format!("{} by {}", answer.option, answer.answered_by));
            ("ClarificationAnswered", answer.unwrap_or_default())
        }
        Fact::EventEmitted(f) => ("EventEmitted", f.event_type.clone()),
        Fact::ModelCalled(f) => {
            let model = f.started.as_ref().map_or("", |started| started.model.as_str());
            let usage = f.finish.as_ref().and_then(|finish| finish.usage).unwrap_or_default();
            let model = model.trim_start_matches("models/");
            ("ModelCalled", format!("{model} {} + {} tokens", usage.input_tokens, usage.output_tokens))
        }
        Fact::OperationBegan(f) => ("OperationBegan", operation(&f.operation)),
        Fact::OperationCalled(f) => {
            let how = f.error.as_ref().map(|error| format!(" failed: {}", message(Some(error)))).unwrap_or_default();
            ("OperationCalled", format!("{}{how}", operation(&f.operation)))
        }
    }
}

fn reported(kind: Option<&step_report::Kind>) -> String {
    match kind {
        Some(step_report::Kind::Log(line)) => {
            let level = LogLevel::try_from(line.level).unwrap_or_default().as_str_name();
            format!("{} {}", level.trim_start_matches("LOG_LEVEL_"), text::one_line(&line.text, SHOWN * 2))
        }
        Some(step_report::Kind::Note(note)) => {
            format!("{} {}", note.name, text::payload(note.value.as_ref(), SHOWN))
        }
        Some(step_report::Kind::Progress(progress)) => format!("{:.0} % {}", progress.fraction * 100.0, progress.text),
        None => String::new(),
    }
}

/// `plugins/git/operations/log` as `git.log`.
fn operation(name: &str) -> String {
    name.trim_start_matches("plugins/").replace("/operations/", ".")
}

#[cfg(test)]
mod tests {
    use consort_proto::google::rpc::Status;
    use consort_proto::orchestrator::StepFailed;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let error = Some(Status { code: 14, message: "down\nand out".into(), details: Vec::new() });
        let event = RunEvent {
            sequence: 12,
            step: "cost[3]".into(),
            time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            fact: Some(Fact::StepFailed(StepFailed { attempt: 2, error })),
            ..Default::default()
        };
        assert_eq!(
            line(&event),
            "   12  22:13:20.000  StepFailed         cost[3]          UNAVAILABLE: down and out\n"
        );
    }
}
