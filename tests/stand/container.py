"""Real containers for the suites: a root of overlayfs, made by a real engine.

Who uses this is the engine and not the workload: it stays outside the case's cgroup, as a
container runtime does.
"""

import ctypes
import glob
import hashlib
import json
import os
import shutil
import subprocess

import stand

CGROUP = os.environ.get("STAND_CGROUP", "")
CGROUPS = "/sys/fs/cgroup"
MNT_DETACH = 2

# What Docker gives a container that asks for nothing, less what no case needs.
CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_CHROOT",
]
# Where things stand inside: the model has no name that tells what it is.
MODEL = "/weights/blob"
SOURCES = "/stand"
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": f"{SOURCES}/stand",
    "STAND_MODEL": MODEL,
    "STAND_ROOM": stand.ROOM,
    "STAND_SOURCES": SOURCES,
}


class Container:
    """A container with this host's programs, a model, and a network that is the host's."""

    def __init__(self, engine: str, name: str) -> None:
        self.engine = engine
        self.name = name
        case = hashlib.sha256(CGROUP.encode()).hexdigest()
        self.id = hashlib.sha256(f"{CGROUP}/{name}".encode()).hexdigest()
        self.pod = f"{case[:8]}-{case[8:12]}-4{case[13:16]}-8{case[17:20]}-{case[20:32]}"
        self.room = os.path.join(stand.ROOM, name)
        self.root = os.path.join(self.room, "rootfs")
        self.parent = f"/{CGROUP}/kubepods/burstable/pod{self.pod}"
        self.run_root = f"/run/gpuwarden-{self.id[:12]}"
        if shutil.which(engine) is None:
            stand.cannot(f"{engine} is not installed")

    def __enter__(self) -> "Container":
        os.makedirs(self.room)
        self._mount("tmpfs", self.room, "tmpfs", "size=256m")
        layers = {part: os.path.join(self.room, part) for part in ("upper", "work", "rootfs")}
        for layer in layers.values():
            os.makedirs(layer)
        # An upper directory cannot lie on overlayfs, which the root of this host may be.
        options = f"lowerdir=/,upperdir={layers['upper']},workdir={layers['work']}"
        self._mount("overlay", self.root, "overlay", options)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.run_root, ignore_errors=True)
        for place in (self.root, self.room):
            stand.libc.umount2(place.encode(), MNT_DETACH)
        # The engine makes the directories above its own in every hierarchy, and leaves them.
        for hierarchy in glob.glob(f"{CGROUPS}/*/"):
            top = os.path.join(hierarchy, CGROUP)
            for directory, _, _ in os.walk(top, topdown=False):
                if directory != top:
                    remove(directory)
            if is_unified(hierarchy):
                continue
            remove(top)
            while (top := os.path.dirname(top)).startswith(hierarchy + "gpuwarden"):
                remove(top)

    def _mount(self, source: str, target: str, kind: str, options: str) -> None:
        encoded = [text.encode() for text in (source, target, kind)]
        result = stand.libc.mount(*encoded, ctypes.c_ulong(0), options.encode())
        if result < 0:
            why = os.strerror(ctypes.get_errno())
            self.__exit__()
            stand.cannot(f"{kind}: {why}")

    def run(self, command: list[str]) -> subprocess.Popen:
        """Starts a command as the container's first process."""
        start = {"runc": self._runc, "podman": self._podman}[self.engine]
        return self._spawn(start(command))

    def enter(self, command: list[str]) -> subprocess.Popen:
        """Starts one more process in the running container, as `kubectl exec` does."""
        if self.engine != "runc":
            raise ValueError(f"nobody enters a container of {self.engine}")
        variables = [part for pair in self._variables() for part in ("--env", pair)]
        return self._spawn([*self._runc_words(), "exec", *variables, self.id, *command])

    def wait_until_it_runs(self) -> None:
        """Until then nobody can enter."""

        def runs() -> bool:
            words = [*self._runc_words(), "state", self.id]
            state = subprocess.run(words, capture_output=True, check=False)
            return state.returncode == 0 and json.loads(state.stdout)["status"] == "running"

        stand.wait_until(runs, "the container")

    def stop(self) -> None:
        """Ends every process in it."""
        subprocess.run([*self._runc_words(), "kill", self.id, "KILL"], check=True)

    def _spawn(self, words: list[str]) -> subprocess.Popen:
        pipe = subprocess.PIPE
        return subprocess.Popen(words, stdin=pipe, stdout=pipe, cwd=self.room)

    def _variables(self) -> list[str]:
        return [f"{name}={value}" for name, value in ENVIRONMENT.items()]

    def _binds(self) -> list[tuple[str, str, str]]:
        """Source, target and mode."""
        binds = [(stand.SOURCES, SOURCES, "ro"), (stand.ROOM, stand.ROOM, "rw")]
        if os.path.exists(stand.MODEL):
            binds.append((stand.MODEL, MODEL, "ro"))
        return binds

    def _runc_words(self) -> list[str]:
        return ["runc", "--root", os.path.join(self.room, "state")]

    def _runc(self, command: list[str]) -> list[str]:
        """With a cgroup like those that the kubelet has containerd make (driver cgroupfs)."""
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ]
        mounts += [
            {"destination": target, "type": "bind", "source": source, "options": ["rbind", mode]}
            for source, target, mode in self._binds()
        ]
        sets = ("bounding", "effective", "permitted")
        spaces = ("pid", "mount", "ipc", "uts", "cgroup")
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "args": command,
                "env": self._variables(),
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "capabilities": {name: CAPABILITIES for name in sets},
            },
            "root": {"path": "rootfs"},
            "hostname": self.name,
            "mounts": mounts,
            "linux": {
                "cgroupsPath": f"{self.parent}/{self.id}",
                "namespaces": [{"type": space} for space in spaces],
            },
        }
        with open(os.path.join(self.room, "config.json"), "w") as file:
            json.dump(config, file)
        return [*self._runc_words(), "run", self.id]

    def _podman(self, command: list[str]) -> list[str]:
        """Its storage is in the room, and what it knows of now where it has a short name; limits are named, for it would raise those it has."""
        own = ["--root", f"{self.room}/store", "--runroot", self.run_root]
        own += ["--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
        given = [part for pair in self._variables() for part in ("--env", pair)]
        given += [f"--volume={source}:{target}:{mode}" for source, target, mode in self._binds()]
        place = ["--cgroup-parent", f"/{CGROUP}", "--network", "host", "--pull", "never"]
        run = ["run", "--rm", "--interactive", *limits, *place, *given, "--rootfs", self.root]
        return ["podman", *own, *run, *command]

    def processes(self) -> dict[int, int]:
        """Ids on this host, by the id that each process of the container has for itself."""
        found = {}
        top = next(mount for mount in (f"{CGROUPS}/unified", CGROUPS) if is_unified(mount))
        for directory, _, files in os.walk(os.path.join(top, CGROUP)):
            if "cgroup.procs" not in files or self.id not in directory and "libpod" not in directory:
                continue
            with open(os.path.join(directory, "cgroup.procs")) as file:
                pids = [int(line) for line in file]
            found.update({inner_id(pid): pid for pid in pids})
        return found


def is_unified(mount: str) -> bool:
    return os.path.exists(os.path.join(mount, "cgroup.controllers"))


def remove(directory: str) -> None:
    """What somebody else still uses stays."""
    try:
        os.rmdir(directory)
    except OSError:
        pass


def inner_id(pid: int) -> int:
    """A process's id in its own pid namespace; zero once it has ended."""
    try:
        with open(f"/proc/{pid}/status") as file:
            line = next(line for line in file if line.startswith("NSpid:"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[-1])


def relay(container: Container, process: subprocess.Popen) -> None:
    """Lets a script of the suites begin inside, and says again what it says, with the ids that its
    processes have on this host."""
    ids: dict[int, int] = {}
    for line in process.stdout:
        said = json.loads(line)
        ids.update(container.processes())
        if said["act"] == "ready":
            process.stdin.write(b"\n")
            process.stdin.flush()
            continue
        if said["pid"] not in ids:
            raise SystemExit(f"process {said['pid']} of {container.name} is not known outside")
        stand.say(**{**said, "pid": ids[said["pid"]]})
    if process.wait():
        raise SystemExit(f"{container.engine} ended with {process.returncode}")
