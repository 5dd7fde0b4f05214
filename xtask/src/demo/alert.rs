//! An alert as the monitor prints it with `--output json`: the parts that the demo judges and
//! shows. Unknown keys are left out, as any receiver would.

use serde::{Deserialize, Serialize};

use super::incident::MustShow;

/// One alert.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Alert {
    #[serde(default)]
    pub(super) id: String,
    /// new, update or close
    #[serde(default)]
    pub(super) activity: String,
    pub(super) rule: Rule,
    pub(super) severity: String,
    pub(super) summary: String,
    #[serde(default)]
    pub(super) workload: Option<Workload>,
    #[serde(default)]
    pub(super) evidence: Evidence,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Rule {
    pub(super) id: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Workload {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) cgroup: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Evidence {
    #[serde(default)]
    pub(super) processes: Vec<Process>,
    #[serde(default)]
    pub(super) files: Vec<File>,
    #[serde(default)]
    pub(super) flows: Vec<Flow>,
    #[serde(default)]
    pub(super) gpus: Vec<Gpu>,
    #[serde(default)]
    pub(super) completeness: Completeness,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct File {
    pub(super) path: String,
    #[serde(default)]
    pub(super) size_bytes: u64,
    #[serde(default)]
    pub(super) format: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Flow {
    #[serde(default)]
    pub(super) proto: String,
    pub(super) remote_ip: String,
    pub(super) remote_port: u16,
    #[serde(default)]
    pub(super) bytes_out: u64,
    #[serde(default)]
    pub(super) app_proto: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Gpu {
    #[serde(default)]
    pub(super) model: String,
    #[serde(default)]
    pub(super) util_mean_percent: f64,
    #[serde(default)]
    pub(super) mem_used_bytes: u64,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Completeness {
    #[serde(default)]
    pub(super) complete: bool,
}

impl Alert {
    /// Whether it speaks of the workload in this cgroup: by its path, else by a process of the
    /// play.
    pub(crate) fn is_about(&self, cgroup: &str, pid: u32) -> bool {
        let in_cgroup = self
            .workload
            .as_ref()
            .is_some_and(|workload| workload.cgroup.trim_start_matches('/') == cgroup);
        in_cgroup || self.evidence.processes.iter().any(|process| process.pid == pid)
    }

    /// The rule that fired.
    pub(crate) fn rule(&self) -> &str {
        &self.rule.id
    }

    /// info, low, medium, high or critical.
    pub(crate) fn severity(&self) -> &str {
        &self.severity
    }

    /// What happened, in one sentence.
    pub(crate) fn summary(&self) -> &str {
        &self.summary
    }

    /// The cgroup of its workload; empty where it has none.
    pub(crate) fn cgroup(&self) -> &str {
        self.workload.as_ref().map_or("", |workload| workload.cgroup.trim_start_matches('/'))
    }

    /// Whether its evidence names this process.
    pub(crate) fn names(&self, pid: u32) -> bool {
        self.evidence.processes.iter().any(|process| process.pid == pid)
    }

    /// What its evidence lacks of what it must show, in words.
    pub(super) fn lacks(&self, wanted: MustShow, model: &str, pid: u32) -> Vec<String> {
        let Evidence { processes, files, flows, gpus, .. } = &self.evidence;
        let mut lacks = Vec::new();
        let mut want = |is_there: bool, what: String| {
            if !is_there {
                lacks.push(what);
            }
        };
        let job = processes.first();
        want(job.is_some_and(|job| job.pid == pid), format!("the process {pid}"));
        want(processes.len() > 1, "the process's ancestors".to_owned());
        if wanted.model {
            want(files.iter().any(|file| file.path == model), format!("the file {model}"));
        }
        if let Some(peer) = wanted.peer {
            let is_peer = |flow: &Flow| {
                flow.remote_ip == peer.ip().to_string() && flow.remote_port == peer.port()
            };
            want(flows.iter().any(is_peer), format!("a flow to {peer}"));
        }
        if wanted.gpu {
            want(!gpus.is_empty(), "a GPU".to_owned());
        }
        lacks
    }

    /// Whether it is the first word on something.
    pub(crate) fn is_new(&self) -> bool {
        self.activity.is_empty() || self.activity == "new"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"schema_version":"1.0","id":"a","activity":"new",
        "rule":{"id":"r","version":"v","title":"t"},"severity":"high","summary":"s",
        "workload":{"id":"cgroup:/a/b","kind":"cgroup","name":"b","cgroup":"/a/b"},
        "evidence":{"processes":[{"pid":7,"name":"python3","args":["x"]}]}}"#;

    #[test]
    fn evidence_that_lacks_something_is_named() {
        let alert: Alert = serde_json::from_str(LINE).expect("an alert");
        let none = MustShow { model: false, peer: None, gpu: false };
        assert_eq!(alert.lacks(none, "/m", 7), ["the process's ancestors"]);
        let peer = "198.51.100.2:443".parse().ok();
        let all = MustShow { model: true, peer, gpu: true };
        assert_eq!(alert.lacks(all, "/m", 8).len(), 5);
    }

    #[test]
    fn alert_belongs_to_a_workload_by_cgroup_or_by_process() {
        let alert: Alert = serde_json::from_str(LINE).expect("an alert");
        assert!(alert.is_new());
        assert!(alert.is_about("a/b", 1));
        assert!(alert.is_about("elsewhere", 7));
        assert!(!alert.is_about("a", 1));
    }
}
