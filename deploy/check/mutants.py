#!/usr/bin/env -S python3 -B
"""Breaks a copy of deploy/ in one place at a time and looks whether the right check notices.

    deploy/check/mutants.py            every mutant; about a minute
    deploy/check/mutants.py probes     those of checks with this text in their name

A check that cannot fail shows nothing. Each row names a file, what is replaced by what, and the
check that has to fail. The last line is `N passed, N failed`.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

from tally import Tally, expect

HERE = pathlib.Path(__file__).resolve().parent
TREE = HERE.parent.parent

CHART = "deploy/helm/gpuwarden/"
VALUES, SCHEMA = CHART + "values.yaml", CHART + "values.schema.json"
DAEMONSET, POD = CHART + "templates/daemonset.yaml", CHART + "templates/_pod.tpl"
SECURITY, NAMES = CHART + "templates/_security.tpl", CHART + "templates/_names.tpl"
MONITORS, SERVICE = CHART + "templates/monitors.yaml", CHART + "templates/service.yaml"
UNIT = "deploy/systemd/gpuwarden.service"
RULES = "deploy/prometheus/gpuwarden.rules.yaml"
BOARD = "deploy/grafana/gpuwarden.json"
IMAGE = "deploy/docker/Dockerfile"

MUTANTS = [
    # what a cluster would refuse, or take and do nothing with
    (CHART + "Chart.yaml", "version: 0.1.0", "version: one", "default: helm lint"),
    (DAEMONSET, "hostPID:", "hostPid:", "default: known to Kubernetes"),
    (DAEMONSET, "protocol: TCP", "protocol: 6", "default: known to Kubernetes"),
    (POD, "name: run, mount", "name: run, name: run, mount", "default: known to Kubernetes"),
    (MONITORS, "honorLabels: true", "honorLabels: maybe", "monitors: known to Kubernetes"),
    (MONITORS, "targetLabel: node", "targetLabel: [node]", "pod-monitor: known to Kubernetes"),
    (POD, 'configMap: {name: {{ include "gpuwarden.rulesConfigMap" . }}}',
     "configMap: {name: other}", "default: references lead"),
    (SERVICE, '{{- include "gpuwarden.selectorLabels" . | nindent 4 }}\n  ports',
     "app: other\n  ports", "default: references lead"),
    # what the DaemonSet must say
    (DAEMONSET, "hostPID: true", "hostPID: false", "default privilege"),
    (VALUES, "syslog: false", "syslog: true", "default privilege"),
    (VALUES, "netAdmin: true", "netAdmin: false", "default privilege"),
    (VALUES, "runtimeClassName: nvidia", 'runtimeClassName: ""', "default privilege"),
    (SECURITY, "drop: [ALL]", "drop: [NET_RAW]", "default privilege"),
    (SECURITY, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false",
     "default privilege"),
    (POD, "value: utility", "value: compute", "default gpu"),
    (VALUES, "limits: {memory: 384Mi}", "limits: {memory: 384Mi, nvidia.com/gpu: 1}",
     "default gpu"),
    (VALUES, "limits: {memory: 384Mi}", "limits: {memory: 384Mi, cpu: 1}", "default placement"),
    (VALUES, "key: nvidia.com/gpu,", "key: nvidia.com/gpus,", "default placement"),
    (VALUES, "priorityClassName: system-node-critical", 'priorityClassName: ""',
     "default placement"),
    (DAEMONSET, "path: /readyz", "path: /livez", "default probes"),
    (DAEMONSET, "livenessProbe:\n            httpGet: {path: /livez",
     "livenessProbe:\n            httpGet: {path: /readyz", "default probes"),
    (SERVICE, "clusterIP: None", "type: ClusterIP", "default probes"),
    (POD, "mountPath: /sys/fs/cgroup, readOnly: true", "mountPath: /sys/fs/cgroup",
     "default mounts"),
    (POD, "mountPath: /etc/gpuwarden/config,", "mountPath: /etc/gpuwarden,", "default mounts"),
    (CHART + "templates/rbac.yaml", "[get, list, watch]", "[get, list, watch, delete]",
     "default rights"),
    (DAEMONSET, '(print $.Template.BasePath "/configmap.yaml")',
     '(print $.Template.BasePath "/rules.yaml")', "restarts"),
    (SECURITY, "privileged: true", "privileged: false", "chart: privileged"),
    (POD, "value: void", "value: all", "chart: privileged"),
    (POD, '(dict "enabled" false)', '(dict "enabled" true)', "chart: least"),
    (SECURITY, "localhost/{{", "local/{{", "chart: least"),
    (MONITORS, "honorLabels: true", "honorLabels: false", "chart: scraped"),
    (MONITORS, 'rules.yaml" |', 'rules.yaml" | replace "5m" "9m" |', "chart: scraped"),
    # what has to be refused
    (SCHEMA, '"hostLibrary", "none"', '"hostLibrary", "hostlibrary", "none"',
     "refused: gpu.mode=hostlibrary"),
    (NAMES, 'eq .Values.gpu.mode "hostLibrary"', 'eq .Values.gpu.mode "never"',
     "refused: gpu.mode=hostLibrary"),
    (NAMES, "not (hasSuffix", "and false (hasSuffix", "refused: telemetry.port=9100"),
    (SCHEMA, '"^(CAP_|ALL$)"', '"^(ALL$)"', "refused: privilege.extraCapabilities={CAP_"),
    (SCHEMA, '"^(CAP_|ALL$)"', '"^(CAP_)"', "refused: privilege.extraCapabilities={ALL"),
    (SCHEMA, '"kernel": {\n          "type": "object",\n          "additionalProperties": false',
     '"kernel": {\n          "type": "object",\n          "additionalProperties": true',
     "refused: config.kernel.ring_bytes"),
    (VALUES, "podLabels: {}", "podLabels: {}\nunknownKey: 1", "same keys"),
    (RULES, "for: 5m", "for: 6m", "copies are up to date"),
    (CHART + "Chart.yaml", "version: 0.1.0", "version: 0.1.0.0", "packed is the same"),
    # the unit
    (UNIT, "KeyringMode=", "KeyringMood=", "systemd-analyze verify"),
    (UNIT, "MemoryMax=384M", "MemoryMax=lots", "systemd-analyze verify"),
    (UNIT, "SystemCallFilter=", "#", "exposure"),
    (UNIT, "Restart=always", "Restart=on-failure", "directives"),
    (UNIT, "CAP_BPF ", "CAP_BPF CAP_SYS_ADMIN ", "directives"),
    (UNIT, "@system-service bpf", "@system-service", "directives"),
    (UNIT, "CAP_BPF ", "CAP_BPF CAP_KILL ", "same capabilities"),
    # rules
    (RULES, "absent(gpuwarden_build_info)", "absent(gpuwarden_build_info", "check rules"),
    (RULES, "ratio_rate5m > 0.001", "ratio_rate5m > 0.00001", "test rules"),
    (RULES, "unless gpuwarden_alerts_total", "unless on (rule) vector(1) or gpuwarden_alerts_total",
     "test rules"),
    (RULES, "alert: GpuwardenDown", "alert: GpuwardenGone", "seen firing"),
    ("deploy/prometheus/gpuwarden.tests.yaml", 'kind="flow"', 'kind="flows"', "kinds of records"),
    (RULES, "severity: critical", "severity: urgent", "is annotated"),
    (RULES, "#gpuwardendown", "#gpuwardenup", "section in the runbook"),
    ("deploy/prometheus/runbook.md", "## GpuwardenDown", "## Gpuwarden down", "the runbook"),
    ("deploy/prometheus/prometheus.yaml", "honor_labels", "honour_labels", "example config"),
    # dashboard
    ("deploy/grafana/build.py", '"GPU power"', '"Power"', "generated"),
    (BOARD, '"uid": "${datasource}"', '"uid": "prom"', "takes the model"),
    (BOARD, '"y": 1', '"y": 2', "overlap"),
    (BOARD, "sum by (workload)", "sum by (workload", "expression parses"),
    (BOARD, "gpuwarden_sink_up{", "gpuwarden_sink_alive{", "metrics are those"),
    (BOARD, "instance:gpuwarden_kernel_records_lost:ratio", "instance:gpuwarden_lost:ratio",
     "metrics are those"),
    # image
    (IMAGE, "WORKDIR /src", "WORKDIR src", "hadolint"),
    (IMAGE, "COPY monitor-common monitor-common\n", "", "source is there"),
    (IMAGE, "COPY xtask xtask", "COPY xtasks xtask", "source is there"),
    (IMAGE, "/etc/gpuwarden/config/config.yaml", "/etc/gpuwarden.yaml", "agrees"),
    # pages
    ("docs/install-kubernetes.md", "existingConfigMap:", "configMap:", "examples render"),
    ("docs/install-kubernetes.md", "(#worked-examples)", "(#examples)", "links lead"),
    ("docs/install-slurm.md", "`deploy/grafana/gpuwarden.json`", "`deploy/board.json`",
     "links lead"),
    ("docs/install-slurm.md", "for _ in 1 2", "for _ on 1 2", "shell examples"),
]


def copy_tree(target):
    """What the checks read: deploy/ whole, of the rest what they look up."""
    shutil.copytree(TREE / "deploy", target / "deploy")
    shutil.copytree(TREE / "docs", target / "docs")
    shutil.copytree(TREE / "monitor/src/telemetry", target / "monitor/src/telemetry")
    shutil.copy(TREE / "Cargo.toml", target)
    for entry in TREE.iterdir():
        if not entry.name.startswith((".git", "target")) and not (target / entry.name).exists():
            (target / entry.name).symlink_to(entry)


def notices(tree, name, old, new, check, fail_anyway):
    """The check fails on the mutant, and on the whole tree it does not."""
    expect(not any(check in line for line in fail_anyway), "it fails before anything is broken")
    path = tree / name
    before = path.read_text()
    expect(old in before, f"{name} has no {old!r} any more: move the mutant along")
    command = [HERE / "run.sh", "--deploy", tree / "deploy", "--match", check]
    path.write_text(before.replace(old, new))
    try:
        broken = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        path.write_text(before)
    expect(broken.returncode != 0 and "FAIL" in broken.stdout,
           f"{name}: {old!r} -> {new!r} went unnoticed:\n{broken.stdout}{broken.stderr}")


def main():
    """Every mutant, or those that match."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        copy_tree(tree)
        clean = subprocess.run(
            [HERE / "run.sh", "--deploy", tree / "deploy"], capture_output=True, text=True,
            check=False,
        )
        fail_anyway = [line for line in clean.stdout.splitlines() if line.startswith("FAIL")]
        for at, (name, old, new, check) in enumerate(MUTANTS, start=1):
            if wanted in check:
                label = f"mutant {at}: {pathlib.Path(name).name}: {check}"
                tally.check(label, notices, tree, name, old, new, check, fail_anyway)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
