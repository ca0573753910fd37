//! Runs, their histories, and what goes on between them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use consort_core::data::{Data, Json};
use consort_core::event::{Fact, Parent, ProjectRef, Record, RunStarted, chain};
use consort_core::run::{Child, ChildOutcome, Command, Context, Run, RunState, Transition};
use consort_core::workflow::Workflow;
use consort_core::{RunId, StepKey, contract};
use serde_json::Value;
use uuid::Uuid;

use super::{Case, show};

/// When every story begins.
pub(super) const BEGIN: i64 = 1_767_225_600_000;

/// A run with all that a store would have of it.
pub(crate) struct Member {
    pub(crate) run: Run,
    pub(crate) definition: Arc<Workflow>,
    /// The definition as it was written.
    pub(crate) source: String,
    pub(crate) records: Vec<Record>,
    /// Names it in the story: empty for the first run, `build` for the child of the step `build`.
    pub(crate) label: String,
    pub(super) parent: Option<(RunId, StepKey)>,
}

/// Runs, and what is around them.
pub(crate) struct World {
    pub(crate) members: Vec<Member>,
    pub(super) now: i64,
    pub(super) tokens: u64,
    pub(super) agents: BTreeMap<String, Value>,
    sources: BTreeMap<String, String>,
    blobs: HashMap<Arc<str>, Json>,
    log: String,
}

/// What has been fetched for a transition.
#[derive(Default)]
struct Fetched {
    blobs: HashMap<Arc<str>, Json>,
    workflows: HashMap<Arc<str>, Option<Child>>,
}

pub(super) fn parse(source: &str) -> Arc<Workflow> {
    let mistakes = |mistakes| panic!("{mistakes:#?} in\n{source}");
    Arc::new(Workflow::parse(source).unwrap_or_else(mistakes))
}

impl World {
    /// Starts the run of a case and does what its script says.
    pub(crate) fn play(case: &Case) -> World {
        let mut world = World {
            members: Vec::new(),
            now: BEGIN,
            tokens: 0,
            agents: case.agents.clone(),
            sources: case.workflows.clone(),
            blobs: HashMap::new(),
            log: format!("## {}\n\n> start", case.case.trim()),
        };
        let inputs = parse(&case.workflow).inputs.complete(&case.inputs).unwrap();
        world.log += &if case.inputs.is_null() { "\n".to_owned() } else { format!(" {}\n", case.inputs) };
        let name = parse(&case.workflow).name.clone();
        let project = case.project.as_deref().map(|id| ProjectRef { id: id.into(), uid: Uuid::from_u128(2) });
        let started = RunStarted { project, ..RunStarted::new("default".into(), name, 1, inputs) };
        world.start(RunId(Uuid::from_u128(1)), &case.workflow, None, started, String::new(), None);
        world.let_agents_work();
        for entry in &case.script {
            world.note(&format!("> {}", show::entry(entry)));
            world.act(0, entry);
            world.let_agents_work();
        }
        world
    }

    /// All that happened, and how everything ended.
    pub(crate) fn story(&self) -> String {
        let mut text = self.log.clone();
        for member in &self.members {
            text += &show::end(member);
        }
        show::name_ids(&text) + "\n"
    }

    pub(super) fn note(&mut self, line: &str) {
        writeln!(self.log, "{line}").unwrap();
    }

    pub(super) fn number(&self, run: RunId) -> Option<usize> {
        self.members.iter().position(|member| member.run.id == run)
    }

    fn start(
        &mut self,
        id: RunId,
        source: &str,
        plan: Option<Arc<Workflow>>,
        started: RunStarted,
        label: String,
        parent: Option<(RunId, StepKey)>,
    ) {
        assert!(self.number(id).is_none(), "the id {id} of a child run is there twice");
        let definition = plan.unwrap_or_else(|| parse(source));
        let fetched = Fetched::default();
        let (run, transition) = Run::start(id, Arc::clone(&definition), started, &context(self.now, &fetched)).unwrap();
        let (source, records) = (source.to_owned(), Vec::new());
        self.members.push(Member { run, definition, source, records, label, parent });
        self.settle(self.members.len() - 1, transition, fetched);
    }

    /// Sends a command to a run.
    pub(super) fn send(&mut self, number: usize, command: Command) {
        let fetched = Fetched::default();
        let result = self.members[number].run.decide(command, &context(self.now, &fetched));
        match result {
            Ok(transition) => {
                if transition.repeated {
                    self.note("      (nothing happens: it is on record, or nobody waits for it any more)");
                }
                self.settle(number, transition, fetched);
            }
            Err(error) => self.note(&format!("      refused with {}: {}", error.reason, error.message)),
        }
    }

    /// Puts a transition on record, fetches what it needs, and passes on what others must know.
    fn settle(&mut self, number: usize, mut transition: Transition, mut fetched: Fetched) {
        for _ in 0..100 {
            self.keep(number, &transition);
            self.pass_on(number, &transition);
            if transition.needs.is_empty() {
                break;
            }
            for blob in &transition.needs.blobs {
                fetched.blobs.insert(blob.sha256.clone(), self.blobs[&blob.sha256].clone());
            }
            for name in &transition.needs.workflows {
                let source = self.sources.get(&**name);
                let child = source.map(|source| Child { revision: 1, definition: parse(source) });
                fetched.workflows.insert(name.clone(), child);
            }
            let cx = context(self.now, &fetched);
            transition = self.members[number].run.decide(Command::Advance, &cx).unwrap();
            assert!(
                transition.needs.is_empty() || !transition.entries.is_empty() || transition.needs.blobs.len() < 50,
                "what was fetched helps"
            );
        }
        assert!(transition.needs.is_empty(), "a run cannot need more and more");
        let member = &self.members[number];
        let (state, id) = (member.run.state(), member.run.id);
        let Some((parent, step)) = member.parent.clone().filter(|_| state.is_over()) else { return };
        let outcome = match state {
            RunState::Succeeded => ChildOutcome::Succeeded(member.run.output().unwrap().clone()),
            RunState::Failed => ChildOutcome::Failed(member.run.error().unwrap().clone()),
            _ => ChildOutcome::Cancelled,
        };
        let parent = self.number(parent).unwrap();
        if self.members[parent].run.children().iter().any(|(_, child)| *child == id) {
            self.send(parent, Command::ChildOver { step, child: id, outcome });
        }
    }

    fn keep(&mut self, number: usize, transition: &Transition) {
        for (blob, text) in &transition.blobs {
            self.blobs.insert(blob.sha256.clone(), text.clone());
        }
        let member = &mut self.members[number];
        let count = transition.entries.len() as u32;
        let first = member.run.sequence() + 1 - u64::from(count);
        if count > 0 {
            let expected = member.records.last().map_or(1, |record| record.last_sequence() + 1);
            assert_eq!(first, expected, "the history is numbered without gaps");
            let body = serde_json::to_vec(&transition.entries).unwrap();
            let previous = member.records.last().map_or([0; 32], |record| record.hash);
            member.records.push(Record {
                run: member.run.id,
                namespace: "default".into(),
                root: member.run.root(),
                sequence: first,
                count,
                at: self.now,
                hash: chain(&previous, &body),
                body,
            });
        }
        let lines = show::transition(member, first, self.now, transition);
        self.log += &lines;
        for event in &transition.published {
            let Data::Inline(payload) = &event.payload else { continue };
            contract::check(&event.event_type, event.event_version, &payload.value()).unwrap();
        }
    }

    /// Child runs begin, and those nobody waits for any more are cancelled.
    fn pass_on(&mut self, number: usize, transition: &Transition) {
        for child in &transition.orphans {
            if let Some(child) = self.number(*child)
                && !self.members[child].run.state().is_over()
            {
                self.send(child, Command::Cancel { reason: "nobody waits for it".into() });
            }
        }
        for entry in &transition.entries {
            let (Some(step), Fact::ChildStarted { child, workflow, revision, inputs, plan, .. }) =
                (&entry.step, &entry.fact)
            else {
                continue;
            };
            let definition =
                transition.children.iter().find(|(id, _)| id == child).map(|(_, d)| Arc::clone(d)).unwrap();
            let run = &self.members[number].run;
            let depth = run.parent().map_or(0, |parent| parent.depth) + 1;
            let parent = Parent { run: run.id, step: step.clone(), root: run.root(), depth, event: None };
            let started = RunStarted {
                parent: Some(parent),
                project: run.project().cloned(),
                plan: plan.clone(),
                ..RunStarted::new("default".into(), workflow.clone(), *revision, inputs.clone())
            };
            let source = match plan {
                Some(Data::Inline(text)) => text.value().as_str().unwrap().to_owned(),
                _ => self.sources[&**workflow].clone(),
            };
            let label = match self.members[number].label.as_str() {
                "" => step.to_string(),
                above => format!("{above}/{step}"),
            };
            let parent = Some((run.id, step.clone()));
            self.start(*child, &source, Some(definition), started, label, parent);
        }
    }

    /// Agents whose workers always answer do so until nothing is left for them.
    fn let_agents_work(&mut self) {
        for _ in 0..1_000 {
            let ready = self.members.iter().enumerate().find_map(|(number, member)| {
                let ready = member.run.ready().into_iter().filter(|_| !member.run.is_paused());
                let mut ready =
                    ready.filter_map(|(step, agent)| Some((number, step, self.agents.get(&*agent)?.clone())));
                ready.next()
            });
            let Some((number, step, output)) = ready else { return };
            self.complete(number, step, Data::of(&output));
        }
        panic!("the agents never come to an end");
    }

    /// A worker takes a step, if it has not yet, and answers.
    pub(super) fn complete(&mut self, number: usize, step: StepKey, output: Data) {
        if let Some(token) = self.token(number, &step) {
            self.send(number, Command::Complete { step, token, output });
        }
    }

    /// The token of a step's lease; a READY step is leased first.
    pub(super) fn token(&mut self, number: usize, step: &StepKey) -> Option<u64> {
        let run = &self.members[number].run;
        let lease = run.unit(step).and_then(|unit| unit.lease.as_ref()).map(|lease| lease.token);
        if lease.is_some() {
            return lease;
        }
        self.tokens += 1;
        let (attempt, token) = (run.unit(step).map_or(0, |unit| unit.attempt), self.tokens);
        let (worker, session) = ("worker".into(), "session".into());
        self.send(number, Command::Lease { step: step.clone(), attempt, worker, session, token });
        self.members[number].run.unit(step).and_then(|unit| unit.lease.as_ref()).map(|lease| lease.token)
    }

    /// Every prefix of every history, and every snapshot with what came after it, gives the same run.
    pub(crate) fn check_replays(&self) {
        for Member { run, definition, records, label, .. } in &self.members {
            let replayed = Run::replay(run.id, Arc::clone(definition), records).unwrap();
            same(&replayed, run, label);
            for middle in 1..=records.len() {
                let (before, after) = records.split_at(middle);
                let half = Run::replay(run.id, Arc::clone(definition), before).unwrap();
                let restored = Run::restore(run.id, Arc::clone(definition), &half.snapshot(), after).unwrap();
                same(&restored, run, label);
            }
        }
    }
}

fn same(one: &Run, other: &Run, label: &str) {
    let text = |run: &Run| String::from_utf8(run.snapshot()).unwrap();
    assert_eq!(text(one), text(other), "a replay of the run `{label}` gives the same state");
    let rest = |run: &Run| {
        let items: Vec<_> = run.units().map(|(key, _)| run.items(&key)).collect();
        format!("{:?} {:?} {:?} {:?} {items:?}", run.next_wake(), run.is_stalled(), run.ready(), run.children())
    };
    assert_eq!(rest(one), rest(other), "a replay of the run `{label}` has the same to do");
}

fn context(now: i64, fetched: &Fetched) -> Context<'_> {
    Context { now, chance: 0.5, blobs: &fetched.blobs, workflows: &fetched.workflows }
}
