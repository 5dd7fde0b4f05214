//! The incidents: who does what where, and what must be said about it. A new one is a row.

use std::net::SocketAddrV4;

use crate::stage::Network;

/// MiB of a model that is large enough for a third of it to be worth taking.
const MODEL_MIB: u32 = 256;
/// MiB of the model that the isolated job writes itself.
const SMALL_MODEL_MIB: u32 = 64;
/// MiB that the thief of weights sends: more than a third of the model.
const STOLEN_MIB: u32 = 96;

/// Port that discards, at both peers.
pub(super) const DISCARD_PORT: u16 = 443;
/// Port of the mining pool.
pub(super) const POOL_PORT: u16 = 3333;
/// Port of the inference server.
pub(super) const SERVE_PORT: u16 = 18_080;
/// Answers that the inference server gives.
pub(super) const ANSWERS: u32 = 20;

/// What the job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Reads weights, perhaps after writing them, and perhaps sends bytes.
    Train {
        /// Writes a model of so many MiB first.
        create_mib: u32,
        upload: Option<Upload>,
    },
    /// Reads weights and answers clients.
    Serve,
    /// Logs in to a pool.
    Mine,
}

/// Bytes that leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Upload {
    /// Whether the peer is the one that profiles allow.
    pub(super) to_store: bool,
    pub(super) mib: u32,
}

impl Upload {
    fn peer(self) -> SocketAddrV4 {
        if self.to_store { Network::store(DISCARD_PORT) } else { Network::stranger(DISCARD_PORT) }
    }
}

/// What the evidence of an alert must show, beside the process with its ancestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MustShow {
    /// The model that the job read.
    pub(super) model: bool,
    /// Where bytes went.
    pub(super) peer: Option<SocketAddrV4>,
    /// A GPU in use.
    pub(super) gpu: bool,
}

/// What the GPU does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GpuLoad {
    /// Nothing.
    Idle,
    /// Flat at 97 %, little memory, as hashing is.
    Hashing,
    /// Up and down with the steps, much memory, as training is.
    Training,
}

/// One incident, or one harmless twin of an incident.
#[derive(Debug)]
pub(crate) struct Incident {
    pub(super) name: &'static str,
    /// One sentence for people.
    pub(super) story: &'static str,
    /// Where the job is, below the cgroup v2 mount. It selects the profile.
    pub(super) cgroup: &'static str,
    pub(super) job: Job,
    pub(super) gpu: GpuLoad,
    /// The rule that must fire; `None` where every rule must stay silent.
    pub(super) expected: Option<&'static str>,
    /// Rules that are right to fire as well.
    pub(super) also: &'static [&'static str],
    /// The act from which latency is counted: what a person would call the moment it happened.
    pub(super) act: &'static str,
}

impl Incident {
    /// MiB of the model that is there before the job begins.
    pub(super) const fn model_mib(&self) -> Option<u32> {
        match self.job {
            Job::Train { create_mib: 0, .. } | Job::Serve => Some(MODEL_MIB),
            Job::Train { .. } | Job::Mine => None,
        }
    }

    /// What the evidence of the expected alert must show.
    pub(super) fn must_show(&self) -> MustShow {
        let (model, peer) = match self.job {
            Job::Train { upload, .. } => (true, upload.map(Upload::peer)),
            Job::Serve => (true, None),
            Job::Mine => (false, Some(Network::stranger(POOL_PORT))),
        };
        MustShow { model, peer, gpu: self.gpu != GpuLoad::Idle }
    }

    /// The script and its arguments.
    pub(super) fn script(&self, model: &str) -> Vec<String> {
        let mut line: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
        match self.job {
            Job::Train { create_mib, upload } => {
                add(&["trainer.py", "--model", model]);
                add(&["--create-mib", &create_mib.to_string()]);
                if let Some(upload) = upload {
                    let (peer, mib) = (upload.peer().to_string(), upload.mib.to_string());
                    add(&["--upload", &peer, "--upload-mib", &mib]);
                }
            }
            Job::Serve => {
                let address = Network::host(SERVE_PORT).to_string();
                add(&["server.py", "--model", model, "--listen", &address]);
                add(&["--requests", &ANSWERS.to_string()]);
            }
            Job::Mine => add(&["miner.py", "--pool", &Network::stranger(POOL_PORT).to_string()]),
        }
        line
    }
}

/// All of them: each incident, then its twin.
pub(super) const INCIDENTS: &[Incident] = &[
    Incident {
        name: "isolated-egress",
        story: "an isolated training job writes and reads weights, and sends them to a stranger",
        cgroup: "gpuwarden/isolated-training/job-1",
        job: Job::Train {
            create_mib: SMALL_MODEL_MIB,
            upload: Some(Upload { to_store: false, mib: SMALL_MODEL_MIB }),
        },
        gpu: GpuLoad::Idle,
        expected: Some("isolated-training-egress"),
        also: &["weights-bulk-egress"],
        act: "upload",
    },
    Incident {
        name: "checkpoint",
        story: "an isolated training job saves a checkpoint to the store that its profile allows",
        cgroup: "gpuwarden/isolated-training/job-2",
        job: Job::Train {
            create_mib: SMALL_MODEL_MIB,
            upload: Some(Upload { to_store: true, mib: SMALL_MODEL_MIB }),
        },
        gpu: GpuLoad::Idle,
        expected: None,
        also: &[],
        act: "upload",
    },
    Incident {
        name: "weight-exfiltration",
        story: "a training job with network reads weights, and sends a third of them to a stranger",
        cgroup: "gpuwarden/training/job-3",
        job: Job::Train {
            create_mib: 0,
            upload: Some(Upload { to_store: false, mib: STOLEN_MIB }),
        },
        gpu: GpuLoad::Idle,
        expected: Some("weights-bulk-egress"),
        // The stranger is addressed by number, which is worth a look by itself.
        also: &["public-address-without-name"],
        act: "upload",
    },
    Incident {
        name: "inference",
        story: "an inference server reads weights and answers clients",
        cgroup: "gpuwarden/inference/job-4",
        job: Job::Serve,
        gpu: GpuLoad::Idle,
        expected: None,
        also: &[],
        act: "listening",
    },
    Incident {
        name: "cryptomining",
        story: "a process keeps a GPU flat at 97 % and logs in to a mining pool",
        cgroup: "gpuwarden/batch/job-5",
        job: Job::Mine,
        gpu: GpuLoad::Hashing,
        expected: Some("stratum-handshake"),
        // The stranger is addressed by number, which is worth a look by itself.
        also: &["public-address-without-name"],
        act: "login",
    },
    Incident {
        name: "training-gpu",
        story: "a training job reads weights and keeps a GPU busy, up and down with its steps",
        cgroup: "gpuwarden/training/job-6",
        job: Job::Train { create_mib: 0, upload: None },
        gpu: GpuLoad::Training,
        expected: None,
        also: &[],
        act: "read",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_incident_has_a_twin_that_must_stay_silent() {
        let loud = INCIDENTS.iter().filter(|incident| incident.expected.is_some()).count();
        assert_eq!(loud * 2, INCIDENTS.len());
        assert!(INCIDENTS.iter().all(|one| one.expected.is_some() || one.also.is_empty()));
    }

    #[test]
    fn workloads_are_told_apart_by_their_cgroups() {
        let mut cgroups: Vec<_> = INCIDENTS.iter().map(|incident| incident.cgroup).collect();
        cgroups.sort_unstable();
        cgroups.dedup();
        assert_eq!(cgroups.len(), INCIDENTS.len());
    }

    #[test]
    fn theft_takes_a_third_and_its_twin_goes_to_the_store() {
        const { assert!(STOLEN_MIB * 3 >= MODEL_MIB) };
        let script = INCIDENTS[2].script("/m");
        assert!(script.contains(&"198.51.100.2:443".to_owned()), "{script:?}");
        let script = INCIDENTS[1].script("/m");
        assert!(script.contains(&"198.51.100.3:443".to_owned()), "{script:?}");
    }
}
