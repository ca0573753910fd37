//! Cron expressions in a time zone: when a schedule fires.
//!
//! An expression names local times, minute by minute. Each has one moment at which it fires, also where clocks change: see
//! [`Cron::next_after`]. That moment never comes earlier for a later local time, so the search goes through local times in their
//! order and takes the first whose moment is new.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use super::suggest::{brief, nearest};
use crate::ids::Millis;

mod fields;
#[cfg(test)]
mod tests;

use fields::Fields;

/// How far ahead a next time is looked for, in years. What fires at all does so within 40: on a 29 February of some weekday.
const HORIZON_YEARS: i16 = 100;
/// Transitions that are looked through for the one that ends a gap: some change the name of the zone only.
const TRANSITION_LIMIT: usize = 8;

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Cron {
    expression: String,
    timezone: String,
    fields: Fields,
    zone: TimeZone,
}

/// Why a schedule cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// The expression is wrong.
    #[error("{message}")]
    Expression {
        /// The field and the value that are wrong.
        message: String,
        /// What can be written instead.
        hint: String,
    },
    /// The time zone is unknown.
    #[error("{message}")]
    Timezone {
        /// The value that is wrong.
        message: String,
        /// What can be written instead.
        hint: String,
    },
}

impl CronError {
    /// What can be written instead; the message is its `Display`.
    pub fn hint(&self) -> &str {
        match self {
            CronError::Expression { hint, .. } | CronError::Timezone { hint, .. } => hint,
        }
    }
}

impl Cron {
    /// Reads five fields, separated by spaces: minute (0 to 59), hour (0 to 23), day of month (1 to 31), month (1 to 12 or JAN to
    /// DEC) and day of week (0 to 7 or SUN to SAT; 0 and 7 are Sunday). A field is `*`, a value, a range (`9-17`), one of these
    /// with a step (`*/15`, `9-17/2`), or a list of such items (`0,30`). `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`
    /// stand for what they say. A day must match day of month and day of week; if neither begins with `*`, one is enough, as in
    /// Vixie cron.
    ///
    /// `timezone` is an IANA name such as `Europe/Paris`, or `UTC`.
    ///
    /// # Errors
    /// The first field that is wrong, an expression that never fires (`0 0 30 2 *`), or a time zone that is unknown.
    pub fn parse(expression: &str, timezone: &str) -> Result<Cron, CronError> {
        let fields = fields::parse(expression).map_err(|(message, hint)| CronError::Expression { message, hint })?;
        let zone = zone(timezone)?;
        let timezone = zone.iana_name().unwrap_or(timezone).to_owned();
        Ok(Cron { expression: expression.to_owned(), timezone, fields, zone })
    }

    /// The first time after `after` at which it fires, or `None` if there is none within 100 years.
    ///
    /// Where clocks change, a local time that does not exist fires at the first moment after the gap, once however many were
    /// skipped. A local time that exists twice fires once, the first time; so `*/15 * * * *` in `Europe/Paris` rests for an hour
    /// when summer ends, and a schedule that must not is one in `UTC`.
    pub fn next_after(&self, after: Millis) -> Option<Millis> {
        let after = Timestamp::from_millisecond(after).ok()?;
        let now = self.zone.to_datetime(after);
        let last = now.year().saturating_add(HORIZON_YEARS);
        let mut local = now.date().at(now.hour(), now.minute(), 0, 0);
        loop {
            local = self.match_from(local, last)?;
            let moment = self.moment(local)?;
            if moment > after {
                return Some(moment.as_millisecond());
            }
            local = local.checked_add(SignedDuration::from_mins(1)).ok()?;
        }
    }

    /// The expression, as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The IANA name of the time zone, spelled as the database does.
    pub fn timezone(&self) -> &str {
        &self.timezone
    }

    /// The first local time that matches, from this whole minute on and not after the year `last`.
    fn match_from(&self, from: DateTime, last: i16) -> Option<DateTime> {
        let (mut date, mut time) = (from.date(), from.time());
        while date.year() <= last {
            if !self.fields.has_month(date) {
                date = date.last_of_month().tomorrow().ok()?;
            } else if let Some(found) = self.match_on(date, time) {
                return Some(found);
            } else {
                date = date.tomorrow().ok()?;
            }
            time = Time::midnight();
        }
        None
    }

    fn match_on(&self, date: Date, from: Time) -> Option<DateTime> {
        if !self.fields.has_day(date) {
            return None;
        }
        let (hour, minute) = self.fields.time_from(from.hour(), from.minute())?;
        Some(date.at(hour, minute, 0, 0))
    }

    /// When a local time fires.
    fn moment(&self, local: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local).ok()
            }
            AmbiguousOffset::Gap { after, .. } => {
                // Read with the offset of after the gap, a time inside it lies before the gap.
                let before_gap = after.to_timestamp(local).ok()?;
                let mut transitions = self.zone.following(before_gap).take(TRANSITION_LIMIT);
                transitions.find(|transition| transition.offset() == after).map(|transition| transition.timestamp())
            }
        }
    }
}

/// The rules of a zone, from those that come with the binary: what the machine has may be older, or missing.
fn zone(name: &str) -> Result<TimeZone, CronError> {
    let zones = TimeZoneDatabase::bundled();
    match zones.get(name) {
        Ok(zone) if !zone.is_unknown() => Ok(zone),
        _ => Err(CronError::Timezone {
            message: format!("there is no time zone `{}`", brief(name, 40)),
            hint: match similar(name, &zones) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "write an IANA name such as `Europe/Paris`, or `UTC`".to_owned(),
            },
        }),
    }
}

/// The zone that was probably meant: its city alone was written, or it was mistyped.
fn similar(name: &str, zones: &TimeZoneDatabase) -> Option<String> {
    // Abbreviations and offsets are near to zones that mean something else: PST to EST, GMT+2 to Etc/GMT+2 (which is west).
    if name.len() <= 4 || name.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let plain = |name: &str| name.to_ascii_lowercase().replace(' ', "_");
    let found = plain(name);
    let known: Vec<(String, String)> =
        zones.available().map(|zone| (plain(zone.as_str()), zone.as_str().to_owned())).collect();
    let city = |zone: &str| zone.rsplit_once('/').is_some_and(|(_, city)| city == found);
    let meant = known.iter().map(|(zone, _)| zone.as_str()).find(|zone| city(zone));
    let meant = meant.or_else(|| nearest(&found, known.iter().map(|(zone, _)| zone.as_str())))?;
    known.iter().find(|(zone, _)| zone == meant).map(|(_, name)| name.clone())
}
