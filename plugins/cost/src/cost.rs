//! The cost of a time log.

// The fields are named as in the agents' answers.
#![allow(clippy::struct_field_names)]

use std::collections::BTreeMap;

use consort_sdk::TaskError;
use serde::{Deserialize, Serialize};

/// What the agent is given.
#[derive(Debug, Deserialize)]
pub(crate) struct Input {
    /// The time log, in any order.
    entries: Vec<Entry>,
    /// Cost of an hour in units of `currency`, at least 0.
    rate: f64,
    /// For example `EUR`.
    currency: String,
    /// Rates of authors who cost another amount.
    #[serde(default)]
    rates: Option<BTreeMap<String, f64>>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    author: String,
    start: String,
    hours: f64,
    category: String,
}

/// What the agent answers. Money is in units of `currency`; hours and money are rounded to 2 digits, shares (of `total_cost`, 0 to 1)
/// to 4.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct Cost {
    currency: String,
    rate: f64,
    total_hours: f64,
    total_cost: f64,
    by_category: Vec<CategoryCost>,
    by_author: Vec<AuthorCost>,
    by_month: Vec<MonthCost>,
}

#[derive(Debug, Serialize, PartialEq)]
struct CategoryCost {
    category: String,
    hours: f64,
    cost: f64,
    share: f64,
}

#[derive(Debug, Serialize, PartialEq)]
struct AuthorCost {
    author: String,
    hours: f64,
    cost: f64,
    share: f64,
}

#[derive(Debug, Serialize, PartialEq)]
struct MonthCost {
    month: String,
    hours: f64,
    cost: f64,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    hours: f64,
    cost: f64,
}

impl Sum {
    fn add(&mut self, hours: f64, cost: f64) {
        self.hours += hours;
        self.cost += cost;
    }
}

/// The cost of a time log, in all and by category, author (both dearest first) and month (in order).
///
/// Method: activity-based costing in its simplest form. An entry costs `hours * rate`, where the rate is its author's in `rates`, else
/// `rate`; a sum is the sum of its entries' exact costs, and only results are rounded. The month is the one in which the entry
/// began, in its own offset. An empty log costs nothing.
///
/// INVALID_ARGUMENT for a rate that is negative or not finite, hours that are not above 0, a start that is not RFC 3339, or a
/// currency that is not 1 to 8 letters or signs.
pub(crate) fn cost(input: &Input) -> Result<Cost, TaskError> {
    check(input)?;
    let (mut total, mut months) = (Sum::default(), BTreeMap::<&str, Sum>::new());
    let (mut categories, mut authors) = (BTreeMap::<&str, Sum>::new(), BTreeMap::<&str, Sum>::new());
    for entry in &input.entries {
        let own = input.rates.as_ref().and_then(|rates| rates.get(&entry.author));
        let cost = entry.hours * own.copied().unwrap_or(input.rate);
        total.add(entry.hours, cost);
        categories.entry(&entry.category).or_default().add(entry.hours, cost);
        authors.entry(&entry.author).or_default().add(entry.hours, cost);
        months.entry(&entry.start[..7]).or_default().add(entry.hours, cost);
    }
    let share = |cost: f64| if total.cost > 0.0 { round(cost / total.cost, 4) } else { 0.0 };
    let by_category = dearest_first(categories).into_iter().map(|(name, sum)| CategoryCost {
        category: name.to_owned(),
        hours: round(sum.hours, 2),
        cost: round(sum.cost, 2),
        share: share(sum.cost),
    });
    let by_author = dearest_first(authors).into_iter().map(|(name, sum)| AuthorCost {
        author: name.to_owned(),
        hours: round(sum.hours, 2),
        cost: round(sum.cost, 2),
        share: share(sum.cost),
    });
    let by_month = months.into_iter().map(|(month, sum)| MonthCost {
        month: month.to_owned(),
        hours: round(sum.hours, 2),
        cost: round(sum.cost, 2),
    });
    Ok(Cost {
        currency: input.currency.clone(),
        rate: input.rate,
        total_hours: round(total.hours, 2),
        total_cost: round(total.cost, 2),
        by_category: by_category.collect(),
        by_author: by_author.collect(),
        by_month: by_month.collect(),
    })
}

/// By cost, then by hours (which tell when nothing costs anything), then by name.
fn dearest_first(sums: BTreeMap<&str, Sum>) -> Vec<(&str, Sum)> {
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|(_, a), (_, b)| b.cost.total_cmp(&a.cost).then(b.hours.total_cmp(&a.hours)));
    sums
}

fn check(input: &Input) -> Result<(), TaskError> {
    let bad_rate = |rate: f64| !rate.is_finite() || rate < 0.0;
    let why = |rate: f64| format!("`{rate}` is not a rate; give a number of at least 0, the cost of one hour");
    if bad_rate(input.rate) {
        return Err(TaskError::bad_input("rate", why(input.rate)));
    }
    for (author, &rate) in input.rates.iter().flatten() {
        if bad_rate(rate) {
            return Err(TaskError::bad_input(format!("rates.{author}"), why(rate)));
        }
    }
    if !(1..=8).contains(&input.currency.chars().count())
        || input.currency.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        let why = format!("`{}` is not a currency; give 1 to 8 letters or signs, such as EUR", input.currency);
        return Err(TaskError::bad_input("currency", why));
    }
    for (number, entry) in input.entries.iter().enumerate() {
        if !entry.hours.is_finite() || entry.hours <= 0.0 {
            let why = format!("`{}` is not above 0; leave out entries without hours", entry.hours);
            return Err(TaskError::bad_input(format!("entries[{number}].hours"), why));
        }
        if !begins_with_month(&entry.start) {
            let why = format!("`{}` is not RFC 3339; write it as 2026-03-02T09:00:00+01:00", entry.start);
            return Err(TaskError::bad_input(format!("entries[{number}].start"), why));
        }
    }
    Ok(())
}

/// Whether a time begins with `YYYY-MM-DDT`, month and day in range.
fn begins_with_month(time: &str) -> bool {
    let digits = |range: std::ops::Range<usize>| {
        let part = time.get(range)?;
        if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse::<u32>().ok() } else { None }
    };
    let dashes = time.get(4..5) == Some("-") && time.get(7..8) == Some("-");
    let t = matches!(time.get(10..11), Some("T" | "t" | " "));
    let month = digits(5..7).is_some_and(|month| (1..=12).contains(&month));
    let day = digits(8..10).is_some_and(|day| (1..=31).contains(&day));
    dashes && t && month && day && digits(0..4).is_some()
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn run(input: Value) -> Result<Value, TaskError> {
        cost(&serde_json::from_value(input).unwrap()).map(|cost| serde_json::to_value(cost).unwrap())
    }

    fn entry(author: &str, start: &str, hours: f64, category: &str) -> Value {
        json!({"author": author, "start": start, "hours": hours, "task": "t", "category": category})
    }

    #[test]
    fn a_small_log_by_hand() {
        // Ana costs 100 an hour, everybody else 50: 2 h + 1 h at 100, 3 h at 50 = 300 + 150 = 450.
        let entries = [
            entry("Ana", "2026-01-31T23:30:00-05:00", 2.0, "fix"),
            entry("Ana", "2026-02-01T09:00:00+01:00", 1.0, "feature"),
            entry("Bo", "2026-02-02T09:00:00Z", 3.0, "feature"),
        ];
        let answer = run(json!({"entries": entries, "rate": 50, "currency": "EUR", "rates": {"Ana": 100}})).unwrap();
        assert_eq!(
            answer,
            json!({
                "currency": "EUR", "rate": 50.0, "total_hours": 6.0, "total_cost": 450.0,
                "by_category": [
                    {"category": "feature", "hours": 4.0, "cost": 250.0, "share": 0.5556},
                    {"category": "fix", "hours": 2.0, "cost": 200.0, "share": 0.4444},
                ],
                "by_author": [
                    {"author": "Ana", "hours": 3.0, "cost": 300.0, "share": 0.6667},
                    {"author": "Bo", "hours": 3.0, "cost": 150.0, "share": 0.3333},
                ],
                "by_month": [
                    {"month": "2026-01", "hours": 2.0, "cost": 200.0},
                    {"month": "2026-02", "hours": 4.0, "cost": 250.0},
                ],
            })
        );
    }

    #[test]
    fn nothing_costs_nothing() {
        let answer = run(json!({"entries": [], "rate": 85, "currency": "€"})).unwrap();
        assert_eq!((&answer["total_cost"], &answer["by_month"]), (&json!(0.0), &json!([])));
        let free =
            run(json!({"entries": [entry("A", "2026-01-01T00:00:00Z", 1.0, "fix")], "rate": 0, "currency": "EUR"}));
        assert_eq!(free.unwrap()["by_category"][0]["share"], json!(0.0));
    }

    #[test]
    fn sums_are_rounded_once() {
        // Three times 0.335 h is 1.005 h; at 10 an hour that is 10.05, not three times 3.35 cut to 2 digits each.
        let entries: Vec<_> =
            (1..=3).map(|day| entry("A", &format!("2026-01-0{day}T00:00:00Z"), 0.335, "fix")).collect();
        assert_eq!(
            run(json!({"entries": entries, "rate": 10, "currency": "EUR"})).unwrap()["total_cost"],
            json!(10.05)
        );
    }

    #[test]
    fn a_bad_field_is_named() {
        let of = |hours: f64, start: &str, rate: f64, currency: &str| {
            let entries = [entry("A", start, hours, "fix")];
            run(json!({"entries": entries, "rate": rate, "currency": currency})).unwrap_err()
        };
        let good = "2026-01-01T00:00:00Z";
        for (error, field) in [
            (of(0.0, good, 1.0, "EUR"), "entries[0].hours: `0`"),
            (of(1.0, "yesterday", 1.0, "EUR"), "entries[0].start: `yesterday`"),
            (of(1.0, "2026-13-01T00:00:00Z", 1.0, "EUR"), "entries[0].start"),
            (of(1.0, "2026-1é-01T00:00:00Z", 1.0, "EUR"), "entries[0].start"),
            (of(1.0, good, -1.0, "EUR"), "rate: `-1`"),
            (of(1.0, good, 1.0, ""), "currency: ``"),
        ] {
            assert!(error.message.starts_with(field), "{}", error.message);
            assert!(!error.retryable);
        }
    }
}
