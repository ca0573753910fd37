//! Lines of a stream, each with a limit. Of a line that is longer its beginning and end are kept, which say whose answer it was.

use std::io;

use rmcp::model::RequestId;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// Bytes that are kept of either end.
const END: usize = 256;

/// What was read.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    /// A line without its end.
    Whole(Vec<u8>),
    /// It was longer than the limit: its first and last bytes.
    Long(Vec<u8>, Vec<u8>),
}

/// The next line; `None` at the end. Not to be dropped in the middle.
pub(crate) async fn next<R: AsyncBufRead + Unpin>(from: &mut R, limit: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut cut: Option<(Vec<u8>, Vec<u8>)> = None;
    loop {
        let available = from.fill_buf().await?;
        if available.is_empty() {
            // What has no end was broken off.
            return Ok(None);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let piece = &available[..end.unwrap_or(available.len())];
        match &mut cut {
            Some((_, last)) => keep_last(last, piece),
            None if line.len() + piece.len() > limit => {
                line.extend_from_slice(&piece[..piece.len().min(END)]);
                let mut last = line.clone();
                keep_last(&mut last, piece);
                line.truncate(END);
                cut = Some((std::mem::take(&mut line), last));
            }
            None => line.extend_from_slice(piece),
        }
        let used = end.map_or(piece.len(), |end| end + 1);
        from.consume(used);
        if end.is_some() {
            if let Some((first, last)) = cut {
                return Ok(Some(Line::Long(first, last)));
            }
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(Line::Whole(line)));
        }
    }
}

fn keep_last(last: &mut Vec<u8>, piece: &[u8]) {
    last.extend_from_slice(&piece[piece.len().saturating_sub(END)..]);
    let beyond = last.len().saturating_sub(END);
    last.drain(..beyond);
}

/// Whose answer a line was that is known by its ends only: `{"jsonrpc":"2.0","id":7,...` or `...,"id":7}`.
pub(crate) fn answered(first: &[u8], last: &[u8]) -> Option<RequestId> {
    let squeeze = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace([' ', '\r'], "");
    let (first, last) = (squeeze(first), squeeze(last));
    let at_head = first.strip_prefix('{').and_then(|rest| {
        let rest = rest.strip_prefix("\"jsonrpc\":\"2.0\",").unwrap_or(rest);
        rest.strip_prefix("\"id\":")?.split(',').next().map(str::to_owned)
    });
    let at_tail = || {
        let rest = last.strip_suffix('}')?;
        let rest = rest.strip_suffix(",\"jsonrpc\":\"2.0\"").unwrap_or(rest);
        rest.rsplit_once("\"id\":").map(|(_, id)| id.to_owned())
    };
    [at_head, at_tail()].into_iter().flatten().find_map(|id| id_of(&serde_json::from_str(&id).ok()?))
}

/// An id of JSON-RPC.
pub(crate) fn id_of(value: &Value) -> Option<RequestId> {
    match value {
        Value::Number(number) => number.as_i64().map(RequestId::Number),
        Value::String(text) => Some(RequestId::String(text.as_str().into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_have_a_limit() {
        let long = format!("{{\"result\":\"{}\",\"jsonrpc\":\"2.0\",\"id\":7}}", "x".repeat(100_000));
        let text = format!("one\r\n{long}\ntwo\nbroken off");
        let mut from = tokio::io::BufReader::with_capacity(1_000, text.as_bytes());
        assert_eq!(next(&mut from, 5_000).await.unwrap(), Some(Line::Whole(b"one".to_vec())));
        let Some(Line::Long(first, last)) = next(&mut from, 5_000).await.unwrap() else { panic!("long") };
        assert_eq!(answered(&first, &last), Some(RequestId::Number(7)));
        assert_eq!(next(&mut from, 5_000).await.unwrap(), Some(Line::Whole(b"two".to_vec())));
        assert_eq!(next(&mut from, 5_000).await.unwrap(), None);
    }

    #[test]
    fn the_id_is_only_taken_from_where_it_must_be() {
        let id = |first: &str, last: &str| answered(first.as_bytes(), last.as_bytes());
        assert_eq!(id("{\"jsonrpc\": \"2.0\", \"id\": 3, \"result\"", "x"), Some(RequestId::Number(3)));
        assert_eq!(id("{\"result\":{", "}]},\"id\":\"a\"}"), Some(RequestId::String("a".into())));
        assert_eq!(id("{\"result\":{\"id\":5,", "\"x\":1}}"), None);
        assert_eq!(id("", ""), None);
    }
}
