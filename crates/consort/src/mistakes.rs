//! Mistakes in a definition, shown where they are.

use std::fmt::Write as _;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity};

/// One mistake as the server reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Place in the definition, for example `steps[2].needs[0]`; may be empty.
    pub field: String,
    /// Line and column, from 1, if they are known.
    pub place: Option<(usize, usize)>,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl Mistake {
    /// Reads a violation whose description may begin with `line L, column C: `.
    pub(crate) fn parse(field: &str, description: &str) -> Mistake {
        let placed = description.strip_prefix("line ").and_then(|rest| {
            let (line, rest) = rest.split_once(", column ")?;
            let (column, message) = rest.split_once(": ")?;
            let place = (line.parse().ok()?, column.parse().ok()?);
            (place.0 > 0 && place.1 > 0).then_some((place, message))
        });
        let (place, message) = match placed {
            Some((place, message)) => (Some(place), message),
            None => (None, description),
        };
        Mistake { field: field.to_owned(), place, message: message.to_owned() }
    }
}

/// All mistakes with the lines they are in, for a person.
pub(crate) fn render(file: &str, source: &str, mistakes: &[Mistake], coloured: bool) -> String {
    let theme = if coloured { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_context_lines(1).with_width(110);
    let mut out = String::new();
    for mistake in mistakes {
        let span = mistake.place.and_then(|(line, column)| span_at(source, line, column));
        let Some((offset, length)) = span else {
            let place = match mistake.field.as_str() {
                "" => String::new(),
                field => format!(" {field}:"),
            };
            let _ = writeln!(out, "{file}:{place} {}\n", mistake.message);
            continue;
        };
        let label = LabeledSpan::at(offset..offset + length, mistake.field.clone());
        let diagnostic =
            MietteDiagnostic::new(mistake.message.clone()).with_severity(Severity::Error).with_label(label);
        let report = Report::new(diagnostic).with_source_code(NamedSource::new(file, source.to_owned()));
        if handler.render_report(&mut out, report.as_ref()).is_err() {
            let _ = writeln!(out, "{}", mistake.message);
        }
        out.push('\n');
    }
    out
}

/// Byte offset and length of the word at a line and column, both from 1; columns count characters.
fn span_at(source: &str, line: usize, column: usize) -> Option<(usize, usize)> {
    let text = source.split_inclusive('\n').nth(line - 1)?;
    let start: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let text = text.trim_end_matches(['\n', '\r']);
    let inside = text.char_indices().nth(column - 1).map_or(text.len(), |(index, _)| index);
    let word = text[inside..].find([' ', ',', ']', '}']).unwrap_or(text.len() - inside);
    Some((start + inside, word.max(usize::from(inside < text.len()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "name: x\nsteps:\n  - {id: a, needs: [b]}\n";

    #[test]
    fn places_are_read() {
        let mistake = Mistake::parse("steps[0].needs[0]", "line 3, column 21: there is no step `b`: add it");
        assert_eq!(mistake.place, Some((3, 21)));
        assert_eq!(mistake.message, "there is no step `b`: add it");
        for whole in ["line 3: x", "no place", "line 0, column 0: x", "line x, column 2: y"] {
            let mistake = Mistake::parse("", whole);
            assert_eq!((mistake.place, mistake.message.as_str()), (None, whole));
        }
    }

    #[test]
    fn the_line_is_shown_with_the_message() {
        let found = [
            Mistake::parse("steps[0].needs[0]", "line 3, column 21: there is no step `b`"),
            Mistake::parse("steps", "line 99, column 1: beyond"),
            Mistake::parse("name", "too short"),
        ];
        let text = render("w.yaml", SOURCE, &found, false);
        assert!(text.contains("w.yaml:3:21") && text.contains("steps[0].needs[0]"), "{text}");
        assert!(text.contains("- {id: a, needs: [b]}"), "{text}");
        assert!(text.contains("there is no step `b`"), "{text}");
        assert!(text.contains("w.yaml: steps: beyond"), "{text}");
        assert!(text.contains("w.yaml: name: too short"), "{text}");
    }

    #[test]
    fn spans_cover_a_word() {
        assert_eq!(span_at(SOURCE, 3, 21).map(|(at, len)| &SOURCE[at..at + len]), Some("b"));
        assert_eq!(span_at(SOURCE, 1, 1).map(|(at, len)| &SOURCE[at..at + len]), Some("name:"));
        assert_eq!(span_at("é b\n", 1, 3), Some((3, 1)));
        assert_eq!(span_at("a\n", 1, 40), Some((1, 0)));
        assert_eq!(span_at("a\n", 9, 1), None);
    }
}
