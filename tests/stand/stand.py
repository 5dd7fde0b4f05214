"""What every actor of the suites stands on: the word to begin, a voice, addresses, and the calls
that Python's own library does not offer."""

import ctypes
import json
import os
import socket
import sys
import time

FAR = "198.51.100.2"
FAR6 = "2001:db8::2"
STORE = "198.51.100.3"
HOST = "198.51.100.1"
CROWD = [f"198.51.100.{last}" for last in range(20, 40)]

DISCARD = 443
HTTP = 80
MPTCP = 4430
UDP = 5000
DNS = 53
POOL = 3333
POOL_TLS = 3334
SHELL = 4444

MODEL = os.environ.get("STAND_MODEL", "")
ROOM = os.environ.get("STAND_ROOM", "")
DIR = os.environ.get("STAND_DIR", "")
SOURCES = os.environ.get("STAND_SOURCES", "")

BLOCK = 1 << 18

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def say(act: str, **more: object) -> None:
    """One JSON line: the act, the monotonic clock, this process unless `pid` names another."""
    line = {"act": act, "mono_ns": time.monotonic_ns(), "pid": os.getpid(), **more}
    os.write(1, json.dumps(line).encode() + b"\n")


def cannot(why: str) -> None:
    """Ends a case that this host has no means for."""
    say("cannot", why=why)
    sys.exit(0)


def wait_for_go() -> None:
    """Waits for the word. One byte at a time: what follows is for the next call."""
    say("ready")
    listen()


def listen() -> None:
    """Waits for one line on standard input."""
    while (byte := os.read(0, 1)) != b"\n":
        if not byte:
            sys.exit("the director went away")


def check(result: int, what: str) -> int:
    """The result of a C call, or the error it left."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(what: str, number: int, *arguments: object) -> int:
    """A system call by its number."""
    return check(libc.syscall(ctypes.c_long(number), *arguments), what)


def read_all(path: str) -> bytes:
    """A file from end to end."""
    blocks = []
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            blocks.append(block)
    return b"".join(blocks)


def connect(host: str = FAR, port: int = DISCARD, proto: int = 0) -> socket.socket:
    """A connected TCP socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM, proto)
    connection.settimeout(20)
    connection.connect((host, port))
    return connection


def blocks(data: bytes, size: int = BLOCK):
    """A byte string in pieces."""
    view = memoryview(data)
    for at in range(0, len(data), size):
        yield view[at : at + size]


def wait_until(is_done, what: str, seconds: float = 20.0) -> None:
    """Waits for a condition; ends the actor with a reason when it does not come."""
    end = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > end:
            sys.exit(f"{what} did not come within {seconds} s")
        time.sleep(0.01)


def fork_and(act) -> int:
    """Runs `act` in a child; the child's status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"a child failed: {os.waitstatus_to_exitcode(status)}")
    return pid
