"""Takes the model out through io_uring.

    ring.py plain|poll|zero_copy|direct|registered|spliced
"""

import ctypes
import os
import socket
import struct
import sys
import threading

import stand
import uring


def registered() -> tuple[int, int]:
    """A kernel thread submits; buffers and files are registered, the open is openat2's and the
    sends are messages: no operation has a plain one's number."""
    ring = uring.Ring(poll=True)
    memory = ctypes.create_string_buffer(stand.BLOCK)
    start = ctypes.addressof(memory)
    ring.register_buffer(start, stand.BLOCK)
    ring.register_files(2)
    name = ctypes.create_string_buffer(stand.MODEL.encode() + b"\0")
    how = ctypes.create_string_buffer(struct.pack("=3Q", os.O_RDONLY, 0, 0), 24)
    at = ctypes.addressof(how)
    named = ctypes.addressof(name)
    ring.call(uring.OPENAT2, uring.AT_FDCWD, named, 24, offset=at, file_index=1)
    stream = {"offset": socket.SOCK_STREAM, "file_index": 2}
    ring.call(uring.SOCKET, socket.AF_INET, 0, 0, **stream)
    address = uring.sockaddr(stand.FAR, stand.DISCARD)
    fixed = {"flags": uring.FIXED_FILE}
    ring.call(uring.CONNECT, 1, ctypes.addressof(address), 0, offset=16, **fixed)
    taken = sent = 0
    size = os.path.getsize(stand.MODEL)
    while taken < size:
        got = ring.call(
            uring.READ_FIXED, 0, start, stand.BLOCK, offset=taken, buffer=0, **fixed
        )
        taken += got
        done = 0
        while done < got:
            vector = (ctypes.c_size_t * 2)(start + done, got - done)
            head = (ctypes.c_size_t * 7)(0, 0, ctypes.addressof(vector), 1, 0, 0, 0)
            done += ring.call(uring.SENDMSG, 1, ctypes.addressof(head), 1, **fixed)
        sent += done
    os.close(ring.fd)
    return taken, sent


def spliced() -> tuple[int, int]:
    """From the file into a pipe and from the pipe into the socket, by the ring alone."""
    ring = uring.Ring()
    inward, outward = os.pipe()
    with open(stand.MODEL, "rb") as file, stand.connect() as outlet:
        outlet.setblocking(True)
        size, total = os.fstat(file.fileno()).st_size, 0
        while total < size:
            got = splice(ring, file.fileno(), total, outward)
            left = got
            while left:
                left -= splice(ring, inward, NO_OFFSET, outlet.fileno(), left)
            total += got
    return total, total


def splice(ring: uring.Ring, source: int, at: int, sink: int, length: int = 65536) -> int:
    """IORING_OP_SPLICE: the source stands where a file index does, its offset where an address."""
    return ring.call(uring.SPLICE, sink, at, length, offset=NO_OFFSET, file_index=source)


NO_OFFSET = (1 << 64) - 1


def act(way: str) -> None:
    if way in ("registered", "spliced"):
        read, sent = globals()[way]()
        stand.say("read", bytes=read)
        stand.say("sent", bytes=sent)
        return
    read, sent = uring.take_and_send(
        stand.MODEL, poll=way == "poll", zero_copy=way == "zero_copy", direct=way == "direct"
    )
    stand.say("read", bytes=read)
    stand.say("sent", bytes=sent)


def main() -> None:
    way = sys.argv[1]
    stand.wait_for_go()
    if way == "poll":
        # The first thread ends, and the process lives on in another: its state must too.
        pid = os.fork()
        if pid == 0:
            worker = threading.Thread(target=lambda: (act(way), os._exit(0)))
            worker.start()
            stand.libc.pthread_exit(None)
        _, status = os.waitpid(pid, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    act(way)


if __name__ == "__main__":
    main()
