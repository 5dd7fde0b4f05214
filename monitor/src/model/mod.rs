//! The facts every stage speaks of. A leaf: it depends on no other module of ours.
//!
//! | type | meaning |
//! |---|---|
//! | [`Event`] | a decoded, owned, checked fact from the kernel or the GPU sampler |
//! | [`Facts`] | what a rule may ask about one event, after enrichment |
//! | [`FieldId`] | one row of the field catalogue: the single source of names, types and docs |
//! | [`Evidence`] | what an alert shows a person |

mod act;
mod delay;
mod event;
mod evidence;
mod field;
mod gpu;
mod id;
mod row;
mod text;
mod time;
mod value;
mod wire;

pub use act::{
    AccessMethod, AsyncIo, AsyncOp, CgroupMove, Channel, FileChange, FileOp, Link, LinkKind,
    MemoryAccess, NamespaceChange, NamespaceOp, SensorNote, Stdio, StreamKind, Tamper, TamperOp,
};
pub use delay::{DELAY_BOUNDS_US, Delay, DelayCounts};
pub use event::{
    Actor, Body, Event, ExeWriter, Exec, Exit, FileId, FileOpen, FileRead, FileType, Flow,
    FlowPhase, Loss, LossReason, ProcessSeen, SeenOrigin, SocketNew, TaskNew,
};
pub use evidence::{
    Completeness, Evidence, FileEvidence, FlowEvidence, GpuEvidence, LossEvidence, ProcessEvidence,
    SensorGap, WorkloadEvidence,
};
pub use field::{CATALOGUE, Field, FieldId, FieldType};
pub use gpu::{FaultKind, GpuActivity, GpuFault, GpuRole, GpuSample};
pub use id::{CgroupId, GpuUuid, ProcessKey, ProfileId, RuleId, Severity, Tgid, Tid, WorkloadId};
pub use row::{FactRow, RowError};
pub use text::{is_hidden, visible};
pub use time::{BootNs, Clock, WallNs};
pub use value::{EventKind, Facts, KindSet, Value};
pub use wire::{Dns, DnsAnswer, Payload, Wire};
