"""A kubelet's pod-resources socket, served by grpcio from the vendored .proto.

Arguments: folder for generated code and socket, the .proto file. Prints "ready", then serves until
standard input ends.
"""

import pathlib
import sys
from concurrent import futures

import grpc
from grpc_tools import protoc

folder, proto = map(pathlib.Path, sys.argv[1:3])
protoc.main(
    ["", f"-I{proto.parent}", f"--python_out={folder}", f"--grpc_python_out={folder}", str(proto)]
)
sys.path.insert(0, str(folder))
import podresources_pb2 as pb  # noqa: E402  generated above
import podresources_pb2_grpc as service  # noqa: E402


class Lister(service.PodResourcesListerServicer):
    def List(self, request, context):
        gpu = pb.ContainerDevices(
            resource_name="nvidia.com/gpu", device_ids=["GPU-1::0", "GPU-1::1"]
        )
        nic = pb.ContainerDevices(resource_name="rdma/hca", device_ids=["GPU-9"])
        claim = pb.DynamicResource(
            claim_name="c",
            claim_resources=[
                pb.ClaimResource(
                    driver_name="gpu.nvidia.com", pool_name="node-1", device_name="gpu-2"
                )
            ],
        )
        main = pb.ContainerResources(name="main", devices=[gpu, nic], dynamic_resources=[claim])
        side = pb.ContainerResources(name="side")
        pod = pb.PodResources(name="trainer-0", namespace="training", containers=[main, side])
        return pb.ListPodResourcesResponse(pod_resources=[pod])


server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
service.add_PodResourcesListerServicer_to_server(Lister(), server)
server.add_insecure_port(f"unix:{folder}/kubelet.sock")
server.start()
print("ready", flush=True)
sys.stdin.read()
server.stop(0)
