use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;

use super::*;
use crate::ids::rfc3339;

const MINUTE: Millis = 60_000;

fn millis(text: &str) -> Millis {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

/// The times after `after`, one after the other, as `2026-11-21T10:00Z`.
fn check(expression: &str, timezone: &str, after: &str, expected: &[&str]) {
    let cron = Cron::parse(expression, timezone).unwrap();
    let mut at = millis(after);
    let mut found = Vec::new();
    for _ in expected {
        at = cron.next_after(at).unwrap();
        found.push(rfc3339(at).replace(":00.000Z", "Z"));
    }
    assert_eq!(found, expected, "{expression} in {timezone} after {after}");
}

#[test]
fn common_expressions_fire_when_they_say() {
    let after = "2026-11-21T10:00:00.001Z";
    for (expression, expected) in [
        ("* * * * *", ["2026-11-21T10:01Z", "2026-11-21T10:02Z"]),
        ("*/15 * * * *", ["2026-11-21T10:15Z", "2026-11-21T10:30Z"]),
        ("0 7 * * MON", ["2026-11-23T07:00Z", "2026-11-30T07:00Z"]),
        ("30 9-17/4 * * mon-fri", ["2026-11-23T09:30Z", "2026-11-23T13:30Z"]),
        ("0,45 10,22 * * *", ["2026-11-21T10:45Z", "2026-11-21T22:00Z"]),
        ("50-55/5,1 23 31 DEC *", ["2026-12-31T23:01Z", "2026-12-31T23:50Z"]),
        ("59 23 31 1-6/2 *", ["2027-01-31T23:59Z", "2027-03-31T23:59Z"]),
        ("  0  0\t1 jan,JUL  * ", ["2027-01-01T00:00Z", "2027-07-01T00:00Z"]),
        ("@hourly", ["2026-11-21T11:00Z", "2026-11-21T12:00Z"]),
        ("@daily", ["2026-11-22T00:00Z", "2026-11-23T00:00Z"]),
        ("@weekly", ["2026-11-22T00:00Z", "2026-11-29T00:00Z"]),
        ("@monthly", ["2026-12-01T00:00Z", "2027-01-01T00:00Z"]),
        ("@yearly", ["2027-01-01T00:00Z", "2028-01-01T00:00Z"]),
    ] {
        check(expression, "UTC", after, &expected);
    }
}

#[test]
fn a_time_is_after_the_one_given() {
    check("0 10 * * *", "UTC", "2026-11-21T09:59:59.999Z", &["2026-11-21T10:00Z"]);
    check("0 10 * * *", "UTC", "2026-11-21T10:00:00Z", &["2026-11-22T10:00Z"]);
    check("0 0 * * *", "UTC", "1969-12-30T23:59:59.999Z", &["1969-12-31T00:00Z", "1970-01-01T00:00Z"]);
}

#[test]
fn sunday_has_two_numbers_and_a_name() {
    for sunday in ["0", "7", "SUN", "sun", "7-7", "0,7"] {
        check(&format!("0 0 * * {sunday}"), "UTC", "2026-11-21T10:00:00Z", &["2026-11-22T00:00Z", "2026-11-29T00:00Z"]);
    }
    for weekend in ["SAT-SUN", "6-7", "6-0", "0,6", "6,7"] {
        check(
            &format!("0 0 * * {weekend}"),
            "UTC",
            "2026-11-23T10:00:00Z",
            &["2026-11-28T00:00Z", "2026-11-29T00:00Z", "2026-12-05T00:00Z"],
        );
    }
    check(
        "0 0 * * 7-1",
        "UTC",
        "2026-11-21T10:00:00Z",
        &["2026-11-22T00:00Z", "2026-11-23T00:00Z", "2026-11-29T00:00Z"],
    );
}

#[test]
fn day_of_month_and_day_of_week_are_joined_as_in_vixie_cron() {
    let after = "2026-11-01T00:00:00Z";
    check("0 0 11 * FRI", "UTC", after, &["2026-11-06T00:00Z", "2026-11-11T00:00Z", "2026-11-13T00:00Z"]);
    // A field that begins with `*` restricts, but is not enough on its own.
    check("0 0 */10 * MON", "UTC", after, &["2026-12-21T00:00Z", "2027-01-11T00:00Z"]);
    check("0 0 30 2 MON", "UTC", after, &["2027-02-01T00:00Z", "2027-02-08T00:00Z"]);
}

#[test]
fn leap_days_are_waited_for() {
    check("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T00:00Z", "2032-02-29T00:00Z"]);
    check("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00Z"]);
    check("0 0 29 2 */6", "UTC", "2026-01-01T00:00:00Z", &["2032-02-29T00:00Z", "2048-02-29T00:00Z"]);
    check("0 0 29 * *", "UTC", "2026-02-01T00:00:00Z", &["2026-03-29T00:00Z"]);
}

#[test]
fn local_times_follow_the_zone() {
    check("0 7 * * *", "Europe/Paris", "2026-03-28T00:00:00Z", &["2026-03-28T06:00Z", "2026-03-29T05:00Z"]);
    check("0 7 * * *", "Europe/Paris", "2026-10-24T00:00:00Z", &["2026-10-24T05:00Z", "2026-10-25T06:00Z"]);
    check("0 7 * * *", "America/New_York", "2026-03-07T00:00:00Z", &["2026-03-07T12:00Z", "2026-03-08T11:00Z"]);
    check("0 7 * * *", "Asia/Kolkata", "2026-11-21T10:00:00Z", &["2026-11-22T01:30Z", "2026-11-23T01:30Z"]);
    check("@monthly", "Asia/Kolkata", "2026-11-21T10:00:00Z", &["2026-11-30T18:30Z"]);
    // Long after the last rule that is spelled out.
    check("0 7 * * *", "Europe/Paris", "2090-07-01T12:00:00Z", &["2090-07-02T05:00Z"]);
}

#[test]
fn a_skipped_local_time_fires_once_after_the_gap() {
    let (paris, eve) = ("Europe/Paris", "2026-03-28T12:00:00Z");
    check("30 2 * * *", paris, eve, &["2026-03-29T01:00Z", "2026-03-30T00:30Z"]);
    check("*/20 2 * * *", paris, eve, &["2026-03-29T01:00Z", "2026-03-30T00:00Z"]);
    check("0,30 2,3 * * *", paris, eve, &["2026-03-29T01:00Z", "2026-03-29T01:30Z", "2026-03-30T00:00Z"]);
    check("30 2 * * *", paris, "2026-03-29T00:59:59.999Z", &["2026-03-29T01:00Z"]);
    check("30 2 * * *", paris, "2026-03-29T01:00:00Z", &["2026-03-30T00:30Z"]);
    check(
        "*/30 * * * *",
        paris,
        "2026-03-29T00:10:00Z",
        &["2026-03-29T00:30Z", "2026-03-29T01:00Z", "2026-03-29T01:30Z"],
    );
    check("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", &["2026-03-08T07:00Z", "2026-03-09T06:30Z"]);
    // The gap begins at midnight, is half an hour long, is a whole day.
    check("@daily", "Africa/Cairo", "2026-04-23T00:00:00Z", &["2026-04-23T22:00Z", "2026-04-24T21:00Z"]);
    check("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", &["2026-10-03T15:30Z", "2026-10-04T15:15Z"]);
    check(
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-29T12:00:00Z",
        &["2011-12-29T22:00Z", "2011-12-30T10:00Z", "2011-12-30T22:00Z"],
    );
}

#[test]
fn a_doubled_local_time_fires_the_first_time() {
    let (paris, eve) = ("Europe/Paris", "2026-10-24T12:00:00Z");
    check("30 2 * * *", paris, eve, &["2026-10-25T00:30Z", "2026-10-26T01:30Z"]);
    check("0 3 * * *", paris, eve, &["2026-10-25T02:00Z", "2026-10-26T02:00Z"]);
    check("30 2 * * *", paris, "2026-10-25T01:10:00Z", &["2026-10-26T01:30Z"]);
    check(
        "*/30 * * * *",
        paris,
        "2026-10-24T23:45:00Z",
        &["2026-10-25T00:00Z", "2026-10-25T00:30Z", "2026-10-25T02:00Z"],
    );
    check("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", &["2026-11-01T05:30Z", "2026-11-02T06:30Z"]);
}

#[test]
fn there_is_an_end_of_time() {
    let cron = Cron::parse("* * * * *", "Europe/Paris").unwrap();
    assert_eq!(cron.next_after(Millis::MAX), None);
    assert_eq!(cron.next_after(Millis::MIN), None);
    assert_eq!(cron.next_after(millis("9999-12-30T22:00:00Z")), None);
}

#[test]
fn what_was_written_is_kept_and_zones_are_spelled_as_they_are_known() {
    for (given, known) in
        [("europe/paris", "Europe/Paris"), ("UTC", "UTC"), ("utc", "UTC"), ("Asia/Calcutta", "Asia/Calcutta")]
    {
        let cron = Cron::parse("@daily", given).unwrap();
        assert_eq!((cron.expression(), cron.timezone()), ("@daily", known));
    }
}

#[test]
fn bad_expressions_say_which_field_is_wrong_and_what_to_write() {
    for (expression, message, hint) in [
        (
            "",
            "`` has 0 fields",
            "write five: minute, hour, day of month, month and day of week, for example `0 7 * * MON`",
        ),
        ("daily", "`daily` has 1 field", "write five"),
        ("0 7 * *", "`0 7 * *` has 4 fields", "write five"),
        ("0 0 7 * * MON", "`0 0 7 * * MON` has 6 fields", "there are no seconds, leave that field out"),
        ("60 * * * *", "there is no minute `60`", "write 0 to 59, or `*`"),
        ("* 24 * * *", "there is no hour `24`", "write 0 to 23, or `*`"),
        ("* * 0 * *", "there is no day of month `0`", "write 1 to 31, or `*`"),
        ("* * L * *", "there is no day of month `L`", "write 1 to 31, or `*`"),
        ("* * * 13 *", "there is no month `13`", "write 1 to 12 or JAN to DEC, or `*`"),
        ("* * * * 8", "there is no day of week `8`", "write 0 to 7 (0 and 7 are Sunday) or SUN to SAT, or `*`"),
        ("* * * * monday", "there is no day of week `monday`", "did you mean `MON`?"),
        ("* * * * WEB", "there is no day of week `WEB`", "did you mean `WED`?"),
        ("* * * AGU *", "there is no month `AGU`", "did you mean `AUG`?"),
        ("* * ? * *", "there is no day of month `?`", "write `*`"),
        ("-5 * * * *", "there is no minute ``", "write 0 to 59"),
        ("+5 * * * *", "there is no minute `+5`", "write 0 to 59"),
        ("1.5 * * * *", "there is no minute `1.5`", "write 0 to 59"),
        ("99999999999999999999 * * * *", "there is no minute `99999999999999999999`", "write 0 to 59"),
        ("1,,2 * * * *", "minute: `1,,2` has a comma with nothing beside it", "write for example `1,2`"),
        ("*/0 * * * *", "minute: `0` is not a step", "write 1 to 59, for example `*/2`"),
        ("*/90 * * * *", "minute: `90` is not a step", "write 1 to 59, for example `*/2`"),
        ("* */ * * *", "hour: `` is not a step", "write 1 to 23, for example `*/2`"),
        ("5/15 * * * *", "minute: `5/15` has a step but no range", "write `5-59/15`"),
        ("* 22-2 * * *", "hour: `22-2` ends before it begins", "write the two parts: `22-23,0-2`"),
        ("* * * * FRI-MON", "day of week: `FRI-MON` ends before it begins", "write the two parts: `5-6,0-1`"),
        ("0 0 30 2 *", "`0 0 30 2 *` never fires: no month it names has such a day", "February has 29 days at most"),
        ("0 0 31 4,6,9,NOV *", "`0 0 31 4,6,9,NOV *` never fires", "have 30"),
        ("0 0 31 2 */2", "`0 0 31 2 */2` never fires", "February"),
        ("@midnight", "there is no `@midnight`", "write `@hourly`, `@daily`"),
        ("@dayly", "there is no `@dayly`", "did you mean `@daily`?"),
    ] {
        let error = Cron::parse(expression, "UTC").unwrap_err();
        assert!(matches!(error, CronError::Expression { .. }), "{expression}: {error:?}");
        assert!(error.to_string().starts_with(message), "{expression}: {error}");
        assert!(error.hint().contains(hint), "{expression}: {error:?}");
    }
    let long = format!("{}1 * * * *", "1,".repeat(300));
    let error = Cron::parse(&long, "UTC").unwrap_err().to_string();
    assert!(error.ends_with("has 609 bytes, more than 512") && error.len() < 100, "{error}");
}

#[test]
fn unknown_time_zones_are_refused_with_the_nearest() {
    let general = "write an IANA name such as `Europe/Paris`, or `UTC`";
    for (timezone, hint) in [
        ("Europe/Pari", "did you mean `Europe/Paris`?"),
        ("europe/pairs", "did you mean `Europe/Paris`?"),
        ("America/New York", "did you mean `America/New_York`?"),
        ("Paris", "did you mean `Europe/Paris`?"),
        ("Asia/Kolkatta", "did you mean `Asia/Kolkata`?"),
        ("", general),
        ("PST", general),
        ("CEST", general),
        ("GMT+2", general),
        ("+02:00", general),
        ("Etc/Unknown", general),
        ("../../etc/passwd", general),
    ] {
        let error = Cron::parse("@daily", timezone).unwrap_err();
        let message = format!("there is no time zone `{timezone}`");
        assert_eq!(error, CronError::Timezone { message, hint: hint.to_owned() }, "{timezone}");
    }
}

fn zones() -> Vec<String> {
    TimeZoneDatabase::bundled().available().map(|zone| zone.as_str().to_owned()).collect()
}

/// One field: `*`, a step, a value or a range.
fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let range = (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    prop_oneof![
        Just("*".to_owned()),
        (1..=high - low).prop_map(|step| format!("*/{step}")),
        (low..=high).prop_map(|value| value.to_string()),
        range,
    ]
}

fn matches(cron: &Cron, local: DateTime) -> bool {
    let date = local.date();
    let time = (local.hour(), local.minute());
    cron.fields.has_month(date)
        && cron.fields.has_day(date)
        && cron.fields.time_from(local.hour(), local.minute()) == Some(time)
}

/// What should fire, found the slow way: look at the clock on the wall every minute, remember the latest time it ever showed,
/// and fire when it shows or has jumped over a later one that matches.
fn watch(cron: &Cron, zone: &TimeZone, after: Millis, until: Millis) -> Option<Millis> {
    let wall = |at: Millis| zone.to_datetime(Timestamp::from_millisecond(at).unwrap());
    let mut at = after.div_euclid(MINUTE) * MINUTE - 26 * 60 * MINUTE;
    let mut latest = wall(at);
    while at < until {
        at += MINUTE;
        let mut fires = false;
        while latest < wall(at) {
            latest = latest.checked_add(SignedDuration::from_mins(1)).unwrap();
            fires |= matches(cron, latest);
        }
        if fires && at > after {
            return Some(at);
        }
    }
    None
}

proptest! {
    /// In any zone, from any moment since 1990 (before that, some zones had offsets with seconds).
    #[test]
    fn the_next_time_is_what_a_watcher_of_the_clock_sees(
        parts in (field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)),
        zone in prop::sample::select(zones()),
        start in millis("1990-01-01T00:00:00Z")..millis("2100-01-01T00:00:00Z"),
        near_change in any::<bool>(),
    ) {
        let (minute, hour, day, month, weekday) = parts;
        let cron = Cron::parse(&format!("{minute} {hour} {day} {month} {weekday}"), &zone).unwrap();
        // Changes of the clock are where it is hard.
        let change = cron.zone.following(Timestamp::from_millisecond(start).unwrap()).next();
        let start = match change {
            Some(change) if near_change => change.timestamp().as_millisecond() - start % (3 * 60 * MINUTE),
            _ => start,
        };
        let mut after = start;
        for _ in 0..4 {
            let next = cron.next_after(after).unwrap();
            prop_assert!(next > after);
            let local = cron.zone.to_datetime(Timestamp::from_millisecond(next).unwrap());
            let gap_ends = cron.zone.to_datetime(Timestamp::from_millisecond(next - MINUTE).unwrap())
                .checked_add(SignedDuration::from_mins(1)).unwrap() < local;
            prop_assert!(matches(&cron, local) || gap_ends, "{local}");
            let until = next.min(after + 24 * 60 * MINUTE);
            let seen = watch(&cron, &cron.zone, after, until);
            prop_assert_eq!(seen, (next == until).then_some(next));
            after = next;
        }
    }
}
