//! The five fields of a cron expression.

use jiff::civil::Date;

use crate::workflow::suggest::{brief, nearest};

/// Longest expression, in bytes: every minute of an hour written out has 169.
const LENGTH_LIMIT: usize = 512;

const ALIASES: [(&str, &str); 5] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];

/// Days of each month in a leap year.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// What is wrong, and what can be written instead.
pub(super) type Problem = (String, String);

/// The values of each field, as bits: bit 5 of `minutes` is minute 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Bit 0 is Sunday; bit 7 is never set.
    weekdays: u64,
    /// Whether one of day of month and day of week is enough.
    either_day: bool,
}

/// Reads an expression; errors are for people.
pub(super) fn parse(expression: &str) -> Result<Fields, Problem> {
    let shown = brief(expression, 40);
    if expression.len() > LENGTH_LIMIT {
        return Err((
            format!("`{shown}` has {} bytes, more than {LENGTH_LIMIT}", expression.len()),
            "write ranges and steps, such as `0-30` or `*/5`, or several schedules".to_owned(),
        ));
    }
    let text = expand(expression.trim())?;
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts[..] else {
        let fields = if parts.len() == 1 { "field" } else { "fields" };
        let what = "write five: minute, hour, day of month, month and day of week, for example `0 7 * * MON`";
        let seconds = if parts.len() == 6 { "; there are no seconds, leave that field out" } else { "" };
        return Err((format!("`{shown}` has {} {fields}", parts.len()), format!("{what}{seconds}")));
    };
    let mut fields = Fields {
        minutes: MINUTE.parse(minute)?,
        hours: HOUR.parse(hour)?,
        days: DAY.parse(day)?,
        months: MONTH.parse(month)?,
        weekdays: WEEKDAY.parse(weekday)?,
        either_day: !day.starts_with('*') && !weekday.starts_with('*'),
    };
    if fields.weekdays & 1 << 7 != 0 {
        fields.weekdays = fields.weekdays & !(1 << 7) | 1;
    }
    if !fields.ever_fires() {
        return Err((
            format!("`{shown}` never fires: no month it names has such a day"),
            "February has 29 days at most, April, June, September and November have 30".to_owned(),
        ));
    }
    Ok(fields)
}

fn expand(text: &str) -> Result<&str, Problem> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    if let Some((_, meaning)) = ALIASES.iter().find(|(alias, _)| *alias == text) {
        return Ok(meaning);
    }
    let hint = match nearest(text, ALIASES.map(|(alias, _)| alias)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "write `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` or five fields".to_owned(),
    };
    Err((format!("there is no `{}`", brief(text, 40)), hint))
}

impl Fields {
    pub(super) fn has_month(&self, date: Date) -> bool {
        has(self.months, date.month())
    }

    /// Whether it fires on this day of a month that it names.
    pub(super) fn has_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.either_day { day || weekday } else { day && weekday }
    }

    /// The first hour and minute of a day, not before this one.
    pub(super) fn time_from(&self, hour: i8, minute: i8) -> Option<(i8, i8)> {
        if has(self.hours, hour)
            && let Some(minute) = first_from(self.minutes, minute)
        {
            return Some((hour, minute));
        }
        let hour = first_from(self.hours, hour + 1)?;
        first_from(self.minutes, 0).map(|minute| (hour, minute))
    }

    /// Every day of the year falls on every weekday in some year, so only days that their months lack never come.
    fn ever_fires(&self) -> bool {
        let month_has_day =
            |(month, longest): (u32, &u32)| self.months & 1 << month != 0 && self.days.trailing_zeros() <= *longest;
        self.either_day || (1..).zip(&LONGEST).any(month_has_day)
    }
}

fn has(values: u64, value: i8) -> bool {
    values & 1 << value != 0
}

/// The lowest of the values that is not below `from`; `from` is at most 60.
fn first_from(values: u64, from: i8) -> Option<i8> {
    let rest = values >> from;
    (rest != 0).then(|| from + rest.trailing_zeros() as i8)
}

/// What may stand in one field.
struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    /// The largest step that does more than name one value.
    widest: u32,
    /// Names of the values from `low` on.
    names: &'static [&'static str],
    /// The values, for a sentence.
    values: &'static str,
}

const MINUTE: Field = Field { name: "minute", low: 0, high: 59, widest: 59, names: &[], values: "0 to 59" };
const HOUR: Field = Field { name: "hour", low: 0, high: 23, widest: 23, names: &[], values: "0 to 23" };
const DAY: Field = Field { name: "day of month", low: 1, high: 31, widest: 30, names: &[], values: "1 to 31" };
const MONTH: Field = Field {
    name: "month",
    low: 1,
    high: 12,
    widest: 11,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    values: "1 to 12 or JAN to DEC",
};
const WEEKDAY: Field = Field {
    name: "day of week",
    low: 0,
    high: 7,
    widest: 6,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    values: "0 to 7 (0 and 7 are Sunday) or SUN to SAT",
};

impl Field {
    /// The values that a list of items names.
    fn parse(&self, text: &str) -> Result<u64, Problem> {
        text.split(',').try_fold(0, |values, item| Ok(values | self.item(text, item)?))
    }

    fn item(&self, field: &str, item: &str) -> Result<u64, Problem> {
        if item.is_empty() {
            let message = format!("{}: `{}` has a comma with nothing beside it", self.name, brief(field, 40));
            return Err((message, "write for example `1,2`".to_owned()));
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (low, high) = match (range.split_once('-'), step) {
            (None, _) if range == "*" => (self.low, self.high),
            (None, None) => (self.value(range)?, self.value(range)?),
            (None, Some(step)) => {
                self.value(range)?;
                let message = format!("{}: `{}` has a step but no range", self.name, brief(item, 40));
                return Err((message, format!("write `{range}-{}/{}`", self.high, brief(step, 40))));
            }
            (Some((low, high)), _) => self.range(low, high)?,
        };
        let step = step.map_or(Ok(1), |step| self.step(step))?;
        Ok((low..=high).step_by(step).fold(0, |values, value| values | 1 << value))
    }

    fn range(&self, low: &str, high: &str) -> Result<(u32, u32), Problem> {
        let (from, to) = (self.value(low)?, self.value(high)?);
        // A week may begin and end on Sunday: `SUN-TUE`, `FRI-SUN`.
        let (from, to) = match (self.high, from, to) {
            (7, 1.., 0) => (from, 7),
            (7, 7, 1..7) => (0, to),
            _ => (from, to),
        };
        if from > to {
            let message = format!("{}: `{low}-{high}` ends before it begins", self.name);
            return Err((
                message,
                format!("write the two parts: `{from}-{},{}-{to}`", self.low + self.widest, self.low),
            ));
        }
        Ok((from, to))
    }

    fn value(&self, text: &str) -> Result<u32, Problem> {
        if let Some(position) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(self.low + position as u32);
        }
        match number(text) {
            Some(value) if (self.low..=self.high).contains(&value) => Ok(value),
            _ => Err((format!("there is no {} `{}`", self.name, brief(text, 40)), self.instead_of(text))),
        }
    }

    fn step(&self, text: &str) -> Result<usize, Problem> {
        match number(text) {
            Some(step) if (1..=self.widest).contains(&step) => Ok(step as usize),
            _ => Err((
                format!("{}: `{}` is not a step", self.name, brief(text, 40)),
                format!("write 1 to {}, for example `*/2`", self.widest),
            )),
        }
    }

    fn instead_of(&self, text: &str) -> String {
        let upper = brief(text, 40).to_ascii_uppercase();
        let named = self.names.iter().find(|name| upper.starts_with(**name)).copied();
        match named.or_else(|| nearest(&upper, self.names.iter().copied())) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if text == "?" => "write `*`".to_owned(),
            None => format!("write {}, or `*`", self.values),
        }
    }
}

/// Digits only: `str::parse` also takes `+5`.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
