"""Two processes share the work: one reads, another sends.

    pair.py WAY [ROLE]
"""

import os
import signal
import socket
import sys

import send
import stand

PIDFD_OPEN, PIDFD_GETFD = 434, 438
LOOPBACK_PORT = 18082
CLONE_NEWPID, CLONE_NEWUTS = 0x20000000, 0x04000000


def read() -> bytes:
    data = stand.read_all(stand.MODEL)
    stand.say("read", bytes=len(data))
    return data


def write_all(fd: int, data: bytes) -> None:
    """With write(2), on a socket that somebody else connected."""
    for block in stand.blocks(data):
        while block:
            block = block[os.write(fd, block) :]
    stand.say("sent", bytes=len(data))


def passed() -> None:
    """A process that read nothing connects, and passes its socket to the one that read."""
    near, other = socket.socketpair()

    def connect() -> None:
        near.close()
        connection = stand.connect()
        connection.setblocking(True)
        stand.say("connected")
        socket.send_fds(other, [b"."], [connection.fileno()])
        other.recv(1)

    pid = os.fork()
    if pid == 0:
        connect()
        os._exit(0)
    other.close()
    data = read()
    _, (fd,), _, _ = socket.recv_fds(near, 1, 1)
    write_all(fd, data)
    near.send(b".")
    os.waitpid(pid, 0)


def stolen() -> None:
    """The socket of another process is taken out of it."""
    inward, outward = os.pipe()
    pid = os.fork()
    if pid == 0:
        connection = stand.connect()
        connection.setblocking(True)
        stand.say("connected")
        os.write(outward, connection.fileno().to_bytes(4, "little"))
        signal.pause()
    number = int.from_bytes(os.read(inward, 4), "little")
    data = read()
    handle = stand.syscall("pidfd_open", PIDFD_OPEN, pid, 0)
    fd = stand.syscall("pidfd_getfd", PIDFD_GETFD, handle, number, 0)
    stand.say("stole", target=pid)
    write_all(fd, data)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def inherited() -> None:
    """The parent connects; a child that is a session of its own, and no longer its child, reads
    and sends."""
    connection = stand.connect()
    connection.setblocking(True)
    stand.say("connected")
    inward, outward = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            connection_fd = connection.fileno()
            write_all(connection_fd, read())
            os.write(outward, b".")
        os._exit(0)
    os.wait()
    os.read(inward, 1)


def piped() -> None:
    """Through a pipe, as `tar | nc` does."""
    inward, outward = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(outward)
        data = b"".join(iter(lambda: os.read(inward, stand.BLOCK), b""))
        stand.say("sent", bytes=send.tcp(data))
        os._exit(0)
    os.close(inward)
    for block in stand.blocks(read()):
        while block:
            block = block[os.write(outward, block) :]
    os.close(outward)
    os.waitpid(pid, 0)


def namespaced() -> None:
    """In process and host name namespaces of its own, where ids are others."""
    stand.check(stand.libc.unshare(CLONE_NEWPID | CLONE_NEWUTS), "unshare")
    pid = os.fork()
    if pid == 0:
        data = stand.read_all(stand.MODEL)
        sent = send.tcp(data)
        # Inside it is process 1; its parent says who it is for the host.
        os._exit(0 if sent == len(data) == os.path.getsize(stand.MODEL) else 1)
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit("the inner process failed")
    size = os.path.getsize(stand.MODEL)
    stand.say("sent", pid=pid, bytes=size)


def spoofed() -> None:
    """Under the name of a kernel thread, with other arguments."""
    stand.check(stand.libc.prctl(15, b"kworker/0:1", 0, 0, 0), "prctl")
    data = read()
    stand.say("sent", bytes=send.tcp(data))


def moved() -> None:
    """Leaves the cgroup that the profile selects before it sends."""
    data = read()
    with open("/proc/self/cgroup") as file:
        own = next(line[3:].strip() for line in file if line.startswith("0::"))
    mounts = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    mount = next(path for path in mounts if os.path.exists(f"{path}/cgroup.controllers"))
    assert own.startswith("/gpuwarden/"), own
    with open(f"{mount}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    stand.say("moved")
    stand.say("sent", bytes=send.tcp(data))


def accepted() -> None:
    """Nobody in here connects: a stranger comes and fetches, a small piece on each connection."""
    data = read()
    with socket.create_server((stand.HOST, 18081)) as listener:
        stand.say("listening")
        sent = 0
        for block in stand.blocks(data, 1 << 19):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(block)
            sent += len(block)
    stand.say("sent", bytes=sent)


def fetch() -> None:
    """The stranger."""
    total = 0
    size = os.path.getsize(stand.MODEL)
    while total < size:
        with stand.connect(stand.HOST, 18081) as connection:
            while block := connection.recv(stand.BLOCK):
                total += len(block)
    stand.say("fetched", bytes=total)


def sidecar() -> None:
    """In another container of the pod: sends whatever comes over a unix socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(stand.ROOM, "proxy.sock"))
        listener.listen(1)
        stand.say("listening")
        connection, _ = listener.accept()
        data = b"".join(iter(lambda: connection.recv(stand.BLOCK), b""))
    stand.say("sent", bytes=send.tcp(data))


def to_sidecar() -> None:
    data = read()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.path.join(stand.ROOM, "proxy.sock"))
        connection.sendall(data)


def datagram_sidecar() -> None:
    """As the sidecar, over unix datagrams."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inlet:
        inlet.bind(os.path.join(stand.ROOM, "proxy.sock"))
        stand.say("listening")
        data = b"".join(iter(lambda: inlet.recv(1 << 17), b""))
    stand.say("sent", bytes=send.tcp(data))


def to_datagram_sidecar() -> None:
    data = read()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outlet:
        outlet.connect(os.path.join(stand.ROOM, "proxy.sock"))
        for block in stand.blocks(data, 1 << 16):
            outlet.send(block)
        outlet.send(b"")


def loopback_sidecar() -> None:
    """As the sidecar, over loopback."""
    with socket.create_server(("127.0.0.1", LOOPBACK_PORT)) as listener:
        stand.say("listening")
        connection, _ = listener.accept()
        data = b"".join(iter(lambda: connection.recv(stand.BLOCK), b""))
    stand.say("sent", bytes=send.tcp(data))


def to_loopback_sidecar() -> None:
    data = read()
    with socket.create_connection(("127.0.0.1", LOOPBACK_PORT)) as connection:
        connection.sendall(data)


def loopback_relay() -> None:
    """A proxy on loopback, in the same workload."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    pid = os.fork()
    if pid == 0:
        connection, _ = listener.accept()
        data = b"".join(iter(lambda: connection.recv(stand.BLOCK), b""))
        stand.say("sent", bytes=send.tcp(data))
        os._exit(0)
    listener.close()
    data = read()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
    os.waitpid(pid, 0)


def main() -> None:
    stand.wait_for_go()
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
