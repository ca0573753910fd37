//! What could be saved.

// The fields are named as in the agents' answers.
#![allow(clippy::struct_field_names)]

use consort_sdk::TaskError;
use serde::{Deserialize, Serialize};

/// What the agent is given.
#[derive(Debug, Deserialize)]
pub(crate) struct Input {
    /// All hours of the log.
    total_hours: f64,
    /// Months the log spans, at least 1.
    months: f64,
    /// Answer of the agent `cost`.
    cost: Cost,
    /// Answer of the agent `time-waste`.
    waste: Waste,
    /// Answer of the agent `friction`.
    friction: Friction,
}

#[derive(Debug, Deserialize)]
struct Cost {
    currency: String,
    total_hours: f64,
    total_cost: f64,
}

#[derive(Debug, Deserialize)]
struct Waste {
    waste_hours: f64,
}

#[derive(Debug, Deserialize)]
struct Friction {
    friction_hours: f64,
}

/// What the agent answers. Money is in units of `currency`; hours and money are rounded to 2 digits.
#[derive(Debug, Serialize)]
pub(crate) struct Scenarios {
    currency: String,
    /// Per year in the expected scenario, in whole units.
    saving: i64,
    scenarios: Vec<Scenario>,
    assumptions: Vec<String>,
    months_observed: f64,
}

#[derive(Debug, Serialize)]
struct Scenario {
    name: &'static str,
    /// Part of the recoverable hours that is won back, 0 to 1.
    recovered_share: f64,
    hours_per_month: f64,
    saving_per_month: f64,
    saving_per_year: f64,
}

/// Part of the recoverable hours that each scenario wins back: a judgement, not a measurement, and stated as such.
const SHARES: [(&str, f64); 3] = [("conservative", 0.25), ("expected", 0.5), ("ambitious", 0.75)];

/// The saving in three scenarios, by extrapolation of the observed months.
///
/// - Recoverable hours `R = W + F - W * F / T`, where `W` are wasted hours, `F` hours of friction (each capped at `T`) and `T` all hours. An
///   hour can be both wasted and friction; which ones are is not known here, so the overlap is taken as if the two were
///   independent (inclusion and exclusion of two independent events). `R` is never above `T`, and never counts an hour twice.
/// - An hour costs `C / T'`, where `C` and `T'` are cost and hours of the cost analysis: the rate blended over the authors.
/// - A scenario wins back `s * R` hours; per month that is `s * R / months`, and its saving is that times the cost of an hour. A year has
///   12 such months.
///
/// INVALID_ARGUMENT for a figure that is negative or not finite, or for less than one month.
pub(crate) fn scenarios(input: &Input) -> Result<Scenarios, TaskError> {
    check(input)?;
    let total = input.total_hours;
    let wasted = input.waste.waste_hours.min(total);
    let friction = input.friction.friction_hours.min(total);
    let overlap = if total > 0.0 { wasted * friction / total } else { 0.0 };
    let recoverable = wasted + friction - overlap;
    let hour = if input.cost.total_hours > 0.0 { input.cost.total_cost / input.cost.total_hours } else { 0.0 };

    let scenario = |(name, share): (&'static str, f64)| {
        let hours = recoverable * share / input.months;
        Scenario {
            name,
            recovered_share: share,
            hours_per_month: round(hours),
            saving_per_month: round(hours * hour),
            saving_per_year: round(hours * hour * 12.0),
        }
    };
    let scenarios: Vec<Scenario> = SHARES.into_iter().map(scenario).collect();
    let currency = &input.cost.currency;
    Ok(Scenarios {
        currency: currency.clone(),
        saving: scenarios[1].saving_per_year.round() as i64,
        assumptions: vec![
            format!("The coming months look like the {} observed.", round(input.months)),
            format!(
                "{} of {} hours are recoverable: {} wasted plus {} of friction, less {} that are probably both.",
                round(recoverable),
                round(total),
                round(wasted),
                round(friction),
                round(overlap)
            ),
            format!("An hour costs {} {currency}, blended over all authors.", round(hour)),
            "25, 50 and 75 % of the recoverable hours are won back; these shares are judgements, not measurements."
                .to_owned(),
            "What the fixes themselves cost is not subtracted.".to_owned(),
        ],
        scenarios,
        months_observed: round(input.months),
    })
}

fn check(input: &Input) -> Result<(), TaskError> {
    for (field, value) in [
        ("total_hours", input.total_hours),
        ("cost.total_hours", input.cost.total_hours),
        ("cost.total_cost", input.cost.total_cost),
        ("waste.waste_hours", input.waste.waste_hours),
        ("friction.friction_hours", input.friction.friction_hours),
    ] {
        if !value.is_finite() || value < 0.0 {
            return Err(TaskError::bad_input(field, format!("`{value}` is not a number of at least 0")));
        }
    }
    if !input.months.is_finite() || input.months < 1.0 {
        let why = format!("`{}` is less than 1; a shorter log counts as one month", input.months);
        return Err(TaskError::bad_input("months", why));
    }
    Ok(())
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn input(total: f64, months: f64, waste: f64, friction: f64) -> Value {
        json!({
            "total_hours": total, "months": months,
            "cost": {"currency": "EUR", "rate": 80, "total_hours": total, "total_cost": total * 80.0},
            "waste": {"waste_hours": waste}, "friction": {"friction_hours": friction},
        })
    }

    fn run(input: Value) -> Result<Value, TaskError> {
        scenarios(&serde_json::from_value(input).unwrap()).map(|answer| serde_json::to_value(answer).unwrap())
    }

    #[test]
    fn a_quarter_by_hand() {
        // R = 60 + 40 - 60 * 40 / 400 = 94 h in 2 months; half of that is 23.5 h a month, 1,880 EUR, 22,560 a year.
        let answer = run(input(400.0, 2.0, 60.0, 40.0)).unwrap();
        assert_eq!(answer["saving"], json!(22560));
        assert_eq!(
            answer["scenarios"],
            json!([
                {"name": "conservative", "recovered_share": 0.25, "hours_per_month": 11.75, "saving_per_month": 940.0, "saving_per_year": 11280.0},
                {"name": "expected", "recovered_share": 0.5, "hours_per_month": 23.5, "saving_per_month": 1880.0, "saving_per_year": 22560.0},
                {"name": "ambitious", "recovered_share": 0.75, "hours_per_month": 35.25, "saving_per_month": 2820.0, "saving_per_year": 33840.0},
            ])
        );
        assert!(answer["assumptions"][1].as_str().unwrap().contains("94 of 400 hours"), "{answer}");
    }

    #[test]
    fn no_more_than_everything_is_recoverable() {
        let answer = run(input(100.0, 1.0, 900.0, 100.0)).unwrap();
        assert_eq!(answer["scenarios"][1]["hours_per_month"], json!(50.0));
    }

    #[test]
    fn an_empty_log_saves_nothing() {
        assert_eq!(run(input(0.0, 1.0, 0.0, 0.0)).unwrap()["saving"], json!(0));
    }

    #[test]
    fn a_bad_figure_is_named() {
        let error = run(input(100.0, 0.5, 1.0, 1.0)).unwrap_err();
        assert!(error.message.starts_with("months: `0.5`"), "{}", error.message);
        let error = run(input(100.0, 1.0, -3.0, 1.0)).unwrap_err();
        assert!(error.message.starts_with("waste.waste_hours: `-3`") && !error.retryable, "{}", error.message);
    }
}
