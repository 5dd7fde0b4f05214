//! Every metric name in one place; `/metrics`, `/livez`, `/readyz`.
//!
//! | file | what it owns |
//! |---|---|
//! | `family` | names, types, labels, meanings; `docs/metrics.md` is made from it |
//! | `snapshot` | what the pipeline fills in |
//! | `sheet` | snapshot → rows |
//! | `metrics` | the registry: bounds on series, the text format |
//! | `process` | the daemon's own use of the host |
//! | `ready` | ready or not, alive or not |
//! | `server` | HTTP |

mod family;
mod gpu;
mod metrics;
mod process;
mod ready;
mod server;
mod sheet;
mod snapshot;

pub use family::{FAMILIES, Family, Kind, markdown};
pub use metrics::{BuildInfo, Metrics, OVERFLOW, SERIES_MAX, ScrapeError};
pub use ready::{BEAT_SILENCE_MAX_NS, Readiness};
pub use server::{CONNECTION_TIMEOUT, CONNECTIONS_MAX, HEAD_TIMEOUT, Server, ServerError};
pub use sheet::LABEL_CHARS_MAX;
pub use snapshot::{
    GpuBackendMetrics, GpuMetrics, GpuQuantity, GpuReading, KernelCounts, SensorMetrics,
    SensorState, Snapshot, TableMetrics, WorkloadGpuMetrics, WorkloadMetrics,
};
