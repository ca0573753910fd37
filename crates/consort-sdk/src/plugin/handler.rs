//! An operation's code with its types hidden: JSON text in, JSON text out.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Code;

use super::call::Call;
use super::fault::Fault;
use crate::payload;

/// What does an operation.
pub(super) type Handler = Arc<dyn Fn(Call, String) -> BoxFuture<'static, Result<String, Fault>> + Send + Sync>;

/// Hides the types of a handler.
pub(super) fn erase<I, O, F, R>(handler: F) -> Handler
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + 'static,
    F: Fn(Call, I) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, Fault>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |call, text| {
        let handler = handler.clone();
        Box::pin(async move {
            let input: I = read(&text, "input")?;
            drop(text);
            let output = handler(call, input).await?;
            serde_json::to_string(&output)
                .map_err(|error| Fault::new(Code::Internal, format!("the output is not JSON: {error}")))
        })
    })
}

/// Reads JSON text; a mistake names its field, from `root` on.
pub(super) fn read<T: DeserializeOwned>(text: &str, root: &str) -> Result<T, Fault> {
    payload::read(text.as_bytes()).map_err(|misfit| {
        let mut field = match misfit.field.as_str() {
            "." => root.to_owned(),
            path => format!("{root}.{path}"),
        };
        // serde tells of a missing or unknown member at the object that should have it, or not.
        let member = ["missing field `", "unknown field `"].iter().find_map(|start| misfit.why.strip_prefix(start));
        if let Some((name, _)) = member.and_then(|rest| rest.split_once('`'))
            && !field.ends_with(&format!(".{name}"))
        {
            field = format!("{field}.{name}");
        }
        Fault::bad_input(field, misfit.why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Input {
        path: String,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        n: u8,
    }

    #[test]
    fn a_mistake_names_its_field() {
        for (text, field) in [
            ("{}", "input.path"),
            (r#"{"path": 1}"#, "input.path"),
            (r#"{"path": "", "x": 1}"#, "input.x"),
            (r#"{"path": "", "inner": [{"n": 1}, {"n": 256}]}"#, "input.inner[1].n"),
            (r#"{"path": "", "inner": [{}]}"#, "input.inner[0].n"),
            ("[]", "input"),
        ] {
            let fault = read::<Input>(text, "input").unwrap_err();
            assert_eq!((fault.code, fault.violations[0].0.as_str()), (Code::InvalidArgument, field), "{text}");
        }
    }
}
