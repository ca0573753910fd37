//! A group's place as it is kept: enough to go on after its cursor without delivering again what is settled.

use std::sync::Arc;

use consort_core::ports::{Mark, StoreError};
use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::Place;

/// The beginning of the names of all groups' marks.
const PREFIX: &str = "group/";

/// Where a group stands. The stored names are a contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    #[serde(flatten)]
    pub(crate) settings: Settings,
    /// Everything up to this position is settled.
    pub(crate) cursor: u64,
    /// How many events of the row behind the cursor are settled, from its beginning.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) within: u32,
    /// Events beyond the cursor that are settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) settled: Vec<Place>,
    /// How often events that are not settled were tried in vain: position, number in the row, attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attempts: Vec<(u64, u32, u32)>,
    /// Dead letters that are to be tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) requeued: Vec<Place>,
}

impl Standing {
    /// A group that has settled nothing yet.
    pub(crate) fn new(settings: Settings, cursor: u64) -> Standing {
        Standing { settings, cursor, within: 0, settled: Vec::new(), attempts: Vec::new(), requeued: Vec::new() }
    }

    /// As it is kept.
    pub(crate) fn mark(&self, name: &Name) -> Mark {
        let value = serde_json::to_string(self).expect("numbers and texts are JSON");
        Mark { name: name.mark(), value: Some(value) }
    }

    /// Reads what is kept.
    pub(crate) fn read(mark: &Mark) -> Result<Standing, StoreError> {
        serde_json::from_str(mark.value.as_deref().unwrap_or_default())
            .map_err(|why| StoreError::Corrupt(format!("the mark `{}` cannot be read: {why}", mark.name)))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands out references
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Names a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) namespace: Arc<str>,
    pub(crate) id: Arc<str>,
}

impl Name {
    /// The name of its mark.
    pub(crate) fn mark(&self) -> String {
        format!("{PREFIX}{}/{}", self.namespace, self.id)
    }

    /// What the names of the marks of a namespace's groups begin with.
    pub(crate) fn prefix(namespace: &str) -> String {
        format!("{PREFIX}{namespace}/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::settings::Joining;

    #[test]
    fn a_standing_survives_storage() {
        let name = Name { namespace: "acme".into(), id: "billing".into() };
        let mut standing = Standing::new(Settings::of(&Joining::default()), 7);
        assert_eq!(Standing::read(&standing.mark(&name)).unwrap(), standing);
        standing.within = 3;
        standing.settled = vec![(9, 0), (9, 2)];
        standing.attempts = vec![(8, 0, 2)];
        standing.requeued = vec![(3, 1)];
        let mark = standing.mark(&name);
        assert_eq!(mark.name, "group/acme/billing");
        assert_eq!(Standing::read(&mark).unwrap(), standing);
        assert!(Standing::read(&Mark { value: Some("{}".into()), ..mark }).is_err());
    }

    #[test]
    fn what_was_stored_before_reads_for_ever() {
        let text = r#"{"from":{"after":0},"filter":{"types":["ORDER.*"]},"ack_timeout":30000,"max_attempts":5,"cursor":12,
            "settled":[[14,0]],"attempts":[[13,0,2]],"requeued":[[3,1]]}"#;
        let mark = Mark { name: "group/acme/billing".into(), value: Some(text.into()) };
        let standing = Standing::read(&mark).unwrap();
        assert_eq!((standing.cursor, standing.settled, standing.requeued), (12, vec![(14, 0)], vec![(3, 1)]));
        assert_eq!(standing.settings.filter.types(), ["ORDER.*"]);
    }
}
