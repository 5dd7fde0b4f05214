//! What is remembered of a flow between its records.

use std::sync::Arc;

use super::limit::FLOWS_MAX;
use super::payload::{self, AppProto, Reading};
use super::segment::{Order, Piece};
use super::table::{Handle, Table};
use crate::model::Payload;

/// What is remembered of a flow.
#[derive(Clone, Debug, Default)]
pub(super) struct FlowState {
    /// Name the workload resolved the peer from; kept for the life of the flow.
    pub(super) name: Option<Arc<str>>,
    /// Whether a resolver that the workload is configured with gave that name.
    pub(super) is_name_trusted: bool,
    pub(super) app_proto: Option<AppProto>,
    pub(super) sni: Option<Arc<str>>,
    /// Processes with local channels on their streams that the flow has been held against.
    pub(super) suspects_seen: u64,
}

impl FlowState {
    /// The peer's name, if it is one that a profile may go by: a workload that asks a resolver of
    /// its own choice could name any address as it likes.
    pub(super) fn trusted_name(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.is_name_trusted)
    }
}

/// First bytes of a flow, put together until they say what it is.
#[derive(Debug, Default)]
pub(super) struct First {
    order: Order,
    bytes: Vec<u8>,
    is_over: bool,
}

impl First {
    /// Takes a segment in; what the bytes say so far.
    pub(super) fn take(&mut self, segment: &Payload, port: u16) -> Reading {
        let pieces = if self.is_over { None } else { self.order.take(segment) };
        for piece in pieces.unwrap_or_default() {
            let Piece::Bytes(bytes) = piece else {
                self.is_over = true;
                break;
            };
            let room = monitor_common::LONG_PAYLOAD_BYTES_MAX - self.bytes.len();
            self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        payload::read(&self.bytes, port)
    }
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
