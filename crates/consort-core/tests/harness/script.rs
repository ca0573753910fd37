//! What a script can say; `tests/language/README.md` lists it.

use std::time::Duration;

use consort_core::StepKey;
use consort_core::data::{Data, Json};
use consort_core::event::{Code, Failure, LeaseLoss, Report};
use consort_core::run::{Command, Question};
use consort_core::workflow::{Workflow, parse_duration};
use serde_json::{Value, json};

use super::World;

impl World {
    /// Does what one entry of a script says, to the run of this number.
    pub(super) fn act(&mut self, number: usize, entry: &Value) {
        let (verb, said) = match entry {
            Value::String(verb) => (verb.as_str(), Value::Null),
            Value::Object(map) if map.len() == 1 => {
                map.iter().map(|(verb, said)| (verb.as_str(), said.clone())).next().unwrap()
            }
            other => panic!("an entry of a script has one verb, not {other}"),
        };
        let reason = || said.as_str().unwrap_or_default().to_owned();
        match verb {
            "lease" => {
                for step in one_or_more(&said) {
                    self.token(number, &step);
                }
            }
            "lose" => {
                for step in one_or_more(&said) {
                    let token = self.token(number, &step).unwrap();
                    self.send(number, Command::LoseLease { step, token, reason: LeaseLoss::Expired });
                }
            }
            "tick" => self.tick(&said),
            "pause" => self.send(number, Command::Pause { reason: reason() }),
            "resume" => self.send(number, Command::Resume),
            "cancel" => self.send(number, Command::Cancel { reason: reason() }),
            "retry" => self.send(number, Command::Retry),
            "in" => {
                let step: StepKey = said["step"].as_str().unwrap().parse().unwrap();
                let parent = (self.members[number].run.id, step);
                let child = self.members.iter().rposition(|member| member.parent.as_ref() == Some(&parent));
                for entry in said["do"].as_array().unwrap() {
                    self.act(child.unwrap(), entry);
                }
            }
            "signal" => {
                for (signal, payload) in said.as_object().unwrap() {
                    self.send(number, Command::Signal { signal: signal.clone(), payload: Data::of(payload) });
                }
            }
            "late" => {
                let step = said["step"].as_str().unwrap().parse().unwrap();
                let (token, output) = (said["token"].as_u64().unwrap(), Data::of(&said["output"]));
                self.send(number, Command::Complete { step, token, output });
            }
            "complete" | "fail" | "plan" | "ask" | "report" | "answer" => {
                for (step, value) in said.as_object().unwrap_or_else(|| panic!("`{verb}` takes `{{step: …}}`")) {
                    self.act_on_step(number, verb, step.parse().unwrap(), value);
                }
            }
            other => panic!("a script cannot say `{other}`"),
        }
    }

    fn act_on_step(&mut self, number: usize, verb: &str, step: StepKey, value: &Value) {
        if verb == "answer" {
            return self.answer(number, step, value);
        }
        if verb == "complete" {
            return self.complete(number, step, Data::of(value));
        }
        let Some(token) = self.token(number, &step) else { return };
        let command = match verb {
            "fail" => failure(step, token, value),
            "ask" => Command::Ask { step, token, question: question(value) },
            "report" => {
                let report = Report::Log { level: "info".into(), text: value.as_str().unwrap().to_owned() };
                Command::Report { step, token, report }
            }
            // What the engine does with a plan: one that has mistakes is a failed attempt.
            _ => match Workflow::parse(value.as_str().unwrap()) {
                Ok(plan) => Command::Plan { step, token, source: Data::of(value), plan: plan.into() },
                Err(mistakes) => {
                    let text = format!("line {}: {}", mistakes[0].line, mistakes[0].message);
                    failure(step, token, &json!({"code": "INVALID_ARGUMENT", "message": text}))
                }
            },
        };
        self.send(number, command);
    }

    fn answer(&mut self, number: usize, step: StepKey, value: &Value) {
        let unit = self.members[number].run.unit(&step).unwrap();
        let last = unit.clarified.last().map(|clarified| clarified.decision);
        let attempt = unit.attempt;
        let id = self.members[number].run.id;
        let asked =
            unit.asked.as_ref().map(|asked| asked.decision).or(last).unwrap_or_else(|| id.decision(&step, attempt));
        let option = value.as_str().or(value["option"].as_str()).unwrap_or("answer").to_owned();
        let form = value.get("form").map(Data::of);
        let by = value["by"].as_str().unwrap_or("ada").to_owned();
        self.send(number, Command::Answer { step, decision: asked, option, form, by });
    }

    /// Time passes, for all runs.
    fn tick(&mut self, said: &Value) {
        let wakes = self.members.iter().filter_map(|member| member.run.next_wake());
        self.now = match said.as_str().unwrap() {
            "next" => wakes.min().unwrap().max(self.now),
            time => self.now + duration(time).as_millis() as i64,
        };
        for number in 0..self.members.len() {
            if self.members[number].run.next_wake().is_some_and(|wake| wake <= self.now) {
                self.send(number, Command::Tick);
            }
        }
    }
}

fn duration(text: &str) -> Duration {
    parse_duration(text).unwrap()
}

fn one_or_more(said: &Value) -> Vec<StepKey> {
    let steps = said.as_array().cloned().unwrap_or_else(|| vec![said.clone()]);
    steps.iter().map(|step| step.as_str().unwrap().parse().unwrap()).collect()
}

/// `fail: {step: CODE}` or `fail: {step: {code: CODE, message: …, retryable: false, retry_after: 5s}}`.
fn failure(step: StepKey, token: u64, value: &Value) -> Command {
    let code = value.as_str().or(value["code"].as_str()).unwrap();
    let message = value["message"].as_str().unwrap_or("it did not work");
    Command::Fail {
        step,
        token,
        error: Failure::new(Code::named(code).unwrap(), message),
        retryable: value["retryable"].as_bool().unwrap_or(true),
        retry_after: value["retry_after"].as_str().map(duration),
    }
}

fn question(value: &Value) -> Question {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let options = value["options"].as_array().map(|all| all.iter().map(|o| o.as_str().unwrap().to_owned()).collect());
    Question {
        title: text("title").unwrap_or_default(),
        description: text("description").unwrap_or_default(),
        options: options.unwrap_or_else(|| vec!["answer".to_owned()]),
        form: value.get("form").map(Json::of),
        deadline: text("deadline").map(|text| duration(&text)),
        default: text("default"),
    }
}
