"""io_uring(7) by hand: a ring, its operations one after the other, with or without a kernel thread
that submits."""

import ctypes
import errno
import mmap
import os
import socket
import struct

import stand

SETUP, ENTER, REGISTER = 425, 426, 427
SQPOLL = 1 << 1
GETEVENTS, SQ_WAKEUP = 1, 2
NEED_WAKEUP = 1
OFF_SQES = 0x10000000
SINGLE_MMAP = 1

OPENAT, CLOSE, READ, SEND = 18, 19, 22, 26
CONNECT, SOCKET, SEND_ZC = 16, 45, 47
READ_FIXED, SENDMSG, OPENAT2, SPLICE = 4, 9, 28, 30
# Operations that older kernels do not know, and when they came.
NEWER = {SOCKET: "5.19", SEND_ZC: "6.0"}
FIXED_FILE = 1
REGISTER_BUFFERS, REGISTER_FILES, REGISTER_PROBE = 0, 2, 8
AT_FDCWD = -100

# struct io_sqring_offsets and io_cqring_offsets in struct io_uring_params.
PARAMS = struct.Struct("=10I8I2IQ8I2Q")


class Ring:
    """One ring; every call waits for its own completion."""

    def __init__(self, *, poll: bool = False, entries: int = 8) -> None:
        params = bytearray(120)
        struct.pack_into("=I", params, 8, SQPOLL if poll else 0)
        struct.pack_into("=I", params, 16, 2000)
        area = (ctypes.c_char * len(params)).from_buffer(params)
        try:
            self.fd = stand.syscall("io_uring_setup", SETUP, entries, ctypes.byref(area))
        except OSError as error:
            stand.cannot(f"io_uring is refused here: {error.strerror}")
        self.poll = poll
        entries, cq_entries, _, _, _, features = struct.unpack_from("=6I", params, 0)
        submission = struct.unpack_from("=10I", params, 40)
        completion = struct.unpack_from("=10I", params, 80)
        head, tail, mask, _, flags, _, array = submission[:7]
        if not features & SINGLE_MMAP:
            stand.cannot("this kernel maps the two rings apart (older than 5.4)")
        size = max(array + entries * 4, completion[5] + cq_entries * 16)
        flags_map = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self.ring = mmap.mmap(self.fd, size, flags=flags_map)
        self.sqes = mmap.mmap(self.fd, entries * 64, flags=flags_map, offset=OFF_SQES)
        self.sq_tail, self.sq_mask, self.sq_flags, self.sq_array = tail, mask, flags, array
        self.cq_head, self.cq_tail, self.cq_mask = completion[:3]
        self.cqes = completion[5]

    def word(self, at: int) -> int:
        return struct.unpack_from("=I", self.ring, at)[0]

    def call(self, opcode: int, fd: int, addr: int, length: int, **more: int) -> int:
        """Submits one operation, and gives its result."""
        tail = self.word(self.sq_tail)
        index = tail & self.word(self.sq_mask)
        entry = struct.pack(
            "=BBHiQQIIQHHIQQ",
            opcode,
            more.get("flags", 0),
            0,
            fd,
            more.get("offset", 0),
            addr,
            length,
            more.get("rw_flags", 0),
            1,
            0,
            0,
            more.get("file_index", 0),
            0,
            0,
        )
        if "buffer" in more:
            entry = entry[:40] + struct.pack("=H", more["buffer"]) + entry[42:]
        self.sqes[index * 64 : index * 64 + 64] = entry
        struct.pack_into("=I", self.ring, self.sq_array + index * 4, index)
        struct.pack_into("=I", self.ring, self.sq_tail, (tail + 1) & 0xFFFFFFFF)
        if not self.poll:
            self.enter(1, 1, GETEVENTS)
        elif self.word(self.sq_flags) & NEED_WAKEUP:
            self.enter(1, 0, SQ_WAKEUP)
        result = self.completion(f"operation {opcode}")
        # A send without copy completes twice: the bytes, and the notice that memory is free.
        if opcode == SEND_ZC:
            if not self.poll:
                self.enter(0, 1, GETEVENTS)
            self.completion("the notice of a send without copy")
        if result < 0:
            error = OSError(-result, f"io_uring operation {opcode}: {os.strerror(-result)}")
            if -result == errno.EINVAL and opcode in NEWER:
                stand.cannot(f"{error}; it came with Linux {NEWER[opcode]}")
            raise error
        return result

    def enter(self, submit: int, wait: int, flags: int) -> None:
        stand.syscall("io_uring_enter", ENTER, self.fd, submit, wait, flags, None, 0)

    def completion(self, what: str) -> int:
        head = self.word(self.cq_head)
        stand.wait_until(lambda: self.word(self.cq_tail) != head, what)
        at = self.cqes + (head & self.word(self.cq_mask)) * 16
        _, result, _ = struct.unpack_from("=QiI", self.ring, at)
        struct.pack_into("=I", self.ring, self.cq_head, (head + 1) & 0xFFFFFFFF)
        return result

    def knows(self, opcode: int) -> bool:
        """Whether this kernel's rings have an operation (struct io_uring_probe)."""
        answer = ctypes.create_string_buffer(16 + 256 * 8)
        stand.syscall(
            "io_uring_register", REGISTER, self.fd, REGISTER_PROBE, ctypes.byref(answer), 256
        )
        return opcode <= answer.raw[0] and answer.raw[16 + opcode * 8 + 2] & 1 == 1

    def register_files(self, count: int) -> None:
        """A table of descriptors that no /proc/PID/fd shows."""
        table = (ctypes.c_int * count)(*([-1] * count))
        stand.syscall(
            "io_uring_register", REGISTER, self.fd, REGISTER_FILES, ctypes.byref(table), count
        )


    def register_buffer(self, start: int, length: int) -> None:
        """Memory that the kernel keeps mapped for this ring: buffer 0."""
        vector = (ctypes.c_size_t * 2)(start, length)
        stand.syscall(
            "io_uring_register", REGISTER, self.fd, REGISTER_BUFFERS, ctypes.byref(vector), 1
        )


def sockaddr(host: str, port: int) -> ctypes.Array:
    """struct sockaddr_in."""
    packed = struct.pack("=H", socket.AF_INET) + struct.pack(">H", port)
    return ctypes.create_string_buffer(packed + socket.inet_aton(host) + bytes(8), 16)


def take_and_send(
    path: str, *, poll: bool = False, zero_copy: bool = False, direct: bool = False
) -> tuple[int, int]:
    """Opens, reads, makes a socket, connects and sends, each through the ring; bytes read and
    sent."""
    ring = Ring(poll=poll)
    place = {"flags": FIXED_FILE} if direct else {}
    if direct:
        ring.register_files(2)
    name = ctypes.create_string_buffer(path.encode() + b"\0")
    file = ring.call(
        OPENAT, AT_FDCWD, ctypes.addressof(name), 0, file_index=1 if direct else 0
    )
    file = 0 if direct else file
    outlet = 1 if direct else None
    if direct or zero_copy or ring.knows(SOCKET):
        made = ring.call(
            SOCKET, socket.AF_INET, 0, 0, offset=socket.SOCK_STREAM, file_index=2 if direct else 0
        )
        outlet = outlet or made
    else:
        # Before 5.19 a ring makes no sockets.
        outlet = socket.socket().detach()
    address = sockaddr(stand.FAR, stand.DISCARD)
    ring.call(CONNECT, outlet, ctypes.addressof(address), 0, offset=16, **place)
    memory = ctypes.create_string_buffer(stand.BLOCK)
    got_all = sent_all = 0
    start = ctypes.addressof(memory)
    while got := ring.call(READ, file, start, stand.BLOCK, offset=got_all, **place):
        got_all += got
        at = 0
        while at < got:
            way = SEND_ZC if zero_copy else SEND
            at += ring.call(way, outlet, start + at, got - at, **place)
        sent_all += at
    if not direct:
        ring.call(CLOSE, outlet, 0, 0)
    os.close(ring.fd)
    return got_all, sent_all
