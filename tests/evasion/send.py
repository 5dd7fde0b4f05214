"""Takes a model out of the house: one way of reading, one way of sending.

    send.py READ SEND
"""

import ctypes
import mmap
import os
import socket
import struct
import sys
import time

import stand
from stand import BLOCK, MODEL

MSG_FASTOPEN = 0x20000000
MSG_ZEROCOPY = 0x4000000
SO_ZEROCOPY = 60
IPPROTO_MPTCP = 262
DATAGRAM = 1200


# Ways of reading: each gives the bytes of the model.


def read(path: str = MODEL) -> bytes:
    return stand.read_all(path)


def pread(path: str = MODEL) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    data = b"".join(os.pread(fd, BLOCK, at) for at in range(0, size, BLOCK))
    os.close(fd)
    return data


def preadv2(path: str = MODEL) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    data = bytearray(size)
    view = memoryview(data)
    for at in range(0, size, BLOCK):
        os.preadv(fd, [view[at : at + BLOCK]], at, 0)
    os.close(fd)
    return bytes(data)


def map_and_close(path: str = MODEL) -> bytes:
    """Reads no byte by a system call: the descriptor is gone before the first page is touched."""
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    mapping = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    os.close(fd)
    return mapping


def direct(path: str = MODEL) -> bytes:
    """Past the page cache, into aligned memory."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError as error:
        stand.cannot(f"O_DIRECT here (tmpfs takes it from 6.6 on): {error.strerror}")
    size = os.fstat(fd).st_size
    buffer = mmap.mmap(-1, (size + 4095) & ~4095)
    view = memoryview(buffer)
    at = 0
    while at < size and (got := os.preadv(fd, [view[at:]], at)):
        at += got
    os.close(fd)
    return bytes(view[:size])


def nothing() -> bytes:
    """The way of sending reads by itself."""
    return b""


# Ways of sending: each gives the bytes it sent.


def tcp(data: bytes, host: str = stand.FAR, port: int = stand.DISCARD, proto: int = 0) -> int:
    with stand.connect(host, port, proto) as connection:
        for block in stand.blocks(data):
            connection.sendall(block)
    return len(data)


def tcp6(data: bytes) -> int:
    return tcp(data, stand.FAR6)


def mapped(data: bytes) -> int:
    """IPv4 in the clothes of IPv6."""
    return tcp(data, f"::ffff:{stand.FAR}")


def mptcp(data: bytes) -> int:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
    except OSError as error:
        stand.cannot(f"MPTCP: {error.strerror}")
    return tcp(data, port=stand.MPTCP, proto=IPPROTO_MPTCP)


def allowed_port(data: bytes) -> int:
    """To the port of the store, at another address."""
    return tcp(data, stand.CROWD[0])


def fast_open(data: bytes) -> int:
    """Sends without ever calling connect."""
    with socket.socket() as connection:
        sent = connection.sendto(data[:BLOCK], MSG_FASTOPEN, (stand.FAR, stand.DISCARD))
        connection.sendall(data[sent:])
    return len(data)


def sendfile(_: bytes) -> int:
    """The kernel moves the bytes."""
    with open(MODEL, "rb") as file, stand.connect() as connection:
        connection.setblocking(True)
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            at += os.sendfile(connection.fileno(), file.fileno(), at, size - at)
    return size


def splice(_: bytes) -> int:
    """From the file into a pipe, from the pipe into the socket."""
    with open(MODEL, "rb") as file, stand.connect() as connection:
        connection.setblocking(True)
        inward, outward = os.pipe()
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            taken = stand.check(splice_call(file.fileno(), outward, 65536), "splice")
            at += taken
            while taken:
                taken -= stand.check(splice_call(inward, connection.fileno(), taken), "splice")
    return size


def splice_call(source: int, sink: int, length: int) -> int:
    return stand.libc.splice(source, None, sink, None, ctypes.c_size_t(length), 0)


def vmsplice(data: bytes) -> int:
    """Pages of this process go into a pipe, and from there into the socket."""
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    inward, outward = os.pipe()
    memory = ctypes.create_string_buffer(data, len(data))
    with stand.connect() as connection:
        connection.setblocking(True)
        at = 0
        while at < len(data):
            piece = min(65536, len(data) - at)
            vector = Vector(ctypes.addressof(memory) + at, piece)
            taken = stand.libc.vmsplice(outward, ctypes.byref(vector), ctypes.c_size_t(1), 0)
            left = stand.check(taken, "vmsplice")
            at += left
            while left:
                left -= stand.check(splice_call(inward, connection.fileno(), left), "splice")
    return len(data)


def zerocopy(data: bytes) -> int:
    with stand.connect() as connection:
        connection.setblocking(True)
        connection.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        for block in stand.blocks(data):
            at = 0
            while at < len(block):
                try:
                    at += connection.send(block[at:], MSG_ZEROCOPY)
                except OSError:
                    # No room for another notice: read those that wait.
                    drain_notices(connection)
        drain_notices(connection)
    return len(data)


def drain_notices(connection: socket.socket) -> None:
    try:
        while True:
            connection.recvmsg(0, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except BlockingIOError:
        pass


def udp(data: bytes) -> int:
    """Datagrams without a connection."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        for block in stand.blocks(data, DATAGRAM):
            outlet.sendto(block, (stand.FAR, stand.UDP))
    return len(data)


def udp_connected(data: bytes) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        outlet.connect((stand.FAR, stand.UDP))
        for block in stand.blocks(data, DATAGRAM):
            outlet.send(block)
    return len(data)


class Message(ctypes.Structure):
    """struct mmsghdr (recvmmsg(2))."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("gap", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("end", ctypes.c_uint32),
    ]


def sendmmsg(data: bytes) -> int:
    """Many datagrams in one call."""
    address = struct.pack("=H", socket.AF_INET) + struct.pack(">H", stand.UDP)
    address += socket.inet_aton(stand.FAR) + bytes(8)
    name = ctypes.create_string_buffer(address, 16)
    memory = ctypes.create_string_buffer(data, len(data))
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        for at in range(0, len(data), DATAGRAM * 64):
            pieces = [
                (start, min(DATAGRAM, len(data) - start))
                for start in range(at, min(at + DATAGRAM * 64, len(data)), DATAGRAM)
            ]
            vectors = (ctypes.c_size_t * (2 * len(pieces)))()
            messages = (Message * len(pieces))()
            for index, (start, length) in enumerate(pieces):
                vectors[2 * index] = ctypes.addressof(memory) + start
                vectors[2 * index + 1] = length
                message = messages[index]
                message.name, message.name_length = ctypes.addressof(name), 16
                message.vectors = ctypes.addressof(vectors) + 16 * index
                message.vector_count = 1
            done = 0
            while done < len(pieces):
                start = ctypes.byref(messages, done * ctypes.sizeof(Message))
                count = len(pieces) - done
                done += stand.check(stand.libc.sendmmsg(outlet.fileno(), start, count, 0), "send")
            sent += sum(length for _, length in pieces)
    return sent


def sendfile_udp(_: bytes) -> int:
    """A file into a datagram socket, one page at a time."""
    with open(MODEL, "rb") as file, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        outlet.connect((stand.FAR, stand.UDP))
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            at += os.sendfile(outlet.fileno(), file.fileno(), at, min(1024, size - at))
    return size


def trickle(data: bytes) -> int:
    """Eight little pieces, each on a connection of its own."""
    pieces = list(stand.blocks(data[: 3 << 20], 3 << 17))
    for piece in pieces:
        tcp(bytes(piece))
        time.sleep(0.2)
    return sum(map(len, pieces))


def crowd(data: bytes) -> int:
    """Twenty short-lived processes, twenty addresses."""
    share = -(-len(data) // len(stand.CROWD))
    for at, host in enumerate(stand.CROWD):
        piece = data[at * share : (at + 1) * share]

        def act() -> None:
            stand.say("sent", bytes=tcp(piece, host))

        stand.fork_and(act)
    return 0


def main() -> None:
    reading, sending = sys.argv[1:3]
    stand.wait_for_go()
    data = globals()[reading]()
    if data:
        stand.say("read", bytes=len(data))
    if sent := globals()[sending](data):
        stand.say("sent", bytes=sent)


if __name__ == "__main__":
    main()
