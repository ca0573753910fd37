//! How a group works: decided by its first subscriber, and the same for all who join.

use std::ops::RangeInclusive;
use std::time::Duration;

use consort_core::Error;
use serde::{Deserialize, Serialize};

use crate::Filter;

/// How long a member may hold a delivery.
pub const ACK_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
/// How often an event may be tried.
pub const MAX_ATTEMPTS: RangeInclusive<u32> = 1..=100;

const DEFAULT_ACK_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_MAX_ATTEMPTS: u32 = 5;

/// Where a new group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// At what is committed from now on.
    Latest,
    /// After this position in the log.
    After(u64),
}

/// What a subscriber asks of a group; what is absent is as the group has it, or the default if it is new.
#[derive(Clone, Debug, Default)]
pub struct Joining {
    /// Where to begin; by default at what is committed from now on.
    pub from: Option<Origin>,
    /// Which events; by default all.
    pub filter: Option<Filter>,
    /// How long a member may hold a delivery, within [`ACK_TIMEOUT`]; by default 30 s.
    pub ack_timeout: Option<Duration>,
    /// How often an event is tried, within [`MAX_ATTEMPTS`]; by default 5.
    pub max_attempts: Option<u32>,
    /// Events the member can take at first.
    pub credit: usize,
}

/// How a group works. The stored names are a contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) from: Origin,
    #[serde(default)]
    pub(crate) filter: Filter,
    /// In milliseconds.
    #[serde(with = "millis")]
    pub(crate) ack_timeout: Duration,
    pub(crate) max_attempts: u32,
}

impl Settings {
    /// What the first subscriber decides.
    pub(crate) fn of(joining: &Joining) -> Settings {
        let ack_timeout = joining.ack_timeout.unwrap_or(DEFAULT_ACK_TIMEOUT);
        Settings {
            from: joining.from.unwrap_or(Origin::Latest),
            filter: joining.filter.clone().unwrap_or_default(),
            ack_timeout: ack_timeout.clamp(*ACK_TIMEOUT.start(), *ACK_TIMEOUT.end()),
            max_attempts: joining
                .max_attempts
                .unwrap_or(DEFAULT_MAX_ATTEMPTS)
                .clamp(*MAX_ATTEMPTS.start(), *MAX_ATTEMPTS.end()),
        }
    }

    /// Refuses a subscriber that wants it otherwise.
    pub(crate) fn check(&self, group: &str, joining: &Joining) -> Result<(), Error> {
        let (field, has) = if joining.from.is_some_and(|from| from != self.from) {
            let began = match self.from {
                Origin::Latest => "the latest".to_owned(),
                Origin::After(position) => format!("the cursor {position}"),
            };
            ("from", began)
        } else if joining.filter.as_ref().is_some_and(|filter| *filter != self.filter) {
            ("filter", serde_json::to_string(&self.filter).unwrap_or_default())
        } else if joining.ack_timeout.is_some_and(|timeout| timeout != self.ack_timeout) {
            ("ack_timeout", format!("{:?}", self.ack_timeout))
        } else if joining.max_attempts.is_some_and(|most| most != self.max_attempts) {
            ("max_attempts", self.max_attempts.to_string())
        } else {
            return Ok(());
        };
        let said = format!(
            "`{field}` differs from that of the group `{group}`, which is {has}; give the same, or leave it out, or choose another group"
        );
        Err(Error::precondition("GROUP_DIFFERS", said))
    }
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(duration.as_millis() as u64)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::Kind;

    #[test]
    fn whoever_joins_gives_the_same_or_leaves_it_out() {
        let orders = || Some(Filter::new(vec!["ORDER.*".into()], None, String::new()));
        let first = Joining { filter: orders(), max_attempts: Some(3), ..Joining::default() };
        let settings = Settings::of(&first);
        assert_eq!(settings.ack_timeout, Duration::from_secs(30));
        settings.check("g", &first).unwrap();
        settings.check("g", &Joining::default()).unwrap();
        settings.check("g", &Joining { from: Some(Origin::Latest), ..Joining::default() }).unwrap();
        for (field, joining) in [
            ("from", Joining { from: Some(Origin::After(0)), ..Joining::default() }),
            ("filter", Joining { filter: Some(Filter::default()), ..Joining::default() }),
            ("ack_timeout", Joining { ack_timeout: Some(Duration::from_secs(31)), ..Joining::default() }),
            ("max_attempts", Joining { max_attempts: Some(4), ..Joining::default() }),
        ] {
            let error = settings.check("g", &joining).unwrap_err();
            assert_eq!((error.kind, error.reason), (Kind::FailedPrecondition, "GROUP_DIFFERS"));
            assert!(error.message.contains(&format!("`{field}`")), "{error}");
        }
    }

    #[test]
    fn settings_survive_storage() {
        let joining = Joining { from: Some(Origin::After(7)), ..Joining::default() };
        let settings = Settings::of(&joining);
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings, "{text}");
    }
}
