"""What the DaemonSet must say, beyond being valid."""

import yaml

import chart as charts
from tally import expect

LEAST = {"BPF", "PERFMON", "NET_ADMIN", "SYS_RESOURCE", "SYS_PTRACE", "DAC_READ_SEARCH"}

MOUNTS = {
    "/sys/fs/bpf": False, "/sys/kernel/tracing": True, "/sys/kernel/btf": True,
    "/sys/fs/cgroup": True, "/sys/kernel/security": True,
    "/var/lib/kubelet/pod-resources": True, "/var/lib/gpuwarden": False,
    "/etc/gpuwarden/config": True, "/etc/gpuwarden/rules.d": True, "/run/gpuwarden": False,
}


def pod_of(objects):
    """The pod template and its one container."""
    template = next(item for item in objects if item["kind"] == "DaemonSet")["spec"]["template"]
    return template, template["spec"]["containers"][0]


def kinds(objects):
    """Kinds of the objects."""
    return {item["kind"] for item in objects}


def default_privilege(chart):
    """Host process ids, the NVIDIA runtime, six capabilities and no more."""
    template, container = pod_of(charts.render(chart))
    spec, security = template["spec"], container["securityContext"]
    expect(spec["hostPID"] is True, "hostPID is not true: process ids would be meaningless")
    expect("hostNetwork" not in spec, "hostNetwork is on by default")
    expect(spec["runtimeClassName"] == "nvidia", "the NVIDIA runtime class is not asked for")
    expect(security["privileged"] is False, "privileged by default")
    expect(security["allowPrivilegeEscalation"] is False, "may gain privileges")
    expect(security["readOnlyRootFilesystem"] is True, "the root filesystem can be written")
    expect(security["capabilities"]["drop"] == ["ALL"], "not every capability is dropped first")
    added = set(security["capabilities"]["add"])
    expect(added == LEAST, f"capabilities differ: {sorted(added ^ LEAST)}")
    expect(security["appArmorProfile"] == {"type": "Unconfined"}, "AppArmor hides other processes")


def default_gpu(chart):
    """All GPUs to look at, none to compute on."""
    _, container = pod_of(charts.render(chart))
    env = {item["name"]: item.get("value") for item in container["env"]}
    expect(env.get("NVIDIA_VISIBLE_DEVICES") == "all", "not all GPUs are visible")
    expect(env.get("NVIDIA_DRIVER_CAPABILITIES") == "utility", "NVML is not asked for")
    asked = yaml.safe_dump(container["resources"])
    expect("nvidia.com/gpu" not in asked, "requests a GPU, and would take it from a job")
    for name in ("NODE_NAME", "NODE_IP", "POD_NAME", "POD_NAMESPACE"):
        expect(name in env, f"{name} is not set")


def default_placement(chart):
    """On GPU nodes, before the workloads, one node at a time."""
    objects = charts.render(chart)
    template, container = pod_of(objects)
    spec = template["spec"]
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    expect(taint in spec["tolerations"], "the taint of GPU nodes is not tolerated")
    expect(spec["nodeSelector"].get("nvidia.com/gpu.present") == "true", "not on GPU nodes only")
    expect(spec["priorityClassName"] == "system-node-critical", "may be evicted before a job")
    expect("cpu" not in container["resources"]["limits"], "a CPU limit loses records")
    expect("memory" in container["resources"]["limits"], "memory is not bounded")
    daemonset = next(item for item in objects if item["kind"] == "DaemonSet")
    expect(daemonset["spec"]["updateStrategy"]["type"] == "RollingUpdate", "no rolling update")
    expect(spec["terminationGracePeriodSeconds"] >= 20, "no time to hand over the last alerts")


def default_probes(chart):
    """Each probe asks its path at the port where the daemon listens."""
    objects = charts.render(chart)
    _, container = pod_of(objects)
    paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        asked = container[probe]["httpGet"]
        expect(asked == {"path": path, "port": "metrics"}, f"{probe} asks {asked}")
    ports = {item["name"]: item["containerPort"] for item in container["ports"]}
    expect(ports == {"metrics": 9753}, f"ports are {ports}")
    config = next(item for item in objects if "config.yaml" in item.get("data", {}))
    listen = yaml.safe_load(config["data"]["config.yaml"])["telemetry"]["listen"]
    expect(listen.endswith(":9753"), f"the daemon listens at {listen}")
    service = next(item for item in objects if item["kind"] == "Service")["spec"]
    expect(service["clusterIP"] == "None", "the service is not headless")
    expect(service["ports"][0]["port"] == 9753, "the service has another port")


def default_mounts(chart):
    """The folders of the node that the sensors need, read-only where reading is enough."""
    template, container = pod_of(charts.render(chart))
    mounts = {item["mountPath"]: item.get("readOnly", False) for item in container["volumeMounts"]}
    expect(mounts == MOUNTS, f"mounts differ: {set(mounts.items()) ^ set(MOUNTS.items())}")
    for path in mounts:
        nested = [other for other in mounts if path.startswith(f"{other}/")]
        expect(not nested, f"{path} lies in the mount {nested}, which may be read-only")
    volumes = {item["name"] for item in template["spec"]["volumes"]}
    used = {item["name"] for item in container["volumeMounts"]}
    expect(volumes == used, f"volumes and mounts differ: {volumes ^ used}")


def default_rights(chart):
    """The account may read pods and nothing else."""
    objects = charts.render(chart)
    role = next(item for item in objects if item["kind"] == "ClusterRole")
    wanted = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    expect(role["rules"] == wanted, f"the role allows {role['rules']}")
    absent = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "NetworkPolicy"} & kinds(objects)
    expect(not absent, f"{absent} are on by default, and need what a cluster may not have")


def restarts(chart):
    """A new configuration restarts the pods; new rules are reloaded in place."""
    def checksum(*sets):
        template, _ = pod_of(charts.render(chart, sets=sets))
        return template["metadata"]["annotations"]["checksum/config"]

    before = checksum()
    expect(checksum("config.log.level=debug") != before, "a new configuration starts no new pod")
    expect(checksum("rules.files.a\\.yaml=x") == before, "new rules restart every pod")


def privileged(chart, folder):
    """Everything or the list, never a mixture; and the driver from the host."""
    template, container = pod_of(charts.render(chart, folder / "privileged.yaml"))
    security = container["securityContext"]
    expect(security["privileged"] is True, "not privileged")
    expect("capabilities" not in security, "a privileged container lists capabilities")
    expect("runtimeClassName" not in template["spec"], "asks for the runtime it does not have")
    expect(template["spec"]["dnsPolicy"] == "ClusterFirstWithHostNet", "cluster names unknown")
    env = {item["name"]: item.get("value") for item in container["env"]}
    expect(env["NVIDIA_VISIBLE_DEVICES"] == "void", "a runtime would inject the driver again")
    source = next(v for v in template["spec"]["volumes"] if v["name"] == "driver")
    expect(source["hostPath"]["path"] == "/home/kubernetes/bin/nvidia/lib64", "another folder")


def least(chart, folder):
    """What is switched off is gone."""
    objects = charts.render(chart, folder / "least.yaml", "1.29")
    template, container = pod_of(objects)
    added = set(container["securityContext"]["capabilities"]["add"])
    expect(added == {"BPF", "PERFMON", "NET_ADMIN"}, f"capabilities are {sorted(added)}")
    left = kinds(objects) - {"DaemonSet", "ConfigMap"}
    expect(not left, f"{left} are rendered all the same")
    key = "container.apparmor.security.beta.kubernetes.io/gpuwarden"
    value = template["metadata"]["annotations"].get(key)
    expect(value == "localhost/gpuwarden", f"before 1.30 AppArmor is an annotation; is {value}")
    config = next(item for item in objects if "config.yaml" in item.get("data", {}))
    gpu = yaml.safe_load(config["data"]["config.yaml"])["gpu"]
    expect(gpu == {"enabled": False}, f"gpu.mode=none leaves gpu: {gpu}")


def scraped(chart, folder):
    """The workload's own labels survive the scrape, and the rules arrive whole."""
    objects = charts.render(chart, folder / "monitors.yaml")
    monitor = next(item for item in objects if item["kind"] == "ServiceMonitor")
    endpoint = monitor["spec"]["endpoints"][0]
    expect(endpoint["honorLabels"] is True, "`pod` would be renamed to `exported_pod`")
    labels = [item["targetLabel"] for item in endpoint["relabelings"]]
    expect(labels == ["node", "instance"], f"curves do not belong to the node: {labels}")
    expect(monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack", "label is lost")
    rule = next(item for item in objects if item["kind"] == "PrometheusRule")
    source = yaml.safe_load((chart / "files/gpuwarden.rules.yaml").read_text())
    expect(rule["spec"] == source, "the rules changed on their way through the template")
    board = next(item for item in objects if item["metadata"]["name"].endswith("-dashboard"))
    expect(board["metadata"]["labels"]["grafana_dashboard"] == "1", "Grafana would not find it")
    text = (chart / "files/gpuwarden.json").read_text()
    expect(board["data"]["gpuwarden.json"].strip() == text.strip(), "the dashboard changed")


def run(tally, chart, folder):
    """All checks of the DaemonSet."""
    for function in (default_privilege, default_gpu, default_placement, default_probes,
                     default_mounts, default_rights, restarts):
        tally.check(f"chart: {function.__name__.replace('_', ' ')}", function, chart)
    for function in (privileged, least, scraped):
        tally.check(f"chart: {function.__name__}", function, chart, folder)
