"""A pod as a node has many: an engine starts a server in a container, and enters it again and again
to ask whether it is well."""

import json
import time

import container
import stand

PROBES = 8


def main() -> None:
    stand.wait_for_go()
    with container.Container("runc", "server") as inside:
        server = inside.run(["/usr/bin/python3", f"{container.SOURCES}/benign/serve.py"])
        for line in server.stdout:
            said = json.loads(line)
            if said["act"] == "ready":
                server.stdin.write(b"\n")
                server.stdin.flush()
            if said["act"] == "listening":
                break
        first = min(inside.processes().items())
        stand.say("listening", pid=first[1])
        for _ in range(PROBES):
            probe = inside.enter(["/bin/sh", "-c", "test -d / && cat /proc/loadavg"])
            if probe.wait():
                raise SystemExit(f"a probe ended with {probe.returncode}")
            time.sleep(0.2)
        stand.say("probed", probes=PROBES)
        inside.stop()
        server.wait()
    with container.Container("podman", "job") as job:
        # A batch job on the same node: it looks at its model and ends.
        process = job.run(["/bin/sh", "-c", f"sha256sum {container.MODEL}"])
        if process.wait(timeout=60):
            raise SystemExit(f"podman ended with {process.returncode}")
    stand.say("ended")


if __name__ == "__main__":
    main()
