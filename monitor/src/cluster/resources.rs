//! GPUs of containers, from the kubelet's pod-resources socket: gRPC over a Unix socket, as
//! `monitor/proto/podresources.proto` has it. The messages are written out below, so that a build
//! needs no `protoc`; a test holds them against a server made from that file.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use hyper::http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::device::{DeviceName, is_gpu_resource};
use super::directory::{Directory, SourceState};
use super::{ASK_AGAIN_MIN, back_off};
use crate::enrich::Holder;

/// Name of this source.
const SOURCE: &str = "kubelet_pod_resources";
/// How often the kubelet is asked; it allows a hundred requests a second.
const EVERY: Duration = Duration::from_secs(10);
/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The call.
const LIST: &str = "/v1.PodResourcesLister/List";

#[derive(Clone, PartialEq, prost::Message)]
struct ListPodResourcesRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct ListPodResourcesResponse {
    #[prost(message, repeated, tag = "1")]
    pod_resources: Vec<PodResources>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodResources {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(message, repeated, tag = "3")]
    containers: Vec<ContainerResources>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerResources {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    devices: Vec<ContainerDevices>,
    #[prost(message, repeated, tag = "5")]
    dynamic_resources: Vec<DynamicResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerDevices {
    #[prost(string, tag = "1")]
    resource_name: String,
    #[prost(string, repeated, tag = "2")]
    device_ids: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DynamicResource {
    #[prost(message, repeated, tag = "4")]
    claim_resources: Vec<ClaimResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ClaimResource {
    #[prost(string, tag = "2")]
    driver_name: String,
    #[prost(string, tag = "4")]
    device_name: String,
}

/// Why the kubelet did not answer.
#[derive(Debug, Error)]
enum AskError {
    #[error("no runtime for the call: {0}")]
    Runtime(#[from] std::io::Error),
    #[error("cannot connect to {path}: {source}; mount /var/lib/kubelet/pod-resources")]
    Connect { path: String, source: tonic::transport::Error },
    #[error("the kubelet refused: {0}")]
    Refused(#[from] Box<tonic::Status>),
    #[error("the client is not ready: {0}")]
    Ready(tonic::transport::Error),
}

/// Asks again and again.
pub(super) fn follow(socket: &Path, directory: &Directory) {
    let mut wait = ASK_AGAIN_MIN;
    loop {
        match ask(socket) {
            Ok(response) => {
                directory.set_holders(SOURCE, Some(holders(response)));
                directory.note_source(SOURCE, SourceState::Active);
                wait = ASK_AGAIN_MIN;
                thread::sleep(EVERY);
            }
            Err(error) => {
                // A host without a kubelet is no host without allocations: nothing is known.
                directory.set_holders(SOURCE, None);
                let why = crate::cause::chain(&error);
                if directory.note_source(SOURCE, SourceState::Off(why.clone())) {
                    tracing::debug!(why, "allocations of GPUs to pods are not known");
                }
                back_off(&mut wait);
            }
        }
    }
}

fn ask(socket: &Path) -> Result<ListPodResourcesResponse, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(list(socket))
}

async fn list(socket: &Path) -> Result<ListPodResourcesResponse, AskError> {
    let path = socket.to_owned();
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is not used: the connector goes to the socket.
    let channel = Endpoint::from_static("http://kubelet.invalid")
        .timeout(PATIENCE)
        .connect_timeout(PATIENCE)
        .connect_with_connector(connector)
        .await
        .map_err(|source| AskError::Connect { path: socket.display().to_string(), source })?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(AskError::Ready)?;
    let codec = ProstCodec::<ListPodResourcesRequest, ListPodResourcesResponse>::default();
    let request = tonic::Request::new(ListPodResourcesRequest {});
    let answer = client.unary(request, PathAndQuery::from_static(LIST), codec).await;
    Ok(answer.map_err(Box::new)?.into_inner())
}

/// Who holds which GPU.
fn holders(response: ListPodResourcesResponse) -> BTreeMap<DeviceName, Vec<Holder>> {
    let mut found: BTreeMap<DeviceName, Vec<Holder>> = BTreeMap::new();
    for PodResources { name, namespace, containers } in response.pod_resources {
        for container in containers {
            let holder = Holder::Pod {
                namespace: namespace.clone(),
                pod: name.clone(),
                container: container.name,
            };
            let plugins = container
                .devices
                .iter()
                .filter(|devices| is_gpu_resource(&devices.resource_name))
                .flat_map(|devices| devices.device_ids.iter());
            let claims = container
                .dynamic_resources
                .iter()
                .flat_map(|resource| &resource.claim_resources)
                .filter(|claim| is_gpu_resource(&claim.driver_name))
                .map(|claim| &claim.device_name);
            for device in plugins.chain(claims).filter_map(|id| DeviceName::parse(id)) {
                let holders = found.entry(device).or_default();
                if !holders.contains(&holder) {
                    holders.push(holder.clone());
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_claims_become_holders() {
        let response = ListPodResourcesResponse {
            pod_resources: vec![PodResources {
                name: "trainer-0".into(),
                namespace: "training".into(),
                containers: vec![ContainerResources {
                    name: "main".into(),
                    devices: vec![
                        ContainerDevices {
                            resource_name: "nvidia.com/gpu".into(),
                            device_ids: vec!["GPU-1::0".into(), "GPU-1::1".into()],
                        },
                        ContainerDevices {
                            resource_name: "rdma/hca".into(),
                            device_ids: vec!["GPU-9".into()],
                        },
                    ],
                    dynamic_resources: vec![DynamicResource {
                        claim_resources: vec![ClaimResource {
                            driver_name: "gpu.nvidia.com".into(),
                            device_name: "gpu-2".into(),
                        }],
                    }],
                }],
            }],
        };
        let found = holders(response);
        let names: Vec<&DeviceName> = found.keys().collect();
        assert_eq!(names, [&DeviceName::Uuid("GPU-1".into()), &DeviceName::Index(2)]);
        let shown: Vec<String> = found.values().flatten().map(ToString::to_string).collect();
        assert_eq!(shown, ["k8s:training/trainer-0", "k8s:training/trainer-0"]);
    }
}
