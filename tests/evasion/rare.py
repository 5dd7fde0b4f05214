"""More roads that hardly anybody takes.

    rare.py WAY
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys
import threading

import send
import stand

DATAGRAM = 1200
UDP_SEGMENT, UDP_CORK = 103, 1
CLONE3, CLONE_INTO_CGROUP = 435, 0x200000000
SIGCHLD = 17
IPC_CREAT, SHMGET, SHMAT, SHM_KEY = 0o1000, 29, 30, 0x67777264
RESOLVERS = stand.CROWD


def segmented(data: bytes) -> int:
    """One call, and the kernel cuts it into forty datagrams (UDP_SEGMENT)."""
    size = DATAGRAM * 40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        outlet.connect((stand.FAR, stand.UDP))
        outlet.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, DATAGRAM)
        for block in stand.blocks(data, size):
            outlet.send(block)
    return len(data)


def corked(data: bytes) -> int:
    """Many calls, and the kernel makes one datagram of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        outlet.connect((stand.FAR, stand.UDP))
        for block in stand.blocks(data, 32000):
            outlet.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
            for piece in stand.blocks(block, 8000):
                outlet.send(piece, socket.MSG_MORE)
            outlet.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 0)
    return len(data)


def multicast(data: bytes) -> int:
    """To nobody in particular: the group of mDNS, on the network of the sink."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        outlet.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(stand.HOST))
        for block in stand.blocks(data, DATAGRAM):
            outlet.sendto(block, ("224.0.0.251", 5353))
    return len(data)


def broadcast(data: bytes) -> int:
    """To everybody on the network of the sink."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        outlet.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for block in stand.blocks(data, DATAGRAM):
            outlet.sendto(block, ("198.51.100.255", stand.UDP))
    return len(data)


def quic(data: bytes) -> int:
    """What looks like HTTP/3."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        outlet.connect((stand.FAR, 443))
        for block in stand.blocks(data, DATAGRAM):
            try:
                outlet.send(b"\xc0\x00\x00\x00\x01" + bytes(block))
            except ConnectionRefusedError:
                # Nobody is there; the datagram after the refusal is the next one.
                outlet.send(b"\xc0\x00\x00\x00\x01" + bytes(block))
    return len(data) + 5 * -(-len(data) // DATAGRAM)


def teed(data: bytes) -> int:
    """Through a chain of pipes, of which one only looks at the other's pages."""
    outlet = stand.connect()
    outlet.setblocking(True)
    (first_out, first_in), (second_out, second_in) = os.pipe(), os.pipe()
    tee = stand.libc.tee
    tee.restype = ctypes.c_ssize_t
    sink = os.open("/dev/null", os.O_WRONLY)
    total = 0
    with open(stand.MODEL, "rb") as model:
        while got := os.splice(model.fileno(), first_in, 1 << 16):
            while got:
                seen = stand.check(tee(first_out, second_in, ctypes.c_size_t(got), 0), "tee")
                left = seen
                while left:
                    left -= os.splice(second_out, outlet.fileno(), left)
                os.splice(first_out, sink, seen)
                got -= seen
                total += seen
    outlet.close()
    return total


def sealed(data: bytes) -> int:
    """Through the kernel's own ciphers (AF_ALG), by splice."""
    try:
        cipher = socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
        cipher.bind(("skcipher", "cbc(aes)"))
    except OSError as error:
        stand.cannot(f"AF_ALG: {error.strerror}")
    cipher.setsockopt(socket.SOL_ALG, socket.ALG_SET_KEY, bytes(32))
    worker, _ = cipher.accept()
    outlet = stand.connect()
    outlet.setblocking(True)
    total = 0
    for block in stand.blocks(data, 1 << 14):
        block = bytes(block) + bytes(-len(block) % 16)
        worker.sendmsg_afalg([block], op=socket.ALG_OP_ENCRYPT, iv=bytes(16))
        coded = worker.recv(len(block))
        outlet.sendall(coded)
        total += len(coded)
    outlet.close()
    return total


def tunnelled(data: bytes) -> int:
    """To a private address, by a tunnel of its own that leads to the sink."""
    add = ["ip", "tunnel", "add", "gwev0", "mode", "ipip"]
    add += ["remote", stand.FAR, "local", stand.HOST]
    done = subprocess.run(add, capture_output=True, check=False)
    if done.returncode:
        stand.cannot(f"no tunnel: {done.stderr.decode().strip()}")
    try:
        subprocess.run(["ip", "addr", "add", "10.99.0.1/30", "dev", "gwev0"], check=True)
        subprocess.run(["ip", "link", "set", "gwev0", "up"], check=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
            for block in stand.blocks(data, DATAGRAM):
                outlet.sendto(block, ("10.99.0.2", stand.UDP))
    finally:
        subprocess.run(["ip", "link", "del", "gwev0"], check=True)
    return len(data)


def threads(data: bytes) -> int:
    """Each piece by a thread of its own that shares nothing but memory, over its own connection."""
    sent = []

    def one(piece: memoryview) -> None:
        with stand.connect() as outlet:
            outlet.sendall(piece)
            sent.append(len(piece))

    crew = [threading.Thread(target=one, args=(piece,)) for piece in stand.blocks(data, 1 << 20)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return sum(sent)


def born_elsewhere() -> None:
    """A child is born in the root cgroup (CLONE_INTO_CGROUP), reads and sends there."""
    with open("/proc/self/mounts", encoding="ascii") as mounts:
        root = next(line.split()[1] for line in mounts if line.split()[2] == "cgroup2")
    directory = os.open(root, os.O_PATH)
    words = [CLONE_INTO_CGROUP, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, directory]
    arguments = struct.pack("=11Q", *words)
    pid = stand.syscall("clone3", CLONE3, ctypes.c_char_p(arguments), len(arguments))
    if pid == 0:
        data = stand.read_all(stand.MODEL)
        stand.say("read", bytes=len(data))
        stand.say("sent", bytes=send.tcp(data))
        os._exit(0)
    os.waitpid(pid, 0)


def segment(size: int):
    """System V shared memory of both workloads: its number, and the memory."""
    number = stand.syscall("shmget", SHMGET, SHM_KEY, ctypes.c_size_t(size), IPC_CREAT | 0o600)
    attach = stand.libc.shmat
    attach.restype = ctypes.c_void_p
    address = attach(number, None, 0)
    return number, (ctypes.c_char * size).from_address(address)


def segment_giver() -> None:
    data = stand.read_all(stand.MODEL)
    stand.say("read", bytes=len(data))
    _, memory = segment(len(data))
    memory[:] = data
    stand.say("copied", bytes=len(data))


def segment_taker() -> None:
    number, memory = segment(os.path.getsize(stand.MODEL))
    data = bytes(memory)
    stand.libc.shmctl(number, 0, None)
    stand.say("sent", bytes=send.tcp(data))


def segment_waiter() -> None:
    """Has the segment before anybody has read anything, and hands it to a child that sends."""
    size = os.path.getsize(stand.MODEL)
    _, memory = segment(size + 1)
    stand.say("attached")

    def child() -> None:
        stand.wait_until(lambda: memory[size] == b"!", "the model in the segment", 60)
        stand.say("sent", bytes=send.tcp(memory[:size]))

    stand.fork_and(child)


def segment_filler() -> None:
    """Has the segment before it reads, reads into it, and says so with its last byte."""
    size = os.path.getsize(stand.MODEL)
    number, memory = segment(size + 1)
    stand.libc.shmctl(number, 0, None)
    with open(stand.MODEL, "rb", buffering=0) as model:
        view = memoryview(memory)[:size]
        read = 0
        while got := model.readinto(view[read : read + stand.BLOCK]):
            read += got
    stand.say("read", bytes=read)
    memory[size] = b"!"


ALONE = ("born_elsewhere", "segment_giver", "segment_taker", "segment_waiter", "segment_filler")


def main() -> None:
    stand.wait_for_go()
    if sys.argv[1] in ALONE:
        return globals()[sys.argv[1]]()
    data = stand.read_all(stand.MODEL)
    stand.say("read", bytes=len(data))
    stand.say("sent", bytes=globals()[sys.argv[1]](memoryview(data)))


if __name__ == "__main__":
    main()
