//! `${secret:NAME}` in the entry of an MCP server: a secret by reference, in its `headers` and its `env`.

use std::collections::BTreeMap;

use consort_core::{Error, Violation};
use serde_json::Value;

use crate::config::SecretFrom;

const BEGIN: &str = "${secret:";
const END: char = '}';
/// Members of the entry in which references are followed. Elsewhere (a command line, an address) others could read the secret.
const PLACES: [&str; 2] = ["env", "headers"];

/// A text in pieces: what stands there, and names of secrets. `Err` if a reference has no end or no name.
fn pieces(text: &str) -> Result<Vec<(&str, Option<&str>)>, ()> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, behind) = after.split_once(END).filter(|(name, _)| !name.is_empty()).ok_or(())?;
        found.push((before, Some(name)));
        rest = behind;
    }
    found.push((rest, None));
    Ok(found)
}

/// References that cannot be followed, with fields below `plugins.ID`.
pub(crate) fn mistakes(id: &str, entry: &Value, secrets: &BTreeMap<String, SecretFrom>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (member, value) in entry.as_object().into_iter().flatten() {
        let field = format!("plugins.{id}.mcp.{member}");
        let mut say = |field: String, description: String| wrong.push(Violation { field, description });
        if !PLACES.contains(&member.as_str()) {
            if value.to_string().contains(BEGIN) {
                say(
                    field,
                    "has a reference to a secret; write it in `headers` or `env`, because others can see this".into(),
                );
            }
            continue;
        }
        for (name, text) in value.as_object().into_iter().flatten() {
            let Some(text) = text.as_str() else { continue };
            let field = format!("{field}.{name}");
            let Ok(pieces) = pieces(text) else {
                say(field, format!("has a reference without an end or a name; write `{BEGIN}NAME{END}`"));
                continue;
            };
            for secret in pieces.into_iter().filter_map(|(_, secret)| secret) {
                if !secrets.contains_key(secret) {
                    let hint =
                        format!("add `secrets: {{{secret}: {{env: VARIABLE}}}}` or `{{file: PATH}}` to `plugins.{id}`");
                    say(field.clone(), format!("refers to the secret `{secret}`, which the plugin has not; {hint}"));
                }
            }
        }
    }
    wrong
}

/// The entry with its secrets. FAILED_PRECONDITION (reason SECRET_MISSING) names the first that is not where it should be, and the place.
pub(crate) fn resolved(id: &str, entry: &Value, secrets: &[(String, SecretFrom)]) -> Result<Value, Error> {
    let mut entry = entry.clone();
    for place in PLACES {
        for (name, value) in entry.get_mut(place).and_then(Value::as_object_mut).into_iter().flatten() {
            let Some(text) = value.as_str().filter(|text| text.contains(BEGIN)) else { continue };
            let mut whole = String::new();
            // The file was checked; what cannot be followed stays as it is.
            let Ok(pieces) = pieces(text) else { continue };
            for (before, secret) in pieces {
                whole.push_str(before);
                let Some(secret) = secret else { continue };
                let from = secrets.iter().find(|(known, _)| known == secret).map(|(_, from)| from);
                let read =
                    from.and_then(|from| from.read().ok()).ok_or_else(|| missing(id, place, name, secret, from))?;
                whole.push_str(&read);
            }
            *value = Value::String(whole);
        }
    }
    Ok(entry)
}

fn missing(id: &str, place: &str, name: &str, secret: &str, from: Option<&SecretFrom>) -> Error {
    let reload = format!("`consort plugins reload {id}`");
    let fix = match from {
        None => format!("add it to `plugins.{id}.secrets` in plugins.yaml, then {reload}"),
        Some(from) if from.env.is_some() => format!("{from} is not set or empty: set it, and start the server again"),
        Some(from) => format!("{from} is empty or cannot be read: write the secret there, then {reload}"),
    };
    let said = format!("plugin `{id}` needs the secret `{secret}` for `mcp.{place}.{name}`; {fix}");
    Error::precondition("SECRET_MISSING", said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(path: &std::path::Path) -> SecretFrom {
        SecretFrom { env: None, file: Some(path.to_owned()) }
    }

    #[test]
    fn references_are_followed_where_they_may_stand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        let secrets = vec![
            ("TOKEN".to_owned(), file(&path)),
            ("HOME".to_owned(), SecretFrom { env: Some("HOME".into()), file: None }),
        ];
        let entry = json!({"url": "http://x", "headers": {"authorization": "Bearer ${secret:TOKEN}", "plain": "$x ${y}"},
            "env": {"BOTH": "${secret:TOKEN}:${secret:HOME}."}});
        let whole = resolved("x", &entry, &secrets).unwrap();
        assert_eq!(whole["headers"], json!({"authorization": "Bearer s3cret", "plain": "$x ${y}"}));
        assert_eq!(whole["env"]["BOTH"], format!("s3cret:{}.", std::env::var("HOME").unwrap()));
        assert_eq!(whole["url"], "http://x");

        std::fs::remove_file(&path).unwrap();
        let said = resolved("x", &entry, &secrets).unwrap_err();
        assert_eq!(said.reason, "SECRET_MISSING");
        for part in ["`TOKEN`", "`mcp.", "token", "consort plugins reload x"] {
            assert!(said.message.contains(part), "{part}: {said}");
        }
        let unset = vec![("TOKEN".to_owned(), SecretFrom { env: Some("CONSORT_NO_SUCH_VARIABLE".into()), file: None })];
        let said = resolved("x", &json!({"env": {"A": "${secret:TOKEN}"}}), &unset).unwrap_err().message;
        assert!(said.contains("CONSORT_NO_SUCH_VARIABLE is not set or empty"), "{said}");
    }

    #[test]
    fn references_that_lead_nowhere_are_told_with_their_field() {
        let secrets = BTreeMap::from([("T".to_owned(), file("/t".as_ref()))]);
        let entry = json!({"command": ["x", "${secret:T}"], "env": {"A": "${secret:U}", "B": "${secret:T", "C": "${secret:}", "D": "${secret:T}"}});
        let wrong: Vec<String> = mistakes("x", &entry, &secrets)
            .into_iter()
            .map(|one| format!("{}: {}", one.field, one.description))
            .collect();
        assert_eq!(wrong.len(), 4, "{wrong:#?}");
        for part in [
            "plugins.x.mcp.command: has a reference to a secret",
            "plugins.x.mcp.env.A: refers to the secret `U`, which the plugin has not; add `secrets: {U: {env: VARIABLE}}`",
            "plugins.x.mcp.env.B: has a reference without an end",
            "plugins.x.mcp.env.C: has a reference without an end",
        ] {
            assert!(wrong.iter().any(|one| one.starts_with(part)), "{part}: {wrong:#?}");
        }
    }
}
