//! The answers of the other agents, as far as the page shows them.

// The fields are named as in the agents' answers.
#![allow(clippy::struct_field_names)]

use consort_sdk::TaskError;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub(crate) struct Input {
    pub(crate) history: History,
    pub(crate) waste: Waste,
    pub(crate) friction: Friction,
    pub(crate) cost: Cost,
    pub(crate) scenario: Scenarios,
    /// Output of the decide step; only its option and who chose it are shown.
    #[serde(default)]
    pub(crate) decision: Value,
}

#[derive(Debug, Deserialize)]
pub(crate) struct History {
    pub(crate) source: Source,
    pub(crate) summary: Summary,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Source {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) method: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Summary {
    pub(crate) entries: u64,
    pub(crate) authors: u64,
    pub(crate) hours: f64,
    pub(crate) from: String,
    pub(crate) to: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Waste {
    pub(crate) waste_hours: f64,
    pub(crate) waste_share: f64,
    pub(crate) findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Finding {
    pub(crate) title: String,
    pub(crate) hours: f64,
    pub(crate) share: f64,
    pub(crate) count: u64,
    #[serde(default)]
    pub(crate) evidence: Vec<String>,
    #[serde(default)]
    pub(crate) advice: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Friction {
    pub(crate) friction_hours: f64,
    #[serde(default)]
    pub(crate) recurring: Vec<Recurring>,
    #[serde(default)]
    pub(crate) redundant: Vec<Redundant>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Recurring {
    pub(crate) pattern: String,
    pub(crate) count: u64,
    pub(crate) hours: f64,
    pub(crate) authors: u64,
    #[serde(default)]
    pub(crate) examples: Vec<String>,
    #[serde(default)]
    pub(crate) advice: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Redundant {
    pub(crate) task: String,
    pub(crate) count: u64,
    pub(crate) hours: f64,
    pub(crate) authors: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Cost {
    pub(crate) currency: String,
    pub(crate) total_hours: f64,
    pub(crate) total_cost: f64,
    pub(crate) by_category: Vec<CategoryCost>,
    pub(crate) by_author: Vec<AuthorCost>,
    pub(crate) by_month: Vec<MonthCost>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CategoryCost {
    pub(crate) category: String,
    pub(crate) hours: f64,
    pub(crate) cost: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AuthorCost {
    pub(crate) author: String,
    pub(crate) hours: f64,
    pub(crate) cost: f64,
    pub(crate) share: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MonthCost {
    pub(crate) month: String,
    pub(crate) cost: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Scenarios {
    pub(crate) saving: f64,
    pub(crate) scenarios: Vec<Scenario>,
    #[serde(default)]
    pub(crate) assumptions: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) recovered_share: f64,
    pub(crate) hours_per_month: f64,
    pub(crate) saving_per_year: f64,
}

/// Rows of a list that are read; a longer one is not the answer of an agent of this audit.
const MOST_ROWS: usize = 10_000;

impl Input {
    /// INVALID_ARGUMENT for negative figures and for lists that no page can show.
    pub(crate) fn check(&self) -> Result<(), TaskError> {
        for (field, value) in [
            ("history.summary.hours", self.history.summary.hours),
            ("waste.waste_hours", self.waste.waste_hours),
            ("waste.waste_share", self.waste.waste_share),
            ("friction.friction_hours", self.friction.friction_hours),
            ("cost.total_hours", self.cost.total_hours),
            ("cost.total_cost", self.cost.total_cost),
            ("scenario.saving", self.scenario.saving),
        ] {
            if value < 0.0 {
                return Err(TaskError::bad_input(field, format!("`{value}` is negative; give the agent's own answer")));
            }
        }
        for (field, rows) in [
            ("waste.findings", self.waste.findings.len()),
            ("friction.recurring", self.friction.recurring.len()),
            ("friction.redundant", self.friction.redundant.len()),
            ("cost.by_category", self.cost.by_category.len()),
            ("cost.by_author", self.cost.by_author.len()),
            ("cost.by_month", self.cost.by_month.len()),
            ("scenario.scenarios", self.scenario.scenarios.len()),
        ] {
            if rows > MOST_ROWS {
                return Err(TaskError::bad_input(field, format!("has {rows} rows; at most {MOST_ROWS} are read")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// The answers of an invented audit.
    pub(crate) fn figures() -> Value {
        json!({
            "history": {
                "source": {"kind": "git", "path": "/srv/shop", "method": "Estimated from commit times."},
                "summary": {"entries": 412, "authors": 4, "hours": 655.25, "from": "2026-07-01T09:00:00+02:00",
                    "to": "2026-09-30T17:45:00+02:00", "months": 2.99},
            },
            "waste": {"total_hours": 655.25, "waste_hours": 142.5, "waste_share": 0.2175, "findings": [
                {"kind": "rework", "title": "Work done again within a week", "hours": 71.5, "share": 0.1091, "count": 38,
                    "evidence": ["checkout: fixed 6 times in 9 days", "search: fixed 4 times in 5 days"],
                    "advice": "Add a regression test with each fix to checkout and search."},
                {"kind": "context-switching", "title": "Days with five or more tasks", "hours": 44.0, "share": 0.0671, "count": 22,
                    "evidence": ["Ana, 2026-08-14: 7 tasks"], "advice": "Keep two mornings a week free of interruptions."},
                {"kind": "revert", "title": "Reverted work", "hours": 27.0, "share": 0.0412, "count": 9,
                    "evidence": ["Revert \"feat: new cart\""], "advice": "Try risky changes behind a flag first."},
            ]},
            "friction": {"friction_hours": 58.0, "recurring": [
                {"pattern": "update snapshots", "count": 31, "hours": 24.5, "authors": 4,
                    "examples": ["update snapshots", "Update snapshot files"], "advice": "Let CI update them."},
                {"pattern": "bump version", "count": 18, "hours": 11.0, "authors": 2, "examples": [], "advice": "Automate releases."},
            ], "redundant": [{"task": "csv-export", "count": 5, "hours": 22.5, "authors": ["Ana", "Bo"]}]},
            "cost": {"currency": "EUR", "rate": 85, "total_hours": 655.25, "total_cost": 55696.25,
                "by_category": [
                    {"category": "feature", "hours": 260.0, "cost": 22100.0, "share": 0.3968},
                    {"category": "fix", "hours": 180.25, "cost": 15321.25, "share": 0.2751},
                    {"category": "refactor", "hours": 70.0, "cost": 5950.0, "share": 0.1068},
                    {"category": "test", "hours": 55.0, "cost": 4675.0, "share": 0.0839},
                    {"category": "chore", "hours": 50.0, "cost": 4250.0, "share": 0.0763},
                    {"category": "docs", "hours": 25.0, "cost": 2125.0, "share": 0.0382},
                    {"category": "revert", "hours": 15.0, "cost": 1275.0, "share": 0.0229},
                ],
                "by_author": [
                    {"author": "Ana Costa", "hours": 240.0, "cost": 20400.0, "share": 0.3663},
                    {"author": "Bo Lindqvist", "hours": 190.25, "cost": 16171.25, "share": 0.2903},
                    {"author": "Chen Wei", "hours": 130.0, "cost": 11050.0, "share": 0.1984},
                    {"author": "Dora Novak", "hours": 95.0, "cost": 8075.0, "share": 0.145},
                ],
                "by_month": [
                    {"month": "2026-07", "hours": 201.0, "cost": 17085.0},
                    {"month": "2026-08", "hours": 244.25, "cost": 20761.25},
                    {"month": "2026-09", "hours": 210.0, "cost": 17850.0},
                ]},
            "scenario": {"currency": "EUR", "saving": 32030, "months_observed": 2.99, "scenarios": [
                {"name": "conservative", "recovered_share": 0.25, "hours_per_month": 15.7, "saving_per_month": 1334.58, "saving_per_year": 16015.0},
                {"name": "expected", "recovered_share": 0.5, "hours_per_month": 31.4, "saving_per_month": 2669.17, "saving_per_year": 32030.0},
                {"name": "ambitious", "recovered_share": 0.75, "hours_per_month": 47.1, "saving_per_month": 4003.75, "saving_per_year": 48045.0},
            ], "assumptions": ["The coming months look like the 2.99 observed.", "What the fixes themselves cost is not subtracted."]},
            "decision": {"option": "publish", "answered_by": "mara"},
        })
    }

    pub(crate) fn read(figures: Value) -> Input {
        serde_json::from_value(figures).unwrap()
    }

    #[test]
    fn a_negative_figure_is_named() {
        let mut figures = figures();
        figures["waste"]["waste_hours"] = json!(-1);
        let error = read(figures).check().unwrap_err();
        assert!(error.message.starts_with("waste.waste_hours: `-1`") && !error.retryable, "{}", error.message);
    }
}
