"""Somebody with root who changes the kernel itself.

    kernel.py load|memory|unload|refused
"""

import os
import platform
import sys

import stand

MODULE = "/modules/dummy.ko"
COPY = os.path.join(stand.ROOM, "hide.ko")
NAME = b"dummy"
INIT, DELETE, FINIT = {"x86_64": (175, 176, 313), "aarch64": (105, 106, 273)}.get(
    platform.machine(), (0, 0, 0)
)

def image() -> bytes:
    """The module, where this machine has one for its kernel."""
    if not os.path.exists(MODULE):
        stand.cannot("no module of this kernel is at hand")
    return stand.read_all(MODULE)


def insert(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    result = stand.libc.syscall(stand.ctypes.c_long(FINIT), fd, b"", 0)
    os.close(fd)
    return result


def remove() -> None:
    stand.syscall("delete_module", DELETE, NAME, os.O_NONBLOCK)


def load() -> None:
    """From a file."""
    image()
    stand.check(insert(MODULE), "finit_module")
    stand.say("loaded")
    remove()


def memory() -> None:
    """From the program's own memory: no file is named."""
    data = image()
    length = stand.ctypes.c_ulong(len(data))
    stand.syscall("init_module", INIT, data, length, b"")
    stand.say("loaded")
    remove()


def unload() -> None:
    image()
    stand.check(insert(MODULE), "finit_module")
    remove()
    stand.say("removed")


def refused() -> None:
    """One that was changed after it was signed."""
    data = bytearray(image())
    data[len(data) // 2] ^= 1
    attempt(bytes(data))


def attempt(data: bytes) -> None:
    with open(COPY, "wb") as file:
        file.write(data)
    if insert(COPY) == 0:
        remove()
        sys.exit("the kernel took a module that it should have refused")
    stand.say("refused")


def main() -> None:
    stand.wait_for_go()
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
