//! What is remembered of a flow between its records.

use std::sync::Arc;

use super::limit::FLOWS_MAX;
use super::payload::AppProto;
use super::table::{Handle, Table};

/// What is remembered of a flow.
#[derive(Clone, Debug, Default)]
pub(super) struct FlowState {
    /// Name the workload resolved the peer from; kept for the life of the flow.
    pub(super) name: Option<Arc<str>>,
    pub(super) app_proto: Option<AppProto>,
    pub(super) sni: Option<Arc<str>>,
    /// Processes with local channels on their streams that the flow has been held against.
    pub(super) suspects_seen: u64,
}

/// Flows that are known, bounded.
pub(super) struct Flows {
    table: Table<u64, FlowState>,
    /// A flow that has ended, and is known until its last event was looked at.
    ended: Option<Handle<FlowState>>,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self { table: Table::new(FLOWS_MAX), ended: None }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.table.evicted()
    }

    pub(super) fn get(&self, handle: Handle<FlowState>) -> Option<&FlowState> {
        self.table.get(handle)
    }

    pub(super) fn get_mut(&mut self, handle: Handle<FlowState>) -> Option<&mut FlowState> {
        self.table.get_mut(handle)
    }

    /// The flow with this id, known from now on.
    pub(super) fn of(&mut self, flow_id: u64) -> Handle<FlowState> {
        match self.table.find(&flow_id) {
            Some(handle) => {
                self.table.touch(handle);
                handle
            }
            None => self.table.insert(flow_id, FlowState::default()).0,
        }
    }

    pub(super) fn end(&mut self, handle: Handle<FlowState>) {
        self.ended = Some(handle);
    }

    pub(super) fn forget_ended(&mut self) {
        if let Some(handle) = self.ended.take() {
            self.table.remove(handle);
        }
    }
}
