//! Names of this node's pods, from the Kubernetes API: a list, then a watch from where the list
//! ended, as "Efficient detection of changes" of the API's documentation describes.
//!
//! The client is the HTTP client that webhooks use, on a thread of its own. A full client library
//! would bring some hundred and fifty crates for two requests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use thiserror::Error;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::directory::{Directory, SourceState};
use super::{ASK_AGAIN_MIN, back_off, members};
use crate::enrich::Names;

/// Bytes of one event of the watch. The API server bounds an object to some 1.5 MiB.
pub const LINE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of one page of the list: 500 pods.
pub(super) const PAGE_BYTES_MAX: u64 = 64 << 20;
/// Pages of one list; each has up to [`PAGE_PODS`] pods, and a node runs a few hundred.
const PAGES_MAX: usize = 16;
/// Pods that a page is asked to have.
pub(super) const PAGE_PODS: u32 = 500;
/// How long one watch lasts before the server ends it, in seconds.
const WATCH_SECONDS: u32 = 300;
/// Name of this source.
const SOURCE: &str = "kubernetes_api";
/// Annotation of static pods: what their cgroup is named by.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where the API is, and as whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// Address, e.g. `https://10.96.0.1:443`.
    pub url: String,
    /// Name of this node.
    pub node: String,
    /// File with the bearer token; read anew for each request, because it is replaced.
    pub token_file: Option<PathBuf>,
    /// File with the certificates of the API server's authority.
    pub ca_file: Option<PathBuf>,
}

impl ApiServer {
    /// The API at this address, asked with the service account's token and authority where they
    /// are there.
    pub fn at(url: &str, node: String) -> Self {
        let account = |name: &str| Some(Path::new(ACCOUNT).join(name)).filter(|path| path.exists());
        Self { url: url.to_owned(), node, token_file: account("token"), ca_file: account("ca.crt") }
    }

    /// What a pod with a service account knows of itself; `None` outside of Kubernetes or where
    /// the name of the node is not told. `env` reads a variable.
    pub fn in_cluster(env: impl Fn(&str) -> Option<String>, node: Option<String>) -> Option<Self> {
        let host = env("KUBERNETES_SERVICE_HOST")?;
        let port = env("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Some(Self {
            url: format!("https://{host}:{port}"),
            node: node.or_else(|| env("NODE_NAME"))?,
            token_file: Some(Path::new(ACCOUNT).join("token")),
            ca_file: Some(Path::new(ACCOUNT).join("ca.crt")),
        })
    }
}

/// Why the API did not answer.
#[derive(Debug, Error)]
pub(super) enum ApiError {
    #[error("cannot read {path}: {detail}")]
    File { path: String, detail: String },
    #[error("cannot ask {url}: {source}")]
    Ask { url: String, source: Box<ureq::Error> },
    #[error(
        "{url} answered {status}; the monitor's service account needs get, list and watch on pods"
    )]
    Status { url: String, status: u16 },
    #[error("{url} sent what is no list of pods: {source}")]
    Body { url: String, source: serde_json::Error },
    #[error("the watch broke off: {0}")]
    Broken(#[from] std::io::Error),
    #[error("an event of the watch is longer than {LINE_BYTES_MAX} bytes")]
    Long,
    /// What was asked for is too old; a new list is needed (HTTP 410).
    #[error("the watch fell behind")]
    Gone,
}

/// Lists and watches again and again.
pub(super) fn follow(api: &ApiServer, directory: &Directory) {
    let mut wait = ASK_AGAIN_MIN;
    loop {
        match cycle(api, directory) {
            Ok(never) => match never {},
            Err(ApiError::Gone) => wait = ASK_AGAIN_MIN,
            Err(error) => {
                let why = crate::cause::chain(&error);
                if directory.note_source(SOURCE, SourceState::Off(why.clone())) {
                    tracing::warn!(why, "names of pods are not known; what is known stays");
                }
                back_off(&mut wait);
            }
        }
    }
}

/// One list, and watches from there until something breaks.
fn cycle(api: &ApiServer, directory: &Directory) -> Result<std::convert::Infallible, ApiError> {
    let agent = agent(api)?;
    let mut version = list(api, &agent, directory)?;
    directory.note_source(SOURCE, SourceState::Active);
    loop {
        version = watch(api, &agent, directory, version)?;
    }
}

pub(super) fn agent(api: &ApiServer) -> Result<Agent, ApiError> {
    let roots = match &api.ca_file {
        None => RootCerts::WebPki,
        Some(path) => {
            let unreadable =
                |detail: String| ApiError::File { path: path.display().to_string(), detail };
            let found: Result<Vec<_>, _> = rustls_pki_types::CertificateDer::pem_file_iter(path)
                .map_err(|error| unreadable(error.to_string()))?
                .collect();
            let found = found.map_err(|error| unreadable(error.to_string()))?;
            let found: Vec<_> =
                found.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            RootCerts::new_with_certs(&found)
        }
    };
    Ok(Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        // The server ends a watch by itself; this is for one that has died.
        .timeout_global(Some(Duration::from_secs(u64::from(WATCH_SECONDS) + 60)))
        .user_agent(concat!("gpuwarden/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build()
        .new_agent())
}

fn get(
    api: &ApiServer,
    agent: &Agent,
    query: &[(&str, &str)],
) -> Result<ureq::http::Response<ureq::Body>, ApiError> {
    let node = format!("spec.nodeName={}", api.node);
    let mut of_node = vec![("fieldSelector", node.as_str())];
    of_node.extend(query);
    ask(api, agent, "pods", &of_node)
}

/// Asks for `path` below `/api/v1/`.
pub(super) fn ask(
    api: &ApiServer,
    agent: &Agent,
    path: &str,
    query: &[(&str, &str)],
) -> Result<ureq::http::Response<ureq::Body>, ApiError> {
    let url = format!("{}/api/v1/{path}", api.url.trim_end_matches('/'));
    let mut request = agent.get(&url);
    for (name, value) in query {
        request = request.query(*name, *value);
    }
    if let Some(path) = &api.token_file {
        let token = std::fs::read_to_string(path).map_err(|error| ApiError::File {
            path: path.display().to_string(),
            detail: error.to_string(),
        })?;
        request = request.header("Authorization", format!("Bearer {}", token.trim()));
    }
    let answer = request
        .call()
        .map_err(|source| ApiError::Ask { url: url.clone(), source: Box::new(source) })?;
    match answer.status().as_u16() {
        200..=299 => Ok(answer),
        410 => Err(ApiError::Gone),
        status => Err(ApiError::Status { url, status }),
    }
}

/// Lists all pods of the node; returns the version that the list is of.
fn list(api: &ApiServer, agent: &Agent, directory: &Directory) -> Result<String, ApiError> {
    let limit = PAGE_PODS.to_string();
    let mut next = String::new();
    let mut version = String::new();
    for _ in 0..PAGES_MAX {
        let mut query = vec![("limit", limit.as_str())];
        if !next.is_empty() {
            query.push(("continue", next.as_str()));
        }
        let mut answer = get(api, agent, &query)?;
        let body = answer.body_mut().with_config().limit(PAGE_BYTES_MAX).reader();
        let page: PodList = serde_json::from_reader(BufReader::new(body))
            .map_err(|source| ApiError::Body { url: api.url.clone(), source })?;
        for pod in page.items {
            keep(directory, pod);
        }
        version = page.metadata.resource_version;
        next = page.metadata.next;
        if next.is_empty() {
            break;
        }
    }
    Ok(version)
}

/// Follows one watch to its end; returns the version to go on from.
fn watch(
    api: &ApiServer,
    agent: &Agent,
    directory: &Directory,
    mut version: String,
) -> Result<String, ApiError> {
    let seconds = WATCH_SECONDS.to_string();
    let answer = get(
        api,
        agent,
        &[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", &seconds),
            ("resourceVersion", &version),
        ],
    )?;
    let body = answer.into_body().into_with_config().limit(u64::MAX).reader();
    let mut lines = BufReader::new(body);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(version);
        }
        if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            return Err(ApiError::Long);
        }
        if let Some(seen) = take_event(&line, directory)? {
            version = seen;
        }
    }
}

/// Takes one line of a watch in; returns the version that it brings.
fn take_event(line: &[u8], directory: &Directory) -> Result<Option<String>, ApiError> {
    // A line that is no event of ours is skipped: the next list sets everything right.
    let Ok(event) = serde_json::from_slice::<WatchEvent>(line) else { return Ok(None) };
    match event.kind.as_str() {
        "ERROR" if event.object.code == Some(410) => Err(ApiError::Gone),
        "ERROR" => Err(ApiError::Status {
            url: "the watch".to_owned(),
            status: event.object.code.unwrap_or(0),
        }),
        kind => {
            let version = event.object.metadata.resource_version.clone();
            // One that was deleted stays known: its last events may be on their way.
            if matches!(kind, "ADDED" | "MODIFIED") {
                keep(directory, event.object);
            }
            Ok((!version.is_empty()).then_some(version))
        }
    }
}

fn keep(directory: &Directory, pod: Pod) {
    let Pod { metadata, status, code: _ } = pod;
    let job = members::job_label(&metadata.namespace, &metadata.labels);
    let containers = [status.main, status.init, status.ephemeral];
    let names = Names {
        namespace: Some(metadata.namespace),
        pod: Some(metadata.name),
        labels: metadata.labels,
        containers: containers
            .into_iter()
            .flatten()
            .filter_map(|container| {
                // `containerd://<id>`
                let id = container.id.split_once("://").map_or(&*container.id, |(_, id)| id);
                (!id.is_empty()).then(|| (id.to_owned(), container.name))
            })
            .collect(),
        ..Names::default()
    };
    if let Some(hash) = metadata.annotations.get(CONFIG_HASH) {
        directory.put_pod(hash, names.clone(), None);
    }
    directory.put_pod(&metadata.uid, names, job);
}

#[derive(Debug, Deserialize)]
pub(super) struct PodList {
    #[serde(default)]
    pub(super) metadata: ListMeta,
    #[serde(default)]
    pub(super) items: Vec<Pod>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ListMeta {
    #[serde(default, rename = "resourceVersion")]
    resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) next: String,
}

#[derive(Debug, Deserialize)]
struct WatchEvent {
    #[serde(rename = "type")]
    kind: String,
    object: Pod,
}

/// A pod; or, of an event that says what went wrong, a status.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    metadata: PodMeta,
    #[serde(deserialize_with = "status")]
    pub(super) status: PodStatus,
    code: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodMeta {
    name: String,
    namespace: String,
    uid: String,
    #[serde(rename = "resourceVersion")]
    resource_version: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodStatus {
    pub(super) phase: String,
    #[serde(rename = "podIPs")]
    pub(super) addresses: Vec<PodAddress>,
    #[serde(rename = "containerStatuses")]
    main: Vec<ContainerStatus>,
    #[serde(rename = "initContainerStatuses")]
    init: Vec<ContainerStatus>,
    #[serde(rename = "ephemeralContainerStatuses")]
    ephemeral: Vec<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodAddress {
    pub(super) ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    id: String,
}

/// The status of a pod is an object, that of an error a word.
fn status<'de, D: serde::Deserializer<'de>>(from: D) -> Result<PodStatus, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Pod(PodStatus),
        Word(serde::de::IgnoredAny),
    }
    Ok(match Either::deserialize(from)? {
        Either::Pod(status) => status,
        Either::Word(_) => PodStatus::default(),
    })
}

#[cfg(test)]
pub(super) mod tests;
