//! Bytes → [`Event`]. Decoding is total: every byte string yields an event or a named refusal, and
//! every refusal is counted. Bytes from the kernel are input like any other: a length may be wrong,
//! a kind may be newer than the daemon.

mod act;
mod file;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use monitor_common::{
    ARGS_FAULT, ActorRecord, DIRECTION_EGRESS, DIRECTION_INGRESS, EXEC_DELETED, EXEC_MEMFD,
    Endpoint, ExecRecord, ExitRecord, FLOW_END, FLOW_FAST_OPEN, FLOW_PROGRESS, FLOW_START,
    FileIdRecord, FlowRecord, KIND_ASYNC_IO, KIND_CGROUP_MOVE, KIND_DNS, KIND_EXEC, KIND_EXIT,
    KIND_FILE_CHANGE, KIND_FILE_OPEN, KIND_FILE_READ, KIND_FLOW, KIND_LINK, KIND_MEMORY_ACCESS,
    KIND_NAMESPACE, KIND_PAYLOAD, KIND_SOCKET_NEW, KIND_STDIO, KIND_TAMPER, KIND_TASK_NEW,
    PAYLOAD_INWARD, PayloadRecord, RecordHeader, SocketNewRecord, TASK_IO_WORKER, TaskNewRecord,
};
use thiserror::Error;
use zerocopy::FromBytes;

use crate::model::{
    Actor, Body, BootNs, CgroupId, Event, ExeWriter, Exec, Exit, FileId, Flow, FlowPhase, Payload,
    ProcessKey, SocketNew, TaskNew, Tgid, Tid, WallNs, Wire,
};

/// Arguments of one program that are kept.
pub const ARGS_MAX: usize = 512;
/// `IPPROTO_TCP` (include/uapi/linux/in.h).
const IPPROTO_TCP: u16 = 6;
/// `CLONE_THREAD` (include/uapi/linux/sched.h).
const CLONE_THREAD: u64 = 0x0001_0000;

/// Why bytes are not an event.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than its kind, or than a length inside says.
    #[error("record of kind {kind} is cut off at {len} bytes")]
    Truncated {
        /// The kind; zero when not even that was there.
        kind: u16,
        /// What there was.
        len: usize,
    },
    /// A kind that this daemon does not know.
    #[error("record kind {0} is not known")]
    UnknownKind(u16),
    /// A field holds a value that it cannot have.
    #[error("record of kind {kind} has {field} {value}")]
    BadField {
        /// The kind.
        kind: u16,
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
}

impl DecodeError {
    /// Whether the refusal is counted as `unknown` rather than as `malformed`.
    pub const fn is_unknown(self) -> bool {
        matches!(self, Self::UnknownKind(_))
    }
}

/// What the decoder counts: `received = decoded + malformed + unknown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeStats {
    /// Frames handed to the decoder.
    pub received: u64,
    /// Events.
    pub decoded: u64,
    /// Refused: the bytes are not what their kind says.
    pub malformed: u64,
    /// Refused: the kind is not known.
    pub unknown: u64,
}

impl DecodeStats {
    /// Counts one result.
    pub const fn count(&mut self, result: &Result<Event, DecodeError>) {
        self.received += 1;
        match result {
            Ok(_) => self.decoded += 1,
            Err(error) if error.is_unknown() => self.unknown += 1,
            Err(_) => self.malformed += 1,
        }
    }
}

/// Decodes one frame.
pub fn decode(frame: &[u8]) -> Result<Event, DecodeError> {
    let (header, _) = RecordHeader::read_from_prefix(frame)
        .map_err(|_| DecodeError::Truncated { kind: 0, len: frame.len() })?;
    let body = match header.kind {
        KIND_TASK_NEW => task_new(frame)?,
        KIND_EXEC => exec(frame)?,
        KIND_EXIT => Body::Exit(Exit { code: fixed::<ExitRecord>(frame, KIND_EXIT)?.0.code }),
        KIND_FILE_OPEN => file::open(frame)?,
        KIND_FLOW => flow(frame)?,
        KIND_SOCKET_NEW => socket_new(frame)?,
        KIND_PAYLOAD => payload(frame)?,
        KIND_DNS => wire(frame)?,
        KIND_STDIO => act::stdio(frame)?,
        KIND_MEMORY_ACCESS => act::memory_access(frame)?,
        KIND_TAMPER => act::tamper(frame)?,
        KIND_NAMESPACE => act::namespace(frame)?,
        KIND_ASYNC_IO => act::async_io(frame)?,
        KIND_LINK => act::link(frame)?,
        KIND_CGROUP_MOVE => act::cgroup_move(frame)?,
        KIND_FILE_READ => file::read(frame)?,
        KIND_FILE_CHANGE => file::change(frame)?,
        unknown => return Err(DecodeError::UnknownKind(unknown)),
    };
    Ok(Event { time: BootNs(header.boot_ns), actor: Some(actor(&header.actor)), body })
}

/// Who, as the kernel wrote it.
pub fn actor(record: &ActorRecord) -> Actor {
    Actor {
        process: process_key(record.tgid, record.start_boot_ns),
        tid: Tid(record.tid),
        cgroup: CgroupId(record.cgroup_id),
        uid: record.uid,
        comm: text(until_zero(&record.comm)),
    }
}

/// A process, as the kernel wrote it.
pub const fn process_key(tgid: u32, start_boot_ns: u64) -> ProcessKey {
    ProcessKey { tgid: Tgid(tgid), start: BootNs(start_boot_ns) }
}

/// A file's identity, as the kernel wrote it.
pub const fn file_id(record: &FileIdRecord) -> FileId {
    FileId { device: record.device, inode: record.inode, generation: record.generation }
}

/// Splits an argument area at its zero bytes. What is not UTF-8 is replaced, not lost.
pub fn arguments(area: &[u8]) -> Vec<String> {
    let area = area.strip_suffix(&[0]).unwrap_or(area);
    if area.is_empty() {
        return Vec::new();
    }
    area.split(|byte| *byte == 0).take(ARGS_MAX).map(text).collect()
}

fn text(bytes: &[u8]) -> String {
    // Almost every text is what it should be; replacing goes chunk by chunk.
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

fn fixed<T: FromBytes>(frame: &[u8], kind: u16) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(frame).map_err(|_| DecodeError::Truncated { kind, len: frame.len() })
}

/// Takes the next `len` bytes of what follows a record.
fn take<'a>(rest: &mut &'a [u8], len: u32, kind: u16) -> Result<&'a [u8], DecodeError> {
    let (part, left) = rest
        .split_at_checked(len as usize)
        .ok_or(DecodeError::Truncated { kind, len: rest.len() })?;
    *rest = left;
    Ok(part)
}

fn task_new(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, _) = fixed::<TaskNewRecord>(frame, KIND_TASK_NEW)?;
    Ok(Body::TaskNew(TaskNew {
        child: process_key(record.child_tgid, record.child_start_boot_ns),
        child_tid: Tid(record.child_tid),
        child_comm: text(until_zero(&record.header.actor.comm)),
        clone_flags: record.clone_flags,
        is_thread: record.clone_flags & CLONE_THREAD != 0 || record.child_tgid != record.child_tid,
        is_io_worker: record.flags & TASK_IO_WORKER != 0,
    }))
}

fn exec(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, mut rest) = fixed::<ExecRecord>(frame, KIND_EXEC)?;
    let exe = take(&mut rest, record.exe_len, KIND_EXEC)?;
    let args = take(&mut rest, record.args_len, KIND_EXEC)?;
    let cwd = take(&mut rest, record.cwd_len, KIND_EXEC)?;
    Ok(Body::Exec(Exec {
        parent: process_key(record.parent_tgid, record.parent_start_boot_ns),
        exe: text(exe),
        exe_id: file_id(&record.exe),
        is_memfd: record.flags & EXEC_MEMFD != 0,
        is_deleted: record.flags & EXEC_DELETED != 0,
        args: arguments(args),
        args_bytes: record.args_total,
        args_truncated: record.args_total > record.args_len || record.flags & ARGS_FAULT != 0,
        cwd: text(cwd),
        exe_changed: exe_changed(record.exe_changed_s),
        exe_writer: (record.writer_tgid != 0).then_some(ExeWriter {
            process: Tgid(record.writer_tgid),
            cgroup: CgroupId(record.writer_cgroup_id),
            time: BootNs(record.writer_boot_ns),
        }),
    }))
}

/// Seconds since the epoch; nothing for a clock before it.
fn exe_changed(seconds: i64) -> Option<WallNs> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds != 0)?;
    Some(WallNs(seconds.saturating_mul(1_000_000_000)))
}

fn socket_address(end: &Endpoint) -> SocketAddr {
    let ip = Ipv6Addr::from(end.address);
    let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
    SocketAddr::new(ip, end.port)
}

fn peer_address(end: &Endpoint) -> Option<SocketAddr> {
    let address = socket_address(end);
    (!address.ip().is_unspecified()).then_some(address)
}

const fn is_egress(direction: u16) -> Option<bool> {
    match direction {
        DIRECTION_EGRESS => Some(true),
        DIRECTION_INGRESS => Some(false),
        _ => None,
    }
}

fn flow(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, _) = fixed::<FlowRecord>(frame, KIND_FLOW)?;
    let phase = match record.phase {
        FLOW_START => FlowPhase::Start,
        FLOW_PROGRESS => FlowPhase::Progress,
        FLOW_END => FlowPhase::End,
        other => {
            return Err(DecodeError::BadField {
                kind: KIND_FLOW,
                field: "phase",
                value: u64::from(other),
            });
        }
    };
    Ok(Body::Flow(Flow {
        phase,
        flow_id: record.flow_id,
        family: record.family,
        socket_type: record.socket_type,
        protocol: record.protocol,
        egress: is_egress(record.direction),
        local: socket_address(&record.local),
        remote: peer_address(&record.remote),
        owner: process_key(record.owner_tgid, record.owner_start_boot_ns),
        bytes_out_total: record.bytes_out,
        bytes_out: record.bytes_out.saturating_sub(record.bytes_out_before),
        bytes_in_total: 0,
        sends: record.sends,
        started: BootNs(record.started_boot_ns),
        is_fast_open: record.flags & FLOW_FAST_OPEN != 0,
        payload: None,
    }))
}

fn socket_new(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, _) = fixed::<SocketNewRecord>(frame, KIND_SOCKET_NEW)?;
    Ok(Body::SocketNew(SocketNew {
        family: record.family,
        socket_type: record.socket_type,
        protocol: record.protocol,
        path: text(until_zero(&record.path)),
    }))
}

fn payload(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, mut rest) = fixed::<PayloadRecord>(frame, KIND_PAYLOAD)?;
    let bytes = take(&mut rest, record.payload_len, KIND_PAYLOAD)?;
    let remote = peer_address(&record.remote);
    Ok(Body::Flow(Flow {
        phase: FlowPhase::Payload,
        flow_id: record.flow_id,
        family: remote.map_or(0, |remote| if remote.is_ipv4() { 2 } else { 10 }),
        socket_type: 1,
        protocol: record.protocol,
        egress: Some(true),
        local: socket_address(&record.local),
        remote,
        owner: process_key(record.owner_tgid, record.owner_start_boot_ns),
        bytes_out_total: 0,
        bytes_out: 0,
        bytes_in_total: 0,
        sends: 0,
        started: BootNs(record.header.boot_ns),
        is_fast_open: false,
        payload: Some(first_bytes(&record, bytes)),
    }))
}

fn wire(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, mut rest) = fixed::<PayloadRecord>(frame, KIND_DNS)?;
    let bytes = take(&mut rest, record.payload_len, KIND_DNS)?;
    Ok(Body::Wire(Wire {
        flow_id: record.flow_id,
        is_stream: record.protocol == IPPROTO_TCP,
        is_inward: record.flags & PAYLOAD_INWARD != 0,
        local: socket_address(&record.local),
        server: socket_address(&record.remote),
        payload: first_bytes(&record, bytes),
    }))
}

fn first_bytes(record: &PayloadRecord, bytes: &[u8]) -> Payload {
    Payload {
        sequence: record.sequence,
        total: record.payload_total,
        bytes: Bytes::copy_from_slice(bytes),
    }
}

#[cfg(test)]
mod tests;
