"""Starts a real daemon with the capabilities of the chart and the unit, and no others."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import unit
from tally import expect

# A debug build on a busy machine; a release build is ready in well under a second.
READY_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20

CONFIG = """\
export: {{spool_dir: {folder}/spool, sinks: [{{type: stdout, format: json}}]}}
telemetry: {{listen: "127.0.0.1:{port}"}}
"""


def free_port():
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status(url):
    """The status of a GET; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def start(gpuwarden, capabilities, folder, port):
    """The daemon, as root with a bounding set."""
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(folder=folder, port=port))
    names = [name.removeprefix("CAP_").lower() for name in sorted(capabilities)]
    bounding = ",".join(["-all", *(f"+{name}" for name in names)])
    log = (folder / "log").open("w")
    return subprocess.Popen(
        ["setpriv", "--bounding-set", bounding, "--inh-caps=-all", "--no-new-privs",
         gpuwarden, "run", "--config", config],
        stdout=log, stderr=subprocess.STDOUT,
    )


def ready(gpuwarden, capabilities):
    """It becomes ready, shows no permission error, and ends when told to."""
    with tempfile.TemporaryDirectory() as work:
        folder, port = pathlib.Path(work), free_port()
        daemon = start(gpuwarden.resolve(), capabilities, folder, port)
        try:
            until = time.monotonic() + READY_TIMEOUT_S
            while status(f"http://127.0.0.1:{port}/readyz") != 200:
                log = (folder / "log").read_text()
                expect(daemon.poll() is None, f"it ended with {daemon.returncode}:\n{log}")
                expect(time.monotonic() < until, f"not ready in {READY_TIMEOUT_S} s:\n{log}")
                time.sleep(0.05)
        finally:
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        log = (folder / "log").read_text()
        expect(daemon.returncode == 0, f"ended with {daemon.returncode} on SIGTERM:\n{log}")


def refused(gpuwarden, capabilities):
    """Without the capability to load programs it does not claim to be ready."""
    with tempfile.TemporaryDirectory() as work:
        folder, port = pathlib.Path(work), free_port()
        daemon = start(gpuwarden.resolve(), capabilities, folder, port)
        try:
            until = time.monotonic() + 5
            while daemon.poll() is None and time.monotonic() < until:
                answer = status(f"http://127.0.0.1:{port}/readyz")
                expect(answer != 200, "ready, and cannot load a single program")
                time.sleep(0.1)
        finally:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait()


def run(tally, given):
    """Both checks, where there is a daemon and root."""
    if not given.gpuwarden or os.geteuid() != 0 or not shutil.which("setpriv"):
        print("skip  privilege: needs --gpuwarden, root and setpriv")
        return
    tally.check("privilege: ready with the chart's capabilities", ready, given.gpuwarden,
                unit.CAPABILITIES)
    tally.check("privilege: not ready without BPF", refused, given.gpuwarden,
                unit.CAPABILITIES - {"CAP_BPF"})
