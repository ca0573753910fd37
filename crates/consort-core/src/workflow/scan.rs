//! A first look at the text of templates and expressions, before any grammar: where expressions begin and end, and whether one is
//! small enough to be parsed.

use super::expression::Problem;
use super::suggest::brief;

/// Longest expression, in bytes.
const TEXT_LIMIT: usize = 4 * 1024;
/// Most tokens of an expression. It bounds how deep a parser can recurse.
const TOKEN_LIMIT: usize = 500;

/// A part of a template string.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Literal(String),
    Expression(String),
}

/// Splits a string at its `${{ }}`. `$${{` stands for a literal `${{`.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, Problem> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${{") {
        let (before, after) = (&rest[..at], &rest[at + 3..]);
        if let Some(before) = before.strip_suffix('$') {
            literal += before;
            literal += "${{";
            rest = after;
            continue;
        }
        literal += before;
        let Some(end) = end_of_expression(after) else {
            let message = format!("`${{{{{}` has no closing `}}}}`", brief(after, 40));
            return Err(Problem::new(message, "close it with `}}`, or write `$${{` for the characters themselves"));
        };
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Expression(after[..end].to_owned()));
        rest = &after[end + 2..];
    }
    literal += rest;
    if !literal.is_empty() || parts.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// Where the `}}` stands that closes an expression: not one in quotes, not one that closes maps.
fn end_of_expression(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\'' | b'"' => at = end_of_literal(text, at)?,
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where a CEL text literal that opens at `start` ends: the index of its last quote.
fn end_of_literal(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let quote = bytes[start];
    let raw = start > 0 && matches!(bytes[start - 1], b'r' | b'R');
    let triple = bytes[start..].starts_with(&[quote; 3]);
    let mut at = start + if triple { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if !raw => at += 1,
            byte if byte == quote && !triple => return Some(at),
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3]) => return Some(at + 2),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The expression with its text literals blanked, if it is small enough to be parsed.
pub(super) fn code(source: &str) -> Result<String, Problem> {
    if source.is_empty() {
        return Err(Problem::new("the expression is empty", "write for example `${{ inputs.name }}`"));
    }
    if source.len() > TEXT_LIMIT {
        let message = format!("`{}` has {} bytes; at most {TEXT_LIMIT} are allowed", brief(source, 60), source.len());
        return Err(Problem::new(message, "compute parts of it in `set` steps"));
    }
    let bytes = source.as_bytes();
    let mut code = String::with_capacity(source.len());
    let (mut at, mut tokens, mut in_word) = (0, 0usize, false);
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'\'' || byte == b'"' {
            let Some(end) = end_of_literal(source, at) else {
                let message = format!("`{}` has a text without closing quote", brief(source, 80));
                return Err(Problem::new(message, format!("close it with {}", byte as char)));
            };
            code.extend(std::iter::repeat_n(' ', end + 1 - at));
            tokens += 1;
            in_word = false;
            at = end + 1;
            continue;
        }
        let word = byte.is_ascii_alphanumeric() || byte == b'_';
        if !(byte.is_ascii_whitespace() || word && in_word) {
            tokens += 1;
        }
        in_word = word;
        code.push(if byte.is_ascii() { byte as char } else { ' ' });
        at += 1;
    }
    if tokens > TOKEN_LIMIT {
        let message =
            format!("`{}` has {tokens} words and signs; at most {TOKEN_LIMIT} are allowed", brief(source, 60));
        return Err(Problem::new(message, "compute parts of it in `set` steps"));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_split_at_expressions() {
        let text = |t: &str| Part::Literal(t.to_owned());
        let code = |t: &str| Part::Expression(t.to_owned());
        for (source, expected) in [
            ("plain", vec![text("plain")]),
            ("", vec![text("")]),
            ("${{ a }}", vec![code(" a ")]),
            ("x ${{a}}${{b}} y", vec![text("x "), code("a"), code("b"), text(" y")]),
            ("$${{ a }}", vec![text("${{ a }}")]),
            ("$$${{ a }}", vec![text("$${{ a }}")]),
            ("${{ '}}' }}", vec![code(" '}}' ")]),
            (r"${{ '\'}}' }}", vec![code(r" '\'}}' ")]),
            (r"${{ r'\' }}", vec![code(r" r'\' ")]),
            (r#"${{ """}}"}}""" }}"#, vec![code(r#" """}}"}}""" "#)]),
            ("${{ {'a': {'b': 1}} }}", vec![code(" {'a': {'b': 1}} ")]),
            ("${{{'a': 1}}}", vec![code("{'a': 1}")]),
            ("$ {{ a }}", vec![text("$ {{ a }}")]),
        ] {
            assert_eq!(parts(source), Ok(expected), "{source}");
        }
        for open in ["${{ a", "${{ 'a }}", "${{ {'a': 1 }}"] {
            assert!(parts(open).unwrap_err().message.contains("no closing"), "{open}");
        }
    }

    #[test]
    fn only_small_expressions_are_code() {
        assert_eq!(code("a + 'b.c' + d"), Ok("a +       + d".to_owned()));
        assert_eq!(code("é"), Ok("  ".to_owned()));
        for (source, reason) in
            [("", "empty"), ("'a", "closing quote"), (&"a".repeat(5000), "4096"), (&"-".repeat(501), "501 words")]
        {
            assert!(code(source).unwrap_err().message.contains(reason), "{reason}");
        }
    }
}
