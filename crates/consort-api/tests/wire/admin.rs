//! Keeping over the wire: what is wrong is said, and what cannot be done is refused by name.

use consort_api::Limits;
use consort_proto::admin::admin_service_client::AdminServiceClient;
use consort_proto::admin::{
    CreateBackupRequest, DownloadArchiveRequest, ImportRunsRequest, ListArchivesRequest, PruneRunsRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::server::{Server, soon};

fn field(status: &Status) -> String {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    violations.into_iter().next().map(|violation| violation.field).unwrap_or_default()
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let server = Server::start(Limits::default()).await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    let day = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (request, wrong) in [
        (PruneRunsRequest { keep_last: -1, ..Default::default() }, "keep_last"),
        (PruneRunsRequest { parent: "here".into(), ..Default::default() }, "parent"),
        (PruneRunsRequest { older_than: day(-1), ..Default::default() }, "older_than"),
        (PruneRunsRequest { others_older_than: day(-1), ..Default::default() }, "others_older_than"),
    ] {
        let refused = soon(admin.prune_runs(request)).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, wrong), "{refused:?}");
    }
    let nothing = soon(admin.prune_runs(PruneRunsRequest::default())).await.unwrap().into_inner();
    assert_eq!((nothing.runs, nothing.archives.len()), (0, 0), "without a rule nothing goes");

    for (name, offset) in [("archives/x", 0), ("x", 0), ("archives/../lock", 0), ("archives/x", -1)] {
        let request = DownloadArchiveRequest { name: name.into(), offset };
        assert_eq!(soon(admin.download_archive(request)).await.unwrap_err().code(), Code::NotFound, "{name}");
    }
    let none = soon(admin.list_archives(ListArchivesRequest::default())).await.unwrap().into_inner();
    assert!(none.archives.is_empty() && none.next_page_token.is_empty());

    let chunk = |bytes: Vec<u8>| futures::stream::iter([ImportRunsRequest { chunk: bytes.into() }]);
    for bytes in [Vec::new(), b"no archive".to_vec(), vec![0x1f, 0x8b, 0], vec![0; 2_000_000]] {
        let refused = soon(admin.import_runs(chunk(bytes))).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, "chunk"), "{refused:?}");
    }
    let refused = soon(admin.create_backup(CreateBackupRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "NOT_SUPPORTED");
}
