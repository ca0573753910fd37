//! A decision as an elicitation, and its answer.

use rmcp::model::{ClientCapabilities, ElicitRequestParams, ElicitResult, ElicitationAction};
use serde_json::{Map, Value, json};

use crate::server::workflows::{Answer, DecisionView};

/// The field of the form that takes the option; a field of the decision's own form that has its name is not asked for.
const OPTION: &str = "option";

/// Whether a client can be asked by a form. One that says nothing of modes means forms.
pub(crate) fn can_ask(client: Option<&ClientCapabilities>) -> bool {
    let elicitation = client.and_then(|client| client.elicitation.as_ref());
    elicitation.is_some_and(|modes| modes.form.is_some() || modes.url.is_none())
}

/// The question; `None` if it has no options or its form cannot be put as one: then it waits in the inbox.
pub(crate) fn question(decision: &DecisionView) -> Option<ElicitRequestParams> {
    if decision.options.is_empty() {
        return None;
    }
    let ids: Vec<&str> = decision.options.iter().map(|(id, _)| id.as_str()).collect();
    let labels: Vec<&str> = decision.options.iter().map(|(_, label)| label.as_str()).collect();
    let mut properties = Map::new();
    properties
        .insert(OPTION.to_owned(), json!({"type": "string", "title": "Answer", "enum": ids, "enumNames": labels}));
    let mut required = vec![Value::from(OPTION)];
    let form = decision.form.as_ref();
    for (name, field) in form.and_then(|form| form["properties"].as_object()).into_iter().flatten() {
        let needed =
            form.and_then(|form| form["required"].as_array()).is_some_and(|all| all.iter().any(|one| one == name));
        // Forms of MCP have plain fields only.
        let plain = matches!(field["type"].as_str(), Some("string" | "number" | "integer" | "boolean"));
        if !plain || name == OPTION {
            if needed {
                return None;
            }
            continue;
        }
        let known = [
            "type",
            "title",
            "description",
            "enum",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "format",
            "default",
        ];
        let kept = field.as_object().into_iter().flatten().filter(|(word, _)| known.contains(&word.as_str()));
        properties
            .insert(name.clone(), Value::Object(kept.map(|(word, value)| (word.clone(), value.clone())).collect()));
        if needed {
            required.push(name.clone().into());
        }
    }
    let schema = json!({"type": "object", "properties": properties, "required": required});
    let asked = json!({"mode": "form", "message": decision.question, "requestedSchema": schema});
    serde_json::from_value(asked).ok()
}

/// The answer to a question; `None` if the person did not give one.
pub(crate) fn answer(decision: &str, said: ElicitResult, by: &str) -> Option<Answer> {
    if said.action != ElicitationAction::Accept {
        return None;
    }
    let Some(Value::Object(mut fields)) = said.content else { return None };
    let option = fields.shift_remove(OPTION)?.as_str()?.to_owned();
    let form = (!fields.is_empty()).then_some(Value::Object(fields));
    Some(Answer { decision: decision.to_owned(), option, form, by: by.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(form: Option<Value>) -> DecisionView {
        let options = vec![("yes".to_owned(), "Do it".to_owned()), ("no".to_owned(), "Leave it".to_owned())];
        DecisionView { decision: "d1".into(), question: "Deploy?".into(), options, form, ..DecisionView::default() }
    }

    #[test]
    fn options_are_an_enum_and_plain_fields_are_asked_for() {
        let form = json!({"type": "object", "required": ["reason"], "properties": {
            "reason": {"type": "string", "maxLength": 100}, "list": {"type": "array"}}});
        let asked = serde_json::to_value(question(&decision(Some(form))).unwrap()).unwrap();
        assert_eq!(asked["message"], "Deploy?");
        assert_eq!(asked["requestedSchema"]["properties"]["option"]["enum"], json!(["yes", "no"]));
        assert_eq!(asked["requestedSchema"]["required"], json!(["option", "reason"]));
        assert!(asked["requestedSchema"]["properties"].get("list").is_none());
        let needs_list = json!({"required": ["list"], "properties": {"list": {"type": "array"}}});
        assert!(question(&decision(Some(needs_list))).is_none());
    }

    #[test]
    fn only_an_accepted_answer_counts() {
        let said = |action: &str, content: Value| -> ElicitResult {
            serde_json::from_value(json!({"action": action, "content": content})).unwrap()
        };
        let given = answer("d1", said("accept", json!({"option": "yes", "reason": "now"})), "ada").unwrap();
        assert_eq!(
            (given.option.as_str(), given.form, given.by.as_str()),
            ("yes", Some(json!({"reason": "now"})), "ada")
        );
        assert!(answer("d1", said("decline", json!({"option": "yes"})), "ada").is_none());
        assert!(answer("d1", said("accept", json!({})), "ada").is_none());
    }
}
