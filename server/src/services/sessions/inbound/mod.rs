//! Handles frames from an agent.

mod host;
mod work;

use bytes::Bytes;
use muster_protocol::frame::{
    AgentFrame, DecodeError, ErrorCode, Receipt, Registration, ServerFrame, decode_agent_frame,
};

use super::live::{LiveSession, MAX_ERROR_FRAME_CHARS, MAX_ERRORS, VIOLATION};
use super::{AgentMessage, AgentTransport, SessionEnd};
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::fault::Fault;
use crate::store::writer::Progress;

/// Most unknown frame types of one session that are remembered.
const MAX_UNKNOWN_TYPES: usize = 32;
/// Longest stored error message of an agent, in characters.
const MAX_ERROR_CHARS: usize = 2_000;

/// Waits for `register`. Every other frame before it is refused.
pub(super) async fn receive_registration<T: AgentTransport>(
    transport: &mut T,
) -> Result<Registration, SessionEnd> {
    for _ in 0..MAX_ERRORS {
        let text = match transport.receive().await? {
            AgentMessage::Text(text) => text,
            AgentMessage::KeepAlive => continue,
            AgentMessage::Binary(_) | AgentMessage::Report(..) => return Err(VIOLATION),
            AgentMessage::Closed => return Err(SessionEnd::Gone),
        };
        let (code, message) = match decode(&text) {
            Ok(AgentFrame::Register { data }) => return Ok(*data),
            Ok(_) => (ErrorCode::UnexpectedFrame, "send `register` first".to_owned()),
            Err(error) => (error.code(), clean(&error.to_string(), MAX_ERROR_FRAME_CHARS)),
        };
        transport.feed(&ServerFrame::Error { code, message }).await?;
        transport.flush().await?;
    }
    Err(VIOLATION)
}

fn decode(text: &Bytes) -> Result<AgentFrame, DecodeError> {
    let text = std::str::from_utf8(text)
        .map_err(|_| DecodeError::MalformedJson("the text is not UTF-8".into()))?;
    decode_agent_frame(text)
}

impl LiveSession {
    pub(super) async fn receive<T: AgentTransport>(
        &mut self,
        message: AgentMessage,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let text = match message {
            AgentMessage::KeepAlive => return Ok(()),
            AgentMessage::Closed => return Err(SessionEnd::Gone),
            AgentMessage::Report(response, receipt) => {
                return self.response(*response, Some(receipt)).await;
            }
            AgentMessage::Binary(bytes) => return self.output(bytes, transport).await,
            AgentMessage::Text(text) => text,
        };
        let frame = match decode(&text) {
            // A frame of the full protocol only, so a basic agent gets the error of an unknown type.
            Ok(AgentFrame::Deregister) if !self.handle.is_full => {
                Err(DecodeError::UnknownType("deregister".into()))
            }
            frame => frame,
        };
        match frame {
            Ok(AgentFrame::Register { .. }) => {
                let message = "this session is already registered".into();
                self.refuse(ErrorCode::UnexpectedFrame, message, transport).await
            }
            Ok(AgentFrame::Heartbeat(heartbeat)) => self.heartbeat(&heartbeat, transport).await,
            Ok(AgentFrame::Response(response)) => {
                if Fault::EarlyAck.is_on() {
                    let receipt = Some(Receipt::Recorded);
                    self.acknowledge(CommandId(response.command_id), None, receipt, transport)
                        .await?;
                }
                self.response(response, None).await
            }
            Ok(_) if !self.handle.is_full => {
                let message = "this frame needs the full protocol; register with it".into();
                self.refuse(ErrorCode::UnexpectedFrame, message, transport).await
            }
            Ok(AgentFrame::Accepted { command_id, acceptance_count }) => {
                let progress = Progress::Accepted { acceptance_count };
                self.progress(CommandId(command_id), progress, transport).await
            }
            Ok(AgentFrame::Started { command_id }) => {
                let command_id = CommandId(command_id);
                self.progress(command_id, Progress::Started { command_id }, transport).await
            }
            Ok(AgentFrame::Manifest { manifest, error, policy }) => {
                self.manifest(manifest, error, policy).await
            }
            Ok(AgentFrame::Inventory { items }) => self.inventory(&items),
            Ok(AgentFrame::InventoryEnd) => self.inventory_end().await,
            Ok(AgentFrame::Deregister) => self.deregister(transport).await,
            Ok(AgentFrame::UpdateResult { result }) => self.record_update_result(result).await,
            Err(error) => {
                if let DecodeError::UnknownType(kind) = &error
                    && self.inbound.unknown_types.len() < MAX_UNKNOWN_TYPES
                    && !self.inbound.unknown_types.insert(kind.clone())
                {
                    return Ok(());
                }
                self.refuse(error.code(), error.to_string(), transport).await
            }
        }
    }
}
