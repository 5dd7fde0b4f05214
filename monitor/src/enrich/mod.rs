//! Enrichment: joins each event with what is known of its process, workload, files and GPUs.
//!
//! A pure state machine: the clock is the event's, and the host is asked through [`ProcSource`].
//! Every table is bounded (`limit`) and counts what had to make room.
//!
//! | file | what it holds |
//! |---|---|
//! | `enricher` | the state, and the way of one event through it |
//! | `subject`, `process` | which process an event belongs to; births, programs, ends, lineage |
//! | `settle`, `workload`, `place` | which workload a process belongs to, from its cgroup |
//! | `effect`, `account` | what an event adds to the account of its workload |
//! | `derivation`, `piece` | which files carry on what was read |
//! | `label`, `content`, `scan`, `held` | which files are weights; who held them at start |
//! | `net`, `payload`, `flow` | peers, protocols, first payloads |
//! | `link`, `far` | what workloads that have read weights pass on within the host, and to whom |
//! | `pipe`, `handed` | the same through pipes and FIFOs, and of memory without a name |
//! | `shared_memory` | the same in segments of System V |
//! | `hindsight` | what a record leaves open, and acts that are done by writing to a file |
//! | `question`, `message`, `segment` | resolvers: questions and answers, datagrams and streams |
//! | `facts`, `evidence` | the answers: fields for rules, evidence for people |
//! | `gpu` | fields of GPUs, the mining score's inputs, whose GPU it is |
//! | `profile` | what is asked of profiles, orchestrators and the GPU sampler |
//! | `standing` | who lives in which cgroup, and what may become of them |
//! | `source`, `procfs` | what is read of the host |

mod account;
mod acts;
mod budget;
mod census;
mod content;
mod derivation;
mod descriptor;
mod effect;
mod enricher;
mod evidence;
mod executable;
mod facts;
mod far;
mod file;
mod filesystem;
mod flow;
mod gpu;
mod handed;
mod held;
mod hindsight;
mod interpreter;
mod label;
mod label_store;
pub mod limit;
mod link;
mod message;
mod net;
mod payload;
mod piece;
mod pipe;
mod place;
mod process;
mod procfs;
mod profile;
mod question;
mod reach;
mod resolver;
mod role;
mod scan;
mod secret;
mod segment;
mod settle;
mod shared_memory;
mod source;
mod standing;
mod stream;
mod subject;
mod table;
mod workload;

#[cfg(test)]
mod tests;

pub use budget::{BudgetSnapshot, BudgetView};
pub use census::CENSUS_MAX;
pub use content::{FileClass, Format};
pub use enricher::{EnrichConfig, EnrichCounters, Enricher, Observation};
pub use facts::Enriched;
pub use gpu::{GpuNode, gpu_minor};
pub use held::{Held, HeldFiles, find_held, note_held};
pub use label::{LabelChange, LabelId, LabelSeed};
pub use label_store::LabelSnapshot;
pub use net::{PeerClass, family_name, is_pool_name, protocol_name, socket_type_name};
pub use payload::AppProto;
pub use place::{Place, WorkloadKind};
pub use procfs::Procfs;
pub use profile::{
    Allocations, GpuFeatures, Holder, Names, NoAllocations, NoGpu, NoNames, NoProfiles, Peers,
    ProfileView, Profiles, WorkloadNames,
};
pub use scan::{Found, ScanProgress, scan};
pub use source::{FileHead, NoSource, ProcInfo, ProcSource};
pub use standing::{Resident, Stamp, World};
