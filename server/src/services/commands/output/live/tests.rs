//! Output that is ready when the right to see it ends.

use std::collections::VecDeque;

use muster_protocol::frame::output::Stream;

use super::source::LiveOutputReader;
use super::{LiveEvent, LiveStream};
use crate::domain::commands::output_event::{Payload, Piece};
use crate::domain::ids::CommandId;
use crate::services::access::stream_permits::tests::Onlooker;
use crate::store::queries::OutputStream;

#[tokio::test]
async fn output_that_was_read_before_a_key_was_revoked_is_not_shown_after() {
    let onlooker = Onlooker::new().await;
    let tenant = onlooker.store.tenant(onlooker.caller.principal.tenant_id);
    let id = CommandId::new();
    let pieces = (0..3).map(|at| Piece {
        stream: Stream::Stdout,
        offset_bytes: at,
        end_bytes: at + 1,
        payload: Payload::Text("x".into()),
    });
    let mut view = LiveStream {
        scopes: &[],
        viewer: onlooker.viewers.admit(&onlooker.caller).expect("a place"),
        watch: onlooker.hub.watch_command(id),
        source: LiveOutputReader::new(tenant, id, OutputStream::Both, 3),
        ready: VecDeque::from_iter(pieces),
        ended: None,
        follow: true,
        is_over: false,
    };
    assert!(matches!(view.next().await, Ok(Some(LiveEvent::Output(_)))));
    onlooker.revoke_key().await;
    let shown = view.next().await;
    assert!(matches!(shown, Ok(None)), "{shown:?}");
}
