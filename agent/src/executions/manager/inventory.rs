//! The inventory: the state of every open command, reported when a session starts.

use muster_protocol::frame::InventoryItem;
use uuid::Uuid;

use super::ExecutionManager;
use crate::executions::ledger::{Entry, Phase};
use crate::executions::output_reader;

impl ExecutionManager {
    /// Every command without a receipt, oldest first.
    pub fn inventory(&self) -> Vec<InventoryItem> {
        let mut entries: Vec<_> = self.ledger.entries().collect();
        entries.sort_by_key(|(_, entry)| entry.order);
        let item = |(command_id, entry): (Uuid, &Entry)| InventoryItem {
            command_id,
            state: entry.phase.inventory_state(),
            offset_bytes: self.recorded_bytes(command_id, entry.phase),
        };
        entries.into_iter().map(item).collect()
    }

    fn recorded_bytes(&self, command_id: Uuid, phase: Phase) -> u64 {
        if phase == Phase::Settled {
            // The result contains the size; the output may be deleted already.
            let response = self.ledger.response(command_id);
            let bytes = response.and_then(|response| response.data.get("output_bytes")?.as_u64());
            return bytes.unwrap_or_default();
        }
        let stored = output_reader::recorded(&self.state.execution(command_id).output());
        stored.map_or(0, |recorded| recorded.payload_bytes)
    }
}
