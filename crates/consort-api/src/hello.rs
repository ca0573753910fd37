//! A worker's introduction, checked as a whole: every mistake is reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consort_core::{Error, Kind, Violation};
use consort_engine::{AgentOffer, AnswerOffer, Hello};
use consort_proto::agent as wire;

use crate::{names, request};

/// The protocol this server speaks.
pub(crate) const PROTOCOL: i32 = 1;

const DEFAULT_SLOT: &str = "default";
const AGENTS: usize = 100;
const SLOTS: usize = 100;
const CREDITS: i32 = 10_000;
const CAPABILITIES: usize = 100;
const ANSWERS: usize = 100;

/// Reads the hello of a stream.
pub(crate) fn read(hello: wire::Hello) -> Result<Hello, Error> {
    speaks(hello.min_protocol, hello.max_protocol)?;
    let mut wrong = Wrong::default();
    let (namespace, session) = wrong.identity("hello.", &hello.parent, &hello.worker_id, &hello.session_id);
    wrong.check(request::text("hello.sdk", &hello.sdk, 100));

    let mut slots = BTreeMap::new();
    let answers_only = hello.agents.is_empty() && !hello.answers.is_empty();
    if (hello.slots.is_empty() && !answers_only) || hello.slots.len() > SLOTS {
        wrong.add("hello.slots", format!("there are {}; give 1 to {SLOTS}", hello.slots.len()));
    }
    for (index, offer) in hello.slots.into_iter().take(SLOTS).enumerate() {
        let slot = slot(&offer.slot);
        wrong.name(|| format!("hello.slots[{index}].slot"), &slot);
        if !(1..=CREDITS).contains(&offer.credits) {
            wrong.add(
                format!("hello.slots[{index}].credits"),
                format!("`{}` is out of range; give 1 to {CREDITS}", offer.credits),
            );
        }
        if slots.insert(slot.clone(), offer.credits as u32).is_some() {
            wrong.add(
                format!("hello.slots[{index}].slot"),
                format!("`{slot}` is offered twice; offer each slot type once"),
            );
        }
    }

    let mut agents = Vec::with_capacity(hello.agents.len().min(AGENTS));
    let mut seen = BTreeSet::new();
    if (hello.agents.is_empty() && !answers_only) || hello.agents.len() > AGENTS {
        wrong.add("hello.agents", format!("there are {}; give 1 to {AGENTS}", hello.agents.len()));
    }
    for (index, offer) in hello.agents.into_iter().take(AGENTS).enumerate() {
        let field = |name: &str| format!("hello.agents[{index}].{name}");
        let slot = slot(&offer.slot);
        wrong.name(|| field("agent"), &offer.agent);
        if !seen.insert(offer.agent.clone()) {
            wrong.add(
                field("agent"),
                format!("`{}` is offered twice; offer each agent once", names::shown(&offer.agent)),
            );
        }
        if !slots.contains_key(&slot) {
            let shown = names::shown(&slot);
            wrong.add(
                field("slot"),
                format!("`{shown}` is not one of `slots`, so the agent would never get a task; offer it there"),
            );
        }
        wrong.check(request::text(&field("type"), &offer.r#type, 200));
        wrong.check(request::text(&field("description"), &offer.description, 1_000));
        if offer.capabilities.len() > CAPABILITIES {
            let found = offer.capabilities.len();
            wrong.add(field("capabilities"), format!("there are {found}; give at most {CAPABILITIES}"));
        }
        for (n, capability) in offer.capabilities.iter().take(CAPABILITIES).enumerate() {
            wrong.check(request::text(&field(&format!("capabilities[{n}]")), capability, 100));
        }
        agents.push(AgentOffer {
            agent: offer.agent.into(),
            kind: offer.r#type,
            description: offer.description,
            capabilities: offer.capabilities,
            slot,
        });
    }
    let answers = answers(&mut wrong, hello.answers);
    wrong.done()?;
    Ok(Hello { namespace, worker: hello.worker_id.into(), session, agents, slots, sdk: hello.sdk, answers })
}

fn answers(wrong: &mut Wrong, given: Vec<wire::AnswerOffer>) -> Vec<AnswerOffer> {
    let mut answers: Vec<AnswerOffer> = Vec::with_capacity(given.len().min(ANSWERS));
    if given.len() > ANSWERS {
        wrong.add("hello.answers", format!("there are {}; give at most {ANSWERS}", given.len()));
    }
    for (index, offer) in given.into_iter().take(ANSWERS).enumerate() {
        let field = |name: &str| format!("hello.answers[{index}].{name}");
        wrong.name(|| field("agent"), &offer.agent);
        if answers.iter().any(|other| *other.agent == *offer.agent) {
            let said = format!("`{}` is offered twice; offer each agent once", names::shown(&offer.agent));
            wrong.add(field("agent"), said);
        }
        if !(1..=CREDITS).contains(&offer.at_once) {
            let said = format!("`{}` is out of range; give 1 to {CREDITS}", offer.at_once);
            wrong.add(field("at_once"), said);
        }
        wrong.check(request::text(&field("description"), &offer.description, 1_000));
        let (at_once, description) = (offer.at_once.max(0) as u32, offer.description);
        answers.push(AnswerOffer { agent: offer.agent.into(), at_once, description });
    }
    answers
}

/// Reads who leases by unary calls: a worker without slots.
pub(crate) fn read_unary(parent: &str, worker: &str, session: &str, agents: Vec<String>) -> Result<Hello, Error> {
    let mut wrong = Wrong::default();
    let (namespace, session) = wrong.identity("", parent, worker, session);
    if agents.is_empty() || agents.len() > AGENTS {
        wrong.add("agents", format!("there are {}; give 1 to {AGENTS}", agents.len()));
    }
    let mut offers = Vec::with_capacity(agents.len().min(AGENTS));
    for (index, agent) in agents.into_iter().take(AGENTS).enumerate() {
        wrong.name(|| format!("agents[{index}]"), &agent);
        if offers.iter().any(|offer: &AgentOffer| *offer.agent == *agent) {
            continue;
        }
        offers.push(AgentOffer {
            agent: agent.into(),
            kind: String::new(),
            description: String::new(),
            capabilities: Vec::new(),
            slot: DEFAULT_SLOT.into(),
        });
    }
    wrong.done()?;
    let (slots, sdk, answers) = (BTreeMap::new(), String::new(), Vec::new());
    Ok(Hello { namespace, worker: worker.into(), session, agents: offers, slots, sdk, answers })
}

/// Reads who renews leases: namespace, worker and session.
pub(crate) fn read_identity(parent: &str, worker: &str, session: &str) -> Result<(Arc<str>, Arc<str>), Error> {
    let mut wrong = Wrong::default();
    let identity = wrong.identity("", parent, worker, session);
    wrong.done()?;
    Ok(identity)
}

fn speaks(min: i32, max: i32) -> Result<(), Error> {
    if min > max {
        return Err(Error::bad_field(
            "hello.min_protocol",
            format!("`{min}` is above `max_protocol`, {max}; give a range"),
        ));
    }
    if (min..=max).contains(&PROTOCOL) {
        return Ok(());
    }
    Err(Error::new(
        Kind::FailedPrecondition,
        "PROTOCOL_MISMATCH",
        format!(
            "the worker speaks protocols {min} to {max}, this server {PROTOCOL} to {PROTOCOL}; update the older one"
        ),
    ))
}

fn slot(given: &str) -> Arc<str> {
    if given.is_empty() { DEFAULT_SLOT.into() } else { given.into() }
}

/// The mistakes found so far.
#[derive(Default)]
struct Wrong(Vec<Violation>);

impl Wrong {
    fn add(&mut self, field: impl Into<String>, description: String) {
        self.0.push(Violation { field: field.into(), description });
    }

    fn check<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.0.extend(error.violations)).ok()
    }

    fn name(&mut self, field: impl Fn() -> String, value: &str) {
        if !consort_core::ids::is_id(value) {
            self.check(request::check_name(&field(), value));
        }
    }

    /// Checks who speaks; returns namespace and session.
    fn identity(&mut self, prefix: &str, parent: &str, worker: &str, session: &str) -> (Arc<str>, Arc<str>) {
        let namespace = self.check(names::parent(&format!("{prefix}parent"), parent));
        self.name(|| format!("{prefix}worker_id"), worker);
        if names::uuid(session).is_none() {
            let shown = names::shown(session);
            self.add(
                format!("{prefix}session_id"),
                format!("`{shown}` is not a UUID; make a random one when the process starts"),
            );
        }
        (namespace.unwrap_or_else(|| names::DEFAULT_NAMESPACE.into()), session.into())
    }

    fn done(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::bad_fields(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> wire::Hello {
        wire::Hello {
            worker_id: "w1".into(),
            session_id: "01939d0e-6f6b-7c3a-8a52-0123456789ab".into(),
            parent: String::new(),
            min_protocol: 1,
            max_protocol: 3,
            agents: vec![wire::AgentOffer { agent: "cost".into(), ..Default::default() }],
            slots: vec![wire::SlotOffer { slot: String::new(), credits: 4 }],
            sdk: "rust 0.1.0".into(),
            answers: Vec::new(),
        }
    }

    fn fields(hello: wire::Hello) -> Vec<String> {
        read(hello).unwrap_err().violations.into_iter().map(|v| v.field).collect()
    }

    #[test]
    fn a_good_hello_is_read() {
        let read = read(hello()).unwrap();
        assert_eq!((&*read.namespace, &*read.worker, &*read.agents[0].slot), ("default", "w1", "default"));
        assert_eq!(read.slots, BTreeMap::from([("default".into(), 4)]));
    }

    #[test]
    fn protocols_that_do_not_meet_name_both_ranges() {
        let error = read(wire::Hello { min_protocol: 2, ..hello() }).unwrap_err();
        assert_eq!(error.kind, Kind::FailedPrecondition);
        assert!(error.message.contains("2 to 3") && error.message.contains("1 to 1"), "{}", error.message);
        assert_eq!(fields(wire::Hello { min_protocol: 4, ..hello() }), ["hello.min_protocol"]);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let bad = wire::Hello {
            worker_id: "-".into(),
            session_id: "x".into(),
            parent: "acme".into(),
            agents: vec![
                wire::AgentOffer { agent: "a b".into(), slot: "gpu".into(), ..Default::default() },
                wire::AgentOffer { agent: "cost".into(), description: "d".repeat(1_001), ..Default::default() },
                wire::AgentOffer { agent: "cost".into(), ..Default::default() },
            ],
            slots: vec![
                wire::SlotOffer { slot: String::new(), credits: 0 },
                wire::SlotOffer { slot: "default".into(), credits: 10_001 },
            ],
            sdk: "s".repeat(101),
            ..hello()
        };
        assert_eq!(
            fields(bad),
            [
                "hello.parent",
                "hello.worker_id",
                "hello.session_id",
                "hello.sdk",
                "hello.slots[0].credits",
                "hello.slots[1].credits",
                "hello.slots[1].slot",
                "hello.agents[0].agent",
                "hello.agents[0].slot",
                "hello.agents[1].description",
                "hello.agents[2].agent",
            ]
        );
        assert_eq!(
            fields(wire::Hello { agents: Vec::new(), slots: Vec::new(), ..hello() }),
            ["hello.slots", "hello.agents"]
        );
    }

    #[test]
    fn a_worker_may_answer_and_nothing_else() {
        let offer = |agent: &str, at_once| wire::AnswerOffer { agent: agent.into(), at_once, ..Default::default() };
        let answering = |answers| wire::Hello { agents: Vec::new(), slots: Vec::new(), answers, ..hello() };
        assert_eq!(read(answering(vec![offer("oracle", 8)])).unwrap().answers[0].at_once, 8);
        assert_eq!(
            fields(answering(vec![offer("a b", 1), offer("oracle", 0), offer("oracle", 10_001)])),
            [
                "hello.answers[0].agent",
                "hello.answers[1].at_once",
                "hello.answers[2].agent",
                "hello.answers[2].at_once",
            ]
        );
    }

    #[test]
    fn a_worker_without_streams_is_read() {
        let session = hello().session_id;
        let read = read_unary("", "w1", &session, vec!["cost".into(), "cost".into()]).unwrap();
        assert_eq!((read.agents.len(), read.slots.len()), (1, 0));
        assert_eq!(read_unary("", "", "x", Vec::new()).unwrap_err().violations.len(), 3);
        assert!(read_identity("namespaces/acme", "w1", &session).is_ok());
    }
}
