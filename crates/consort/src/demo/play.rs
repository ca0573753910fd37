//! The course of the demo: start, run, decide, report.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use consort_proto::orchestrator::{Run, RunState, run_event::Fact, watch_run_response::Kind};
use consort_sdk::StartOptions;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::receiver::{Receiver, Seen};
use super::stage::Stage;
use super::{Demo, SAMPLE, Source, WORKFLOW, plugins, report, repository, verify};
use crate::board::{Board, Question};
use crate::context::Mesh;
use crate::failure::{Failure, Result};
use crate::follow;
use crate::output::{self, Format, text};
use crate::tools::LANGUAGES;
use crate::view::View;

/// A history of the demo has some forty events; this is what is read of one at most.
const EVENTS: usize = 10_000;

/// When the server is killed.
#[derive(Debug, PartialEq, Eq)]
enum Crashes {
    /// As soon as a step is in progress.
    InProgress,
    /// As soon as the question is open.
    Asked,
    /// As soon as the receiver has the figures, before it answers.
    Posted,
    /// No more.
    Over,
}

impl Demo {
    pub(super) async fn play(&self, stage: &mut Stage, source: &Source, format: Format) -> Result<()> {
        let mut view = View::for_people();
        let inputs = self.inputs(stage, source)?;
        view.say(&format!("input      {}", describe(source)));
        if self.post {
            stage.receive(self.crash).await?;
        }
        let folders = match source {
            Source::Repo(path) => Some(repository::places(path)),
            Source::Csv(_) | Source::Sample => None,
        };
        let mesh = stage.start(folders).await?;
        view.say(&format!("mesh       a server and six workers, Rust and Python; data in {}", stage.data().display()));
        introduce(stage, &mesh, &view).await?;
        let workflow = mesh.check(mesh.patient.apply(WORKFLOW).await)?;
        let run = mesh.check(mesh.patient.start(&workflow.name, &inputs, StartOptions::default()).await)?;
        view.say(&format!("run        {}", text::id(&run.name)));

        let run = self.see_through(stage, &mesh, run, &mut view).await?;
        if run.state() != RunState::Succeeded {
            return follow::verdict(&run).map_err(|failure| Failure { hint: None, ..failure });
        }
        self.conclude(stage, &mesh, &run, format).await
    }

    /// Follows the run to its end, kills the server where that was asked for, and answers its question.
    async fn see_through(&self, stage: &mut Stage, mesh: &Mesh, run: Run, view: &mut View) -> Result<Run> {
        let mut board = Board::new(&mesh.check(mesh.patient.get(&run.name).await)?.steps);
        let mut crashes = if self.crash { Crashes::InProgress } else { Crashes::Over };
        let mut answered = BTreeSet::new();
        let mut news = pin!(mesh.patient.watch(&run.name, 0));
        let mut clock = tokio::time::interval(Duration::from_millis(250));
        loop {
            let event = tokio::select! {
                () = accepted(stage), if crashes == Crashes::Posted => {
                    crash(stage, view, "while the receiver has the figures and has not answered").await?;
                    if let Some(receiver) = stage.receiver() {
                        receiver.let_answers_go();
                    }
                    crashes = Crashes::Over;
                    continue;
                }
                next = news.next() => match next {
                    None => break,
                    Some(next) => match mesh.check(next)?.kind {
                        Some(Kind::Event(event)) => event,
                        Some(Kind::Progress(progress)) => {
                            board.progress(&progress);
                            continue;
                        }
                        Some(Kind::Tokens(_)) | None => continue,
                    },
                },
                _ = clock.tick() => {
                    stage.check()?;
                    view.refresh(&board);
                    continue;
                }
            };
            if let Some(step) = board.apply(&event) {
                view.changed(&board, &step);
            }
            if crashes == Crashes::InProgress && matches!(event.fact, Some(Fact::StepLeased(_))) {
                crash(stage, view, &format!("while {} is in progress", event.step)).await?;
                crashes = Crashes::Asked;
            }
            if let Some(question) = &board.open_decision
                && answered.insert(question.name.clone())
            {
                if crashes == Crashes::Asked {
                    crash(stage, view, "while the question is open").await?;
                    crashes = if self.post { Crashes::Posted } else { Crashes::Over };
                }
                let (option, by) = self.answer(question, view).await?;
                mesh.check(mesh.patient.decide(&question.name, &option, &by).await)?;
                view.say(&format!("answered   {option} by {by}"));
            }
        }
        view.finish(&board);
        mesh.check(mesh.patient.get(&run.name).await)
    }

    /// The chosen option, and who chose it.
    async fn answer(&self, question: &Question, view: &View) -> Result<(String, String)> {
        let default = match question.default_option.as_str() {
            "" => question.options.first().cloned().unwrap_or_default(),
            option => option.to_owned(),
        };
        view.say(&format!("question   {} [{}]", question.title, question.options.join(", ")));
        if let Some(answer) = &self.answer {
            return Ok((answer.clone(), "demo".to_owned()));
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Ok((default, "demo".to_owned()));
        }
        view.hide();
        let by = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "demo".to_owned());
        loop {
            eprint!("\n  {}\n  {} (Enter: {default}) > ", question.title, question.options.join(" / "));
            let _ = std::io::Write::flush(&mut std::io::stderr());
            let line = tokio::task::spawn_blocking(|| {
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).map(|_| line)
            });
            let line = line.await.map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))??;
            match choose(&line, &question.options, &default) {
                Some(option) => return Ok((option, by)),
                None => eprintln!("  `{}` is not an option", line.trim()),
            }
        }
    }

    async fn conclude(&self, stage: &Stage, mesh: &Mesh, run: &Run, format: Format) -> Result<()> {
        let summary = report::Summary::of(mesh, run).await?;
        let output = mesh.value(run.output.as_ref()).await?;
        let written = if output.is_null() { None } else { Some(report::write(&self.out, &output)?) };
        let verdict = match stage.crashes {
            0 => None,
            _ => Some(verify::verify(run, &mesh.history(&run.name, 0, EVENTS).await?)),
        };
        let posted = stage.receiver().map(Receiver::seen);
        let unposted = posted.as_ref().filter(|_| written.is_some()).and_then(Seen::problem);
        if format == Format::Table {
            let mut shown = format!("\n{}{}", summary.lines(), report::opening(&output));
            match &written {
                Some(written) => {
                    let _ =
                        writeln!(shown, "report     {}\nfigures    {}", written.html.display(), written.json.display());
                }
                None => shown += "report     none: the answer was not to publish\n",
            }
            if let Some(posted) = posted.filter(|seen| seen.accepted() > 0) {
                let _ = writeln!(shown, "posted     {}", posted.sentence());
            }
            if let Some(verdict) = &verdict {
                let _ = writeln!(shown, "history    {}", verdict.sentence(stage.crashes));
            }
            output::print(&shown)?;
        } else {
            let mut result = summary.to_json();
            result["run"] = json!(run.name);
            result["summary"] = output["summary"].clone();
            result["report_html"] = json!(written.as_ref().map(|written| &written.html));
            result["report_json"] = json!(written.as_ref().map(|written| &written.json));
            result["posted"] = posted.map_or(Value::Null, |posted| posted.to_json());
            result["history"] = verdict.as_ref().map_or(Value::Null, |verdict| verdict.to_json(stage.crashes));
            format.print_value(&result)?;
        }
        match verdict {
            Some(verdict) if !verdict.problems.is_empty() => {
                Err(Failure::failed("the history is not sound").details(verdict.problems))
            }
            _ if self.crash && stage.crashes < 2 => {
                Err(Failure::failed(format!("the server was killed {} times instead of twice", stage.crashes)))
            }
            _ => match unposted {
                Some(problem) => Err(Failure::failed(problem).details(report::failed(run, "post"))),
                None => Ok(()),
            },
        }
    }

    fn inputs(&self, stage: &Stage, source: &Source) -> Result<Value> {
        let mut inputs = match source {
            Source::Repo(path) => json!({ "repo": path }),
            Source::Csv(path) => json!({ "csv": path }),
            Source::Sample => {
                let path = stage.data().join("sample.csv");
                std::fs::write(&path, SAMPLE)?;
                json!({ "csv": path })
            }
        };
        if self.post {
            inputs["post"] = json!(plugins::TARGET);
        }
        Ok(inputs)
    }
}

/// Says which plugins run, what they may, what holds them, and which languages plugins could not be written in here.
async fn introduce(stage: &mut Stage, mesh: &Mesh, view: &View) -> Result<()> {
    for (index, plugin) in stage.plugins(mesh).await?.iter().enumerate() {
        view.say(&format!("{:<10} {}", if index == 0 { "plugins" } else { "" }, plugins::line(plugin)));
    }
    if let Some(lacks) = stage.not_held() {
        view.say(&format!("sandbox    not all of it is here, so plugins are held by less: {lacks}"));
    }
    for language in &LANGUAGES {
        if let Err(why) = language.find().await {
            let (program, name, wanted) = (language.program, language.name, language.wanted);
            view.say(&format!("{program:<10} {why}: plugins and workers in {name} would need {wanted} or newer"));
        }
    }
    Ok(())
}

/// Ends when the receiver has something; never without one.
async fn accepted(stage: &Stage) {
    match stage.receiver() {
        Some(receiver) => receiver.accepted().await,
        None => std::future::pending().await,
    }
}

async fn crash(stage: &mut Stage, view: &View, when: &str) -> Result<()> {
    view.say(&format!("crash      kill -9 of the server {when}"));
    stage.crash().await?;
    view.say("crash      the server is back on the same data; the workers reconnect by themselves");
    Ok(())
}

/// The option that was typed, in full or by its first letters; nothing typed is the default.
fn choose(line: &str, options: &[String], default: &str) -> Option<String> {
    let typed = line.trim().to_lowercase();
    if typed.is_empty() {
        return Some(default.to_owned());
    }
    let mut matching = options.iter().filter(|option| option.to_lowercase().starts_with(&typed));
    let exact = options.iter().find(|option| option.to_lowercase() == typed);
    match (exact, matching.next(), matching.next()) {
        (Some(option), _, _) | (None, Some(option), None) => Some(option.clone()),
        _ => None,
    }
}

fn describe(source: &Source) -> String {
    match source {
        Source::Repo(path) => format!("the git history of {}", path.display()),
        Source::Csv(path) => format!("the time log {}", path.display()),
        Source::Sample => "a bundled time log (there is no git repository here)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_be_short_but_not_ambiguous() {
        let options = ["publish", "postpone", "discard"].map(str::to_owned);
        let check = |line: &str| choose(line, &options, "discard");
        assert_eq!(check("\n").as_deref(), Some("discard"));
        assert_eq!(check(" Publish \n").as_deref(), Some("publish"));
        assert_eq!(check("d").as_deref(), Some("discard"));
        assert_eq!(check("p"), None);
        assert_eq!(check("x"), None);
        assert_eq!(choose("a", &["a".to_owned(), "ab".to_owned()], "").as_deref(), Some("a"));
    }
}
