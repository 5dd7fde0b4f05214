//! Members of the jobs that this node's pods belong to, wherever they run: what `net.same_job` and
//! the peer `same_job` of profiles go by.
//!
//! A job is a label that its pods have in common: the operators that start them write it, and their
//! selectors hold them together by it. Members are the addresses of the running pods with that
//! label. They are listed again and again and not watched: a watch for each job would be a
//! connection for each.

use std::collections::{BTreeMap, HashMap};
use std::io::BufReader;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::directory::{Directory, JobLabel, SourceState};
use super::pods::{self, ApiError, ApiServer, PAGE_BYTES_MAX, PAGE_PODS, PodList};

/// Members of one job. Of a larger one nobody is told to be a member, rather than some.
pub const JOB_MEMBERS_MAX: usize = 8_192;
/// Pages of one job's list: twice what its members fill, for pods that have ended are listed too.
const JOB_PAGES_MAX: usize = 2 * JOB_MEMBERS_MAX.div_ceil(PAGE_PODS as usize);
/// How often a job is listed while it changes, and how often one that does not.
const EVERY: Duration = Duration::from_secs(5);
const EVERY_STEADY: Duration = Duration::from_secs(30);
/// How long a job counts as changing after it has changed.
const SETTLES: Duration = Duration::from_mins(2);
/// Name of this source.
const SOURCE: &str = "kubernetes_jobs";

/// Labels by which pods of one job are known, the widest first: a `JobSet` has several jobs.
const LABELS: [&str; 8] = [
    "jobset.sigs.k8s.io/jobset-name",
    "leaderworkerset.sigs.k8s.io/name",
    "training.kubeflow.org/job-name",
    "mpi-job-name",
    "ray.io/cluster",
    "volcano.sh/job-name",
    "batch.kubernetes.io/job-name",
    "job-name",
];

/// The job that a pod with these labels is of.
pub(super) fn job_label(namespace: &str, labels: &BTreeMap<String, String>) -> Option<JobLabel> {
    // Both go into a request; what is no name of Kubernetes is none of a job.
    let is_name = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !text.is_empty() && text.bytes().all(plain)
    };
    let (key, value) = LABELS.iter().find_map(|key| Some((*key, labels.get(*key)?)))?;
    (is_name(value) && is_name(namespace)).then(|| JobLabel {
        namespace: namespace.to_owned(),
        key,
        value: value.clone(),
    })
}

/// When a job was listed, and when it last changed.
struct Listed {
    at: Instant,
    changed: Instant,
    members: Vec<IpAddr>,
}

/// Lists the members of jobs again and again.
pub(super) fn follow(api: &ApiServer, directory: &Directory) {
    let mut listed = HashMap::new();
    loop {
        round(api, directory, &mut listed);
        thread::sleep(EVERY);
    }
}

fn round(api: &ApiServer, directory: &Directory, listed: &mut HashMap<String, Listed>) {
    let jobs = directory.pod_jobs();
    let name = |job: &JobLabel| format!("{}/{}={}", job.namespace, job.key, job.value);
    listed.retain(|known, _| jobs.iter().any(|job| name(job) == *known));
    for job in jobs {
        let now = Instant::now();
        let before = listed.get(&name(&job));
        let is_due = before
            .is_none_or(|before| now - before.at >= EVERY_STEADY || now - before.changed < SETTLES);
        if !is_due {
            continue;
        }
        match members(api, &job) {
            Ok(members) => {
                directory.note_source(SOURCE, SourceState::Active);
                let is_same = before.is_some_and(|before| before.members == members);
                let changed = before.filter(|_| is_same).map_or(now, |before| before.changed);
                let is_over = members.is_empty();
                listed.insert(name(&job), Listed { at: now, changed, members: members.clone() });
                directory.set_members(&job, (!is_over).then_some(members));
            }
            Err(error) => {
                let why = crate::cause::chain(&error);
                if directory.note_source(SOURCE, SourceState::Off(why.clone())) {
                    tracing::warn!(why, "members of jobs are not known; what is known stays");
                }
            }
        }
    }
}

/// Addresses of the running pods of a job, sorted; none where there are too many.
fn members(api: &ApiServer, job: &JobLabel) -> Result<Vec<IpAddr>, ApiError> {
    let agent = pods::agent(api)?;
    let path = format!("namespaces/{}/pods", job.namespace);
    let (selector, limit) = (format!("{}={}", job.key, job.value), PAGE_PODS.to_string());
    let mut found = Vec::new();
    let mut next = String::new();
    for _ in 0..JOB_PAGES_MAX {
        let mut query = vec![("labelSelector", selector.as_str()), ("limit", limit.as_str())];
        if !next.is_empty() {
            query.push(("continue", next.as_str()));
        }
        let mut answer = pods::ask(api, &agent, &path, &query)?;
        let body = answer.body_mut().with_config().limit(PAGE_BYTES_MAX).reader();
        let page: PodList = serde_json::from_reader(BufReader::new(body))
            .map_err(|source| ApiError::Body { url: api.url.clone(), source })?;
        // The address of one that has ended may be another's by now.
        let running = page.items.into_iter().filter(|pod| pod.status.phase == "Running");
        let addresses = running.flat_map(|pod| pod.status.addresses);
        found.extend(addresses.filter_map(|it| it.ip.parse::<IpAddr>().ok()));
        next = page.metadata.next;
        if found.len() > JOB_MEMBERS_MAX {
            tracing::warn!(job = selector, "a job has more than {JOB_MEMBERS_MAX} members");
            return Ok(Vec::new());
        }
        if next.is_empty() {
            found.sort_unstable();
            found.dedup();
            return Ok(found);
        }
    }
    tracing::warn!(job = selector, "a job's list has more than {JOB_PAGES_MAX} pages");
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::pods::tests::{Answer, serve};
    use super::*;
    use crate::enrich::{Names, Place, WorkloadNames as _};

    fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn job_is_the_widest_label_that_an_operator_wrote() {
        let both = labels(&[("job-name", "w-0"), ("jobset.sigs.k8s.io/jobset-name", "w")]);
        let job = job_label("ns", &both).expect("a job");
        assert_eq!((job.key, job.value.as_str()), ("jobset.sigs.k8s.io/jobset-name", "w"));
        assert_eq!(job_label("ns", &labels(&[("app", "x")])), None);
        assert_eq!(job_label("ns", &labels(&[("job-name", "a,b!=c")])), None, "goes into a query");
        assert_eq!(job_label("../x", &labels(&[("job-name", "a")])), None, "goes into a path");
    }

    #[test]
    fn list_that_never_ends_is_given_up_and_names_nobody() {
        let page = json!({"metadata": {"continue": "more"}, "items": []}).to_string();
        let answers = (0..=JOB_PAGES_MAX).map(|_| Answer(200, vec![page.clone()])).collect();
        let (api, asked) = serve(answers);
        let job = job_label("ml", &labels(&[("job-name", "train")])).expect("a job");
        assert_eq!(members(&api, &job).expect("answers"), Vec::<IpAddr>::new());
        assert_eq!(asked.try_iter().count(), JOB_PAGES_MAX);
    }

    #[test]
    fn running_pods_of_the_job_on_any_node_are_its_members() {
        let pod = |phase: &str, ips: &[&str]| {
            let ips: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
            json!({"metadata": {"name": "x"}, "status": {"phase": phase, "podIPs": ips}})
        };
        let page = |next: &str, items: Vec<serde_json::Value>| {
            json!({"metadata": {"continue": next}, "items": items}).to_string()
        };
        let first = vec![
            pod("Running", &["10.1.0.2", "fd00::2"]),
            pod("Succeeded", &["10.1.0.9"]),
            pod("Pending", &[]),
        ];
        let (api, asked) = serve(vec![
            Answer(200, vec![page("more", first)]),
            Answer(200, vec![page("", vec![pod("Running", &["10.1.0.1", "not an address"])])]),
            Answer(200, vec![page("", vec![])]),
            // The connection of the last one stays open.
            Answer(200, vec![]),
        ]);
        let directory = Arc::new(Directory::new(false).0);
        let job = job_label("ml", &labels(&[("job-name", "train")]));
        directory.put_pod("u1", Names::default(), job);
        let mut listed = HashMap::new();
        round(&api, &directory, &mut listed);
        let place = Place { pod_uid: Some("u1".into()), ..Place::default() };
        let known = || directory.names(&place).expect("known").job_members.clone();
        let expected: Vec<IpAddr> =
            ["10.1.0.1", "10.1.0.2", "fd00::2"].map(|ip| ip.parse().expect("an address")).into();
        assert_eq!(known(), expected);
        let asked: Vec<String> = asked.try_iter().collect();
        assert!(asked[0].contains("/api/v1/namespaces/ml/pods?"), "{}", asked[0]);
        assert!(asked[0].contains("labelSelector=job-name%3Dtrain"), "{}", asked[0]);
        assert!(asked[1].contains("continue=more"), "{}", asked[1]);
        assert!(!asked[0].contains("fieldSelector"), "members run on any node");
        round(&api, &directory, &mut listed);
        assert!(directory.pod_jobs().is_empty(), "a job without running pods is over");
        assert_eq!(known(), expected, "its last flows are still to its peers");
    }
}
