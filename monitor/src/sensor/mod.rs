//! Sensors: the table of them, the one place that loads them, and the rings they write to.

mod attach;
mod catalog;
mod drain;
mod held;
pub mod interest;
mod label_change;
pub mod label_mark;
mod label_reader;
pub mod label_watch;
mod loader;
mod memory;
mod object;
mod own;
mod path_watch;
mod preload;
mod probe;
mod read_rest;
#[cfg(test)]
mod register;
mod seed;
mod status;
mod wanted;

pub use catalog::{CATALOG, Hook, Program, Road, Sensor, Tier};
pub use drain::{
    DRAIN_BATCH_MAX, Drain, DrainStats, Frame, Frames, QUEUE_BULK_BYTES_MAX, QUEUE_HIGH_BYTES_MAX,
    Rings, Wake,
};
pub use loader::{
    KernelCounters, LoadError, Loaded, NAME_CLASS_BYTES_MIN, OPEN_REPEAT_NS, Settings, SharedMaps,
    load,
};
pub use memory::{MAP_BYTES_MAX, MapLayout, MapSize, total as map_bytes};
pub use path_watch::{MOUNT_NAMESPACES_MAX, PATH_DIRECTORIES_MAX, PathWatch, directories_of};
pub use probe::Tiers;
pub use read_rest::ReadRests;
pub use seed::{SEED_PROCESSES_MAX, SeedError, Seeds, seed};
pub use status::{State, Status, all_off};
pub use wanted::Wanted;
