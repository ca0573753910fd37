//! What the demo leaves: two files and a few lines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use consort_proto::orchestrator::Run;
use serde_json::{Value, json};

use crate::context::Mesh;
use crate::failure::{Failure, Result};
use crate::output::text;

/// How many findings are told; the report has them all.
const TOLD: usize = 3;

/// The written report.
#[derive(Debug)]
pub(super) struct Written {
    /// The page.
    pub(super) html: PathBuf,
    /// The figures.
    pub(super) json: PathBuf,
}

/// Writes report.html and report.json from a run's output.
pub(super) fn write(out: &Path, output: &Value) -> Result<Written> {
    let html = output["html"].as_str().filter(|html| !html.is_empty());
    let (Some(html), Some(figures)) = (html, output.get("report")) else {
        return Err(Failure::failed(
            "the run's output has no `html` and `report`: the reporter did not keep its contract",
        ));
    };
    let folder = std::path::absolute(out)?;
    let save = |name: &str, content: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, content))
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
        Ok(path)
    };
    Ok(Written { html: save("report.html", html)?, json: save("report.json", &format!("{figures:#}\n"))? })
}

/// The report's opening paragraph and who wrote it, for people; nothing without a report.
pub(super) fn opening(output: &Value) -> String {
    let Some(said) = output["summary"]["text"].as_str() else { return String::new() };
    let by = match (output["summary"]["model"].as_str(), output["summary"]["refused"].as_str()) {
        (Some(model), _) => format!("by the model {model}, checked against the figures"),
        (None, why) => format!("from a template; {}", why.unwrap_or("no model was asked")),
    };
    format!("summary    {}\n           ({})\n", text::one_line(said, 1_000), text::one_line(&by, 300))
}

/// Why a step failed, in a line; nothing if it did not.
pub(super) fn failed(run: &Run, step: &str) -> Vec<String> {
    let found = run.steps.iter().find(|status| status.step == step);
    let error = found.and_then(|status| status.error.as_ref());
    error.map(|error| format!("step {step}: {}", text::one_line(&error.message, 1_000))).into_iter().collect()
}

/// The figures a person wants first, from the outputs of the run's steps.
#[derive(Debug)]
pub(super) struct Summary {
    history: Value,
    waste: Value,
    cost: Value,
    scenario: Value,
}

impl Summary {
    /// Reads them from the run.
    pub(super) async fn of(mesh: &Mesh, run: &Run) -> Result<Summary> {
        let read = async |step: &str| {
            let found = run.steps.iter().find(|status| status.step == step);
            mesh.value(found.and_then(|status| status.output.as_ref())).await
        };
        Ok(Summary {
            history: read("history").await?["summary"].take(),
            waste: read("waste").await?,
            cost: read("cost").await?,
            scenario: read("scenario").await?,
        })
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "saving_per_year": self.scenario["saving"],
            "currency": self.scenario["currency"],
            "hours": self.history["hours"],
            "total_cost": self.cost["total_cost"],
        })
    }

    /// For people.
    pub(super) fn lines(&self) -> String {
        let number = |value: &Value| text::thousands(value.as_f64().unwrap_or_default());
        let currency = self.scenario["currency"].as_str().unwrap_or_default();
        let mut lines = String::new();
        let _ = writeln!(
            lines,
            "observed   {} hours of {} people in {} entries, worth {} {currency}",
            number(&self.history["hours"]),
            number(&self.history["authors"]),
            number(&self.history["entries"]),
            number(&self.cost["total_cost"]),
        );
        let _ = writeln!(lines, "saving     {} {currency} a year (expected)", number(&self.scenario["saving"]));
        let mut findings: Vec<&Value> =
            self.waste["findings"].as_array().into_iter().flatten().filter(|finding| hours(finding) > 0.0).collect();
        findings.sort_by(|a, b| hours(b).total_cmp(&hours(a)));
        for (index, finding) in findings.iter().take(TOLD).enumerate() {
            let label = if index == 0 { "findings" } else { "" };
            let title = text::one_line(finding["title"].as_str().unwrap_or("?"), 80);
            let _ = writeln!(lines, "{label:<10} {title}: {:.1} h", hours(finding));
        }
        lines
    }
}

fn hours(finding: &Value) -> f64 {
    finding["hours"].as_f64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a/b");
        let written = write(&out, &json!({"html": "<p>", "report": {"saving": 1}})).unwrap();
        assert_eq!(std::fs::read_to_string(written.html).unwrap(), "<p>");
        let figures: Value = serde_json::from_str(&std::fs::read_to_string(written.json).unwrap()).unwrap();
        assert_eq!(figures, json!({"saving": 1}));
        for bad in [json!(null), json!({"html": "", "report": {}}), json!({"html": "x"})] {
            assert!(write(&out, &bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_wrote_the_opening_is_told() {
        let said = opening(&json!({"summary": {"text": "In shop.", "model": "local/tiny", "refused": null}}));
        assert_eq!(said, "summary    In shop.\n           (by the model local/tiny, checked against the figures)\n");
        let said = opening(&json!({"summary": {"text": "In shop.", "model": null, "refused": "it was wrong"}}));
        assert!(said.ends_with("(from a template; it was wrong)\n"), "{said}");
        assert_eq!(opening(&Value::Null), "");
    }

    #[test]
    fn the_largest_findings_are_told_first() {
        let summary = Summary {
            history: json!({"hours": 1200.4, "authors": 3, "entries": 400}),
            waste: json!({"findings": [
                {"title": "small", "hours": 1}, {"title": "big", "hours": 9.5}, {"title": "c", "hours": 3}, {"title": "d", "hours": 0}
            ]}),
            cost: json!({"total_cost": 102_034.0}),
            scenario: json!({"saving": 12_345, "currency": "EUR"}),
        };
        assert_eq!(
            summary.lines(),
            "observed   1 200 hours of 3 people in 400 entries, worth 102 034 EUR\n\
             saving     12 345 EUR a year (expected)\n\
             findings   big: 9.5 h\n           c: 3.0 h\n           small: 1.0 h\n"
        );
    }
}
