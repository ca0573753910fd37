//! `consort dead-letters`, `requeue`, `groups` and `event-types`.

use clap::Args;
use consort_proto::event::{
    ListDeadLettersRequest, ListEventTypesRequest, ListGroupsRequest, RequeueDeadLettersRequest,
};

use crate::context::{Context, request_id};
use crate::failure::{Failure, Result};
use crate::output::{Table, text};

/// List events that could not be accepted or delivered.
#[derive(Debug, Args)]
pub(crate) struct DeadLetters {
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub limit: i32,
}

impl DeadLetters {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let request =
            ListDeadLettersRequest { parent: context.parent.clone(), page_size: self.limit, page_token: String::new() };
        let page = context.mesh.answer(context.mesh.client.events().list_dead_letters(request).await)?;
        context.format.print(&page, || {
            let mut table = Table::new(&["DEAD LETTER", "TYPE", "GROUP", "TRIED", "CAME", "REASON"]);
            for letter in &page.dead_letters {
                table.row([
                    letter.id.clone(),
                    letter.event.as_ref().map_or_else(String::new, |event| event.event_type.clone()),
                    text::id(&letter.group).to_owned(),
                    letter.attempts.to_string(),
                    text::ago(letter.create_time.as_ref()),
                    letter.reason.clone(),
                ]);
            }
            table.render_or("no dead letters")
        })
    }
}

/// Try dead letters again: those of a group go back to it, others are published if they meet their contract now.
#[derive(Debug, Args)]
pub(crate) struct Requeue {
    /// Ids of the dead letters; see `consort dead-letters`.
    #[arg(required = true, num_args = 1..=1_000)]
    pub ids: Vec<String>,
}

impl Requeue {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let request =
            RequeueDeadLettersRequest { parent: context.parent.clone(), ids: self.ids, request_id: request_id() };
        let answer = context.mesh.answer(context.mesh.client.events().requeue_dead_letters(request).await)?;
        let failed = answer.results.iter().filter(|result| !result.error.is_empty()).count();
        context.format.print(&answer, || {
            let line = |result: &consort_proto::event::Requeued| match result.error.as_str() {
                "" => format!("{}  requeued\n", result.id),
                error => format!("{}  stays: {error}\n", result.id),
            };
            answer.results.iter().map(line).collect()
        })?;
        if failed == 0 { Ok(()) } else { Err(Failure::failed(format!("{failed} stay dead letters"))) }
    }
}

/// List the consumer groups and where they stand.
#[derive(Debug, Args)]
pub(crate) struct Groups {}

impl Groups {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let request = ListGroupsRequest { parent: context.parent.clone() };
        let page = context.mesh.answer(context.mesh.client.events().list_groups(request).await)?;
        context.format.print(&page, || {
            let mut table = Table::new(&["GROUP", "TYPES", "CURSOR", "LAG", "IN FLIGHT", "MEMBERS"]);
            for group in &page.groups {
                let types = group.filter.as_ref().map(|filter| filter.event_types.join(" ")).unwrap_or_default();
                table.row([
                    text::id(&group.name).to_owned(),
                    types,
                    group.cursor.to_string(),
                    group.lag.to_string(),
                    group.in_flight.to_string(),
                    group.members.to_string(),
                ]);
            }
            table.render_or("no groups; a subscriber begins one")
        })
    }
}

/// List the event types that have a contract. `-o json` prints the schemas.
#[derive(Debug, Args)]
pub(crate) struct EventTypes {}

impl EventTypes {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let page =
            context.mesh.answer(context.mesh.client.events().list_event_types(ListEventTypesRequest {}).await)?;
        context.format.print(&page, || {
            let mut table = Table::new(&["TYPE", "VERSION", "WHAT IT SAYS"]);
            for kind in &page.event_types {
                table.row([kind.event_type.clone(), kind.event_version.to_string(), kind.description.clone()]);
            }
            table.render_or("no contracts")
        })
    }
}
