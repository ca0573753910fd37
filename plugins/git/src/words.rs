//! Errors, times and texts, as callers see them.

use consort_sdk::Code;
use consort_sdk::plugin::Fault;
use git2::{Commit, ErrorClass, ErrorCode, Repository, Signature};
use jiff::Timestamp;
use jiff::tz::Offset;

/// Why libgit2 could not do it; `what` says what was tried.
pub(crate) fn told(what: &str) -> impl Fn(git2::Error) -> Fault + '_ {
    move |error| {
        let code = match (error.code(), error.class()) {
            (ErrorCode::NotFound | ErrorCode::UnbornBranch, _) => Code::NotFound,
            (ErrorCode::Exists, _) => Code::AlreadyExists,
            (ErrorCode::InvalidSpec | ErrorCode::Ambiguous, _) => Code::InvalidArgument,
            (ErrorCode::Locked | ErrorCode::Modified, _) => Code::Aborted,
            (ErrorCode::Auth | ErrorCode::Certificate, _) => Code::Unauthenticated,
            (ErrorCode::User, _) => Code::Cancelled,
            (_, ErrorClass::Net | ErrorClass::Http | ErrorClass::Ssl) => Code::Unavailable,
            _ => Code::FailedPrecondition,
        };
        Fault::new(code, format!("{what}: {}", error.message()))
    }
}

/// The commit that a revision names: a branch, a tag, an id, `HEAD~2`.
pub(crate) fn commit_of<'r>(repository: &'r Repository, field: &str, revision: &str) -> Result<Commit<'r>, Fault> {
    let found = repository.revparse_single(revision).and_then(|object| object.peel_to_commit());
    found.map_err(|error| match error.code() {
        ErrorCode::NotFound | ErrorCode::UnbornBranch if revision == "HEAD" => {
            Fault::precondition("the repository has no commits yet; commit something first").reason("NO_COMMITS")
        }
        ErrorCode::NotFound | ErrorCode::UnbornBranch => {
            Fault::not_found(format!("{field}: there is no revision `{revision}`; `branches` lists branches"))
        }
        _ => Fault::bad_input(field, format!("`{revision}` is no revision: {}", error.message())),
    })
}

/// A time as RFC 3339 with the offset that the author had.
pub(crate) fn time(signature: &Signature) -> String {
    moment(signature.when())
}

/// A time as RFC 3339 with its offset; empty if it is outside of the calendar.
pub(crate) fn moment(when: git2::Time) -> String {
    let offset = Offset::from_seconds(when.offset_minutes().saturating_mul(60)).unwrap_or(Offset::UTC);
    let time = Timestamp::from_second(when.seconds());
    time.map(|time| time.display_with_offset(offset).to_string()).unwrap_or_default()
}

/// Seconds of a time that a caller gives: RFC 3339, or a day, which begins at midnight UTC.
pub(crate) fn seconds(field: &str, text: &str) -> Result<i64, Fault> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_second());
    }
    let day = text.parse::<jiff::civil::Date>().ok().and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok());
    day.map(|day| day.timestamp().as_second()).ok_or_else(|| {
        let why = format!("`{text}` is no time; write it as `2026-01-31` or `2026-01-31T08:00:00+01:00`");
        Fault::bad_input(field, why)
    })
}

/// Bytes as text, at most so many; what is no UTF-8 becomes `\u{FFFD}`.
pub(crate) fn text(bytes: &[u8], most: usize) -> String {
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned();
    // A character may have been cut in two.
    if bytes.len() > most {
        while text.ends_with('\u{FFFD}') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        assert_eq!(seconds("since", "2026-01-05").unwrap(), 1_767_571_200);
        assert_eq!(seconds("since", "2026-01-05T01:00:00+01:00").unwrap(), 1_767_571_200);
        assert_eq!(moment(git2::Time::new(1_767_571_200, 60)), "2026-01-05T01:00:00+01:00");
        assert_eq!(moment(git2::Time::new(i64::MAX, 0)), "");
        assert_eq!(seconds("since", "yesterday").unwrap_err().violations[0].0, "since");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(text("aé".as_bytes(), 2), "a");
        assert_eq!(text("aé".as_bytes(), 3), "aé");
    }
}
