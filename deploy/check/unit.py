"""Checks of the systemd unit."""

import pathlib
import re
import shutil
import tempfile

import yaml

from tally import command, expect

# Exposure as `systemd-analyze security` counts it, in tenths. A root service that loads BPF
# programs cannot come near 0; above 4.0 a line of hardening was lost.
EXPOSURE_MAX_TENTHS = 40

CAPABILITIES = {
    "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_RESOURCE", "CAP_SYS_PTRACE",
    "CAP_DAC_READ_SEARCH",
}

# What must be said, and why its loss would be noticed too late.
MUST = {
    "Type": "exec",
    "Restart": "always",                # SIGTERM is a clean exit, and blinds the host
    "LimitMEMLOCK": "infinity",         # maps before 5.11
    "LimitCORE": "0",                   # a core file holds redacted secrets in the clear
    "ProtectSystem": "strict",
    "NoNewPrivileges": "yes",
    "MemoryMax": "384M",
    "CPUQuota": "100%",
    "StateDirectory": "gpuwarden",
    "RuntimeDirectory": "gpuwarden",
    "DevicePolicy": "closed",
    "AssertPathExists": "/sys/kernel/btf/vmlinux",
}


def read(path):
    """Directives of the unit: name -> list of values, in order."""
    found = {}
    for line in path.read_text().splitlines():
        if match := re.match(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2].strip())
    return found


def verify(path):
    """systemd parses it: every key known, every value readable, every program there."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        units = root / "etc/systemd/system"
        units.mkdir(parents=True)
        shutil.copy(path, units)
        shutil.copytree("/lib/systemd/system", root / "lib/systemd/system", symlinks=True)
        for program in ("usr/bin/gpuwarden", "bin/kill"):
            stub = root / program
            stub.parent.mkdir(parents=True, exist_ok=True)
            stub.write_text("#!/bin/sh\n")
            stub.chmod(0o755)
        output = command(
            "systemd-analyze", "verify", f"--root={root}", "--man=no", "--recursive-errors=one",
            path.name,
        )
    expect(path.name not in output, output)


def exposure(path):
    """The score stays below the bound."""
    command(
        "systemd-analyze", "security", "--offline=true", "--no-pager",
        f"--threshold={EXPOSURE_MAX_TENTHS}", path,
    )


def directives(path):
    """The lines that safety and sight depend on are there."""
    found = read(path)
    for name, value in MUST.items():
        expect(found.get(name) == [value], f"{name}={found.get(name)}, expected {value}")
    given = {name for line in found["CapabilityBoundingSet"] for name in line.split()}
    expect(given == CAPABILITIES, f"capabilities {sorted(given ^ CAPABILITIES)} differ")
    calls = " ".join(found["SystemCallFilter"])
    for call in ("@system-service", "bpf", "perf_event_open"):
        expect(call in calls.split(), f"SystemCallFilter lacks {call}")
    expect("-HUP" in found["ExecReload"][0], "ExecReload does not send SIGHUP")
    # NOROOT would take every capability from root at the start of the program.
    expect("SecureBits" not in found, "SecureBits= with User=root leaves no capability at all")


def same_as_chart(path, chart):
    """Chart and unit ask for the same capabilities by default."""
    names = {"bpf": "BPF", "perfmon": "PERFMON", "netAdmin": "NET_ADMIN",
             "sysResource": "SYS_RESOURCE", "sysPtrace": "SYS_PTRACE",
             "dacReadSearch": "DAC_READ_SEARCH", "sysAdmin": "SYS_ADMIN", "syslog": "SYSLOG",
             "kill": "KILL"}
    values = yaml.safe_load((chart / "values.yaml").read_text())["privilege"]["capabilities"]
    wanted = {f"CAP_{names[key]}" for key, is_on in values.items() if is_on}
    given = {name for line in read(path)["CapabilityBoundingSet"] for name in line.split()}
    expect(wanted == given, f"only one of the two has {sorted(wanted ^ given)}")


def run(tally, given):
    """All checks of the unit."""
    path = given.deploy / "systemd/gpuwarden.service"
    tally.check("unit: systemd-analyze verify", verify, path)
    tally.check(f"unit: exposure at most {EXPOSURE_MAX_TENTHS / 10}", exposure, path)
    tally.check("unit: directives that matter are there", directives, path)
    tally.check("unit: same capabilities as the chart", same_as_chart, path,
                given.deploy / "helm/gpuwarden")
