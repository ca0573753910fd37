//! `EventService.ListGroups` and `DeleteGroup`.

use consort_bus::groups::RequestKey;
use consort_core::Error;
use consort_proto::event as wire;

use crate::{Context, convert, names, request};

/// The groups of a namespace.
pub(crate) async fn list(
    context: &Context,
    request: wire::ListGroupsRequest,
) -> Result<wire::ListGroupsResponse, Error> {
    let namespace = names::parent("parent", &request.parent)?;
    let groups = context.groups.list(&namespace).await?;
    Ok(wire::ListGroupsResponse { groups: groups.iter().map(|group| convert::group(&namespace, group)).collect() })
}

/// Forgets a group.
pub(crate) async fn delete(
    context: &Context,
    request: wire::DeleteGroupRequest,
) -> Result<wire::DeleteGroupResponse, Error> {
    let (namespace, id) = names::group("name", &request.name)?;
    request::check_id(&request.request_id)?;
    let key = (!request.request_id.is_empty()).then_some(RequestKey(request.request_id));
    context.groups.delete(&namespace, &id, key).await?;
    Ok(wire::DeleteGroupResponse {})
}
