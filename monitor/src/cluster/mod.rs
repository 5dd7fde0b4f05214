//! What orchestrators say: names of workloads, and whom GPUs were given to. Everything here is
//! optional, bounded and cached; threads of their own ask, and no event waits for an answer.
//!
//! | file | what it holds |
//! |---|---|
//! | `directory` | the cache that everybody else reads |
//! | `pods` | names of this node's pods, from the Kubernetes API: list, then watch |
//! | `members` | who belongs to the jobs of these pods, on any node |
//! | `resources` | GPUs of containers, from the kubelet's pod-resources socket |
//! | `device` | the forms in which device plugins name a GPU |
//! | `slurm` | names of jobs, and their GPUs |

mod device;
mod directory;
mod members;
mod pods;
mod resources;
mod slurm;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub use directory::{Directory, JOBS_MAX, PODS_MAX, SourceState};
pub use members::JOB_MEMBERS_MAX;
pub use pods::{ApiServer, LINE_BYTES_MAX};
pub use slurm::{JOB_FILES_MAX, JOBS_QUEUED_MAX};

/// Longest wait before a source that failed is asked again; begins at one second and doubles.
const ASK_AGAIN_MAX: Duration = Duration::from_mins(1);
const ASK_AGAIN_MIN: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The Kubernetes API, where there is one.
    pub api: Option<ApiServer>,
    /// The kubelet's pod-resources socket; asked while it exists.
    pub pod_resources_socket: Option<PathBuf>,
    /// Whether SLURM is asked for names of jobs (`scontrol`).
    pub slurm: bool,
    /// A directory with one file per GPU index that lists the jobs on it.
    pub job_mapping_dir: Option<PathBuf>,
}

/// Starts a thread for each source. They end with the process.
pub fn start(config: &ClusterConfig) -> std::io::Result<Arc<Directory>> {
    let (directory, asked) = Directory::new(config.slurm);
    let directory = Arc::new(directory);
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    };
    if let Some(api) = config.api.clone() {
        let directory = Arc::clone(&directory);
        let (same_api, same_directory) = (api.clone(), Arc::clone(&directory));
        spawn("cluster-pods", Box::new(move || pods::follow(&api, &directory)))?;
        let run = move || members::follow(&same_api, &same_directory);
        spawn("cluster-members", Box::new(run))?;
    }
    if let Some(socket) = config.pod_resources_socket.clone() {
        let directory = Arc::clone(&directory);
        spawn("cluster-gpus", Box::new(move || resources::follow(&socket, &directory)))?;
    }
    if config.slurm || config.job_mapping_dir.is_some() {
        let (directory, mapping) = (Arc::clone(&directory), config.job_mapping_dir.clone());
        let run = move || slurm::follow(&asked, mapping.as_deref(), &directory);
        spawn("cluster-jobs", Box::new(run))?;
    }
    Ok(directory)
}

/// The wait after a failure: doubles from one to the next.
fn back_off(wait: &mut Duration) {
    thread::sleep(*wait);
    *wait = wait.saturating_mul(2).min(ASK_AGAIN_MAX);
}
