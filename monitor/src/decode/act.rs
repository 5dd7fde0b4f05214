//! Records of acts beyond files and flows (kinds 20 to 39).

use monitor_common::{
    ACCESS_CHECK, ACCESS_PIDFD_GETFD, ACCESS_PROC_MEM, ACCESS_PTRACE, ACCESS_VM_READ,
    ACCESS_VM_WRITE, ASYNC_COMPAT, ASYNC_IO_URING, ASYNC_IO_URING_NET, ASYNC_OVERRIDE_CREDS,
    ASYNC_SQPOLL, ASYNC_USERFAULTFD, AsyncIoRecord, CgroupMoveRecord, KIND_ASYNC_IO,
    KIND_CGROUP_MOVE, KIND_LINK, KIND_MEMORY_ACCESS, KIND_NAMESPACE, KIND_STDIO, KIND_TAMPER,
    LINK_LOOPBACK, LINK_PASSED, LINK_PIPE, LINK_UNIX, LinkRecord, MemoryAccessRecord, NS_CHROOT,
    NS_MOUNT, NS_OPEN_BY_HANDLE, NS_PIVOT_ROOT, NS_SETNS, NS_UNSHARE, NamespaceRecord, STDIO_EXEC,
    STREAM_PIPE, STREAM_PTY, STREAM_SOCKET, StdioRecord, StreamRecord, TAMPER_BPF_DETACH,
    TAMPER_BPF_LOAD, TAMPER_BPF_MAP_CHANGE, TAMPER_BPF_OPEN, TAMPER_FREEZE, TAMPER_MODULE_LOAD,
    TAMPER_MODULE_REFUSED, TAMPER_MODULE_UNLOAD, TAMPER_PIN_REMOVE, TAMPER_SELF, TAMPER_SIGNAL,
    TAMPER_TRACING_OFF, TamperRecord,
};

use super::{DecodeError, fixed, peer_address, process_key, take, text, until_zero};
use crate::model::{
    AccessMethod, AsyncIo, AsyncOp, Body, CgroupId, CgroupMove, Channel, Link, LinkKind,
    MemoryAccess, NamespaceChange, NamespaceOp, Stdio, StreamKind, Tamper, TamperOp,
};

/// `AF_UNIX` (include/linux/socket.h).
const AF_UNIX: u16 = 1;
/// Streams a record tells of at most.
const STREAMS: usize = 3;

/// A field that holds a number without a meaning.
fn bad(kind: u16, field: &'static str, value: impl Into<u64>) -> DecodeError {
    DecodeError::BadField { kind, field, value: value.into() }
}

pub(super) fn stdio(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, _) = fixed::<StdioRecord>(frame, KIND_STDIO)?;
    let count = usize::from(record.count);
    if count > STREAMS {
        return Err(bad(KIND_STDIO, "count", record.count));
    }
    let mut stdio = Stdio { is_whole: record.cause == STDIO_EXEC, ..Stdio::default() };
    for stream in &record.streams[..count] {
        let slot = usize::try_from(stream.fd).unwrap_or(usize::MAX);
        let channel = channel(stream);
        *stdio.channels.get_mut(slot).ok_or(bad(KIND_STDIO, "fd", stream.fd))? = channel;
        let is_socket = channel.is_some_and(|channel| channel.kind == StreamKind::Socket);
        if is_socket && stdio.family == 0 {
            stdio.fd = stream.fd;
            stdio.family = stream.family;
            stdio.remote = peer_address(&stream.remote).filter(|remote| remote.port() != 0);
        }
    }
    Ok(Body::Stdio(stdio))
}

/// What a stream is joined to; `None` for a file, a terminal of the host, or nothing.
fn channel(stream: &StreamRecord) -> Option<Channel> {
    let kind = match stream.kind {
        STREAM_SOCKET if stream.family == AF_UNIX => StreamKind::Unix,
        STREAM_SOCKET => StreamKind::Socket,
        STREAM_PIPE => StreamKind::Pipe,
        STREAM_PTY => StreamKind::Pty,
        _ => return None,
    };
    Some(Channel { kind, id: stream.channel, inode: stream.inode })
}

pub(super) fn memory_access(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, _) = fixed::<MemoryAccessRecord>(frame, KIND_MEMORY_ACCESS)?;
    let method = match record.method {
        ACCESS_PTRACE => AccessMethod::Ptrace,
        ACCESS_VM_READ => AccessMethod::VmRead,
        ACCESS_VM_WRITE => AccessMethod::VmWrite,
        ACCESS_PROC_MEM => AccessMethod::ProcMem,
        ACCESS_PIDFD_GETFD => AccessMethod::PidfdGetfd,
        ACCESS_CHECK => AccessMethod::Check,
        other => return Err(bad(KIND_MEMORY_ACCESS, "method", other)),
    };
    Ok(Body::MemoryAccess(MemoryAccess {
        method,
        target: process_key(record.target_tgid, record.target_start_boot_ns),
        named_pid: record.named_pid,
        is_host_pid: record.pid_ns_level == 0,
        bytes: record.bytes,
    }))
}

pub(super) fn tamper(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, _) = fixed::<TamperRecord>(frame, KIND_TAMPER)?;
    let op = match record.op {
        TAMPER_BPF_LOAD => TamperOp::BpfLoad,
        TAMPER_BPF_DETACH => TamperOp::BpfDetach,
        TAMPER_BPF_MAP_CHANGE => TamperOp::BpfMapChange,
        TAMPER_BPF_OPEN => TamperOp::BpfOpen,
        TAMPER_PIN_REMOVE => TamperOp::PinRemove,
        TAMPER_MODULE_LOAD => TamperOp::ModuleLoad,
        TAMPER_MODULE_UNLOAD => TamperOp::ModuleUnload,
        TAMPER_MODULE_REFUSED => TamperOp::ModuleRefused,
        TAMPER_SIGNAL => TamperOp::Signal,
        TAMPER_FREEZE => TamperOp::Freeze,
        TAMPER_TRACING_OFF => TamperOp::TracingOff,
        other => return Err(bad(KIND_TAMPER, "op", other)),
    };
    Ok(Body::Tamper(Tamper {
        op,
        target: process_key(record.target_tgid, record.target_start_boot_ns),
        signal: record.signal,
        object: text(until_zero(&record.object)),
        object_id: record.object_id,
        is_self: record.flags & TAMPER_SELF != 0,
    }))
}

pub(super) fn namespace(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, mut rest) = fixed::<NamespaceRecord>(frame, KIND_NAMESPACE)?;
    let op = match record.op {
        NS_SETNS => NamespaceOp::Setns,
        NS_UNSHARE => NamespaceOp::Unshare,
        NS_MOUNT => NamespaceOp::Mount,
        NS_PIVOT_ROOT => NamespaceOp::PivotRoot,
        NS_CHROOT => NamespaceOp::Chroot,
        NS_OPEN_BY_HANDLE => NamespaceOp::OpenByHandle,
        other => return Err(bad(KIND_NAMESPACE, "op", other)),
    };
    let source = take(&mut rest, record.source_len, KIND_NAMESPACE)?;
    let path = take(&mut rest, record.path_len, KIND_NAMESPACE)?;
    let fs_type = take(&mut rest, record.type_len, KIND_NAMESPACE)?;
    Ok(Body::Namespace(NamespaceChange {
        op,
        flags: record.ns_flags,
        source: text(until_zero(source)),
        path: text(until_zero(path)),
        fs_type: text(until_zero(fs_type)),
        mount_ns: record.mount_ns,
    }))
}

pub(super) fn async_io(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, _) = fixed::<AsyncIoRecord>(frame, KIND_ASYNC_IO)?;
    let op = match record.op {
        ASYNC_IO_URING => AsyncOp::IoUring,
        ASYNC_SQPOLL => AsyncOp::Sqpoll,
        ASYNC_OVERRIDE_CREDS => AsyncOp::OverrideCreds,
        ASYNC_USERFAULTFD => AsyncOp::Userfaultfd,
        ASYNC_COMPAT => AsyncOp::Compat,
        ASYNC_IO_URING_NET => AsyncOp::IoUringNet,
        other => return Err(bad(KIND_ASYNC_IO, "op", other)),
    };
    Ok(Body::AsyncIo(AsyncIo { op, opcode: record.opcode, flags: record.call_flags }))
}

pub(super) fn link(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, _) = fixed::<LinkRecord>(frame, KIND_LINK)?;
    let kind = match record.kind {
        LINK_UNIX => LinkKind::Unix,
        LINK_PIPE => LinkKind::Pipe,
        LINK_LOOPBACK => LinkKind::Loopback,
        LINK_PASSED => LinkKind::Passed,
        other => return Err(bad(KIND_LINK, "kind", other)),
    };
    Ok(Body::Link(Link {
        kind,
        peer: process_key(record.peer_tgid, record.peer_start_boot_ns),
        peer_cgroup: CgroupId(record.peer_cgroup),
        bytes: record.bytes,
        is_accepted: record.is_accepted != 0,
        peer_socket: record.peer_socket,
        peer_port: record.peer_port,
    }))
}

pub(super) fn cgroup_move(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, mut rest) = fixed::<CgroupMoveRecord>(frame, KIND_CGROUP_MOVE)?;
    let path = take(&mut rest, record.path_len, KIND_CGROUP_MOVE)?;
    Ok(Body::CgroupMove(CgroupMove {
        moved: process_key(record.moved_tgid, record.moved_start_boot_ns),
        to: CgroupId(record.to_cgroup),
        path: text(until_zero(path)),
    }))
}

#[cfg(test)]
mod tests;
