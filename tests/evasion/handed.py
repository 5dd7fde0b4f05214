"""What one workload has read is handed to another one, which sends it.

    handed.py WAY
"""

import ctypes
import mmap
import os
import socket
import sys
import time

import send
import stand
import uring

PORT = 18090
DOOR = os.path.join(stand.ROOM, "door.sock")
FIFO = os.path.join(stand.ROOM, "fifo")
NOTE = os.path.join(stand.ROOM, "note")
OPENED = os.path.join(stand.ROOM, "opened")
END = b"end of the model"
PIDFD_OPEN, PIDFD_GETFD = 434, 438
URING_WRITE = 23
SO_RCVBUFFORCE = 33


def read() -> bytes:
    data = stand.read_all(stand.MODEL)
    stand.say("read", bytes=len(data))
    return data


def sent(data: bytes) -> None:
    stand.say("sent", bytes=send.tcp(data))


def drain(take) -> bytes:
    return b"".join(iter(take, b""))


# Over datagrams of loopback: nothing but a port leads to who takes them.


def datagram_relay() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inlet:
        # Room for all of it: loopback drops what nobody takes in time.
        inlet.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        inlet.bind(("127.0.0.1", PORT))
        stand.say("listening")
        pieces = []
        while (piece := inlet.recv(1 << 16)) != END:
            pieces.append(piece)
    sent(b"".join(pieces))


def to_datagram_relay() -> None:
    data = read()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        for piece in stand.blocks(data, 32768):
            outlet.sendto(piece, ("127.0.0.1", PORT))
        outlet.sendto(END, ("127.0.0.1", PORT))


# By descriptor: the other one opens nothing.


def take() -> tuple[socket.socket, int]:
    """Waits for a descriptor; who gives it waits for the end of the connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(DOOR)
        listener.listen(1)
        stand.say("listening")
        connection, _ = listener.accept()
    _, (fd,), _, _ = socket.recv_fds(connection, 1, 1)
    return connection, fd


def taker() -> None:
    """Gets a descriptor of a file that it never opened, reads it and sends."""
    connection, fd = take()
    size = os.fstat(fd).st_size
    data = b"".join(os.pread(fd, stand.BLOCK, at) for at in range(0, size, stand.BLOCK))
    stand.say("took", bytes=len(data))
    sent(data)
    connection.close()


def give(fd: int) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(DOOR)
        socket.send_fds(connection, [b"."], [fd])
        # Until the other one has sent everything.
        connection.recv(1)


def giver() -> None:
    """Opens the model, and hands it over without reading a byte."""
    give(os.open(stand.MODEL, os.O_RDONLY))


def memory_giver() -> None:
    """Copies the model into memory that has no name, and hands that over."""
    data = read()
    fd = os.memfd_create("cache")
    for block in stand.blocks(data):
        os.write(fd, block)
    give(fd)


def mapping_taker() -> None:
    """Gets a descriptor, maps it and closes it: no call reads a byte."""
    connection, fd = take()
    size = os.fstat(fd).st_size
    memory = mmap.mmap(fd, size, prot=mmap.PROT_READ)
    os.close(fd)
    stand.say("took", bytes=size)
    sent(memory)
    connection.close()


def nameless_giver() -> None:
    """Copies the model into a file that has no name."""
    data = read()
    fd = os.open(stand.ROOM, os.O_TMPFILE | os.O_RDWR, 0o600)
    for block in stand.blocks(data):
        os.write(fd, block)
    give(fd)


def held_open() -> None:
    """Copies the model into memory that has no name, and only says where."""
    data = read()
    fd = os.memfd_create("cache")
    for block in stand.blocks(data):
        os.write(fd, block)
    with open(NOTE, "w", encoding="ascii") as note:
        note.write(f"{os.getpid()} {fd}")
    stand.say("holding")
    time.sleep(8)


def where() -> tuple[int, int]:
    with open(NOTE, encoding="ascii") as note:
        pid, fd = note.read().split()
    return int(pid), int(fd)


def by_proc() -> None:
    """Opens another process's descriptor by its name in /proc."""
    sent(stand.read_all("/proc/{}/fd/{}".format(*where())))


def by_pidfd() -> None:
    """Takes the descriptor out of the other process."""
    pid, fd = where()
    pidfd = stand.syscall("pidfd_open", PIDFD_OPEN, pid, 0)
    own = stand.syscall("pidfd_getfd", PIDFD_GETFD, pidfd, fd, 0)
    size = os.fstat(own).st_size
    sent(b"".join(os.pread(own, stand.BLOCK, at) for at in range(0, size, stand.BLOCK)))


# Through a FIFO, or a pipe.


def fifo_taker() -> None:
    os.mkfifo(FIFO)
    stand.say("listening")
    with open(FIFO, "rb", buffering=0) as inlet:
        data = drain(lambda: inlet.read(stand.BLOCK))
    sent(data)


def fifo_giver() -> None:
    data = read()
    with open(FIFO, "wb", buffering=0) as outlet:
        for block in stand.blocks(data):
            while block:
                block = block[outlet.write(block) :]


def fifo_splicer() -> None:
    """The model goes into the FIFO without being read."""
    with open(stand.MODEL, "rb") as model, open(FIFO, "wb", buffering=0) as outlet:
        while os.splice(model.fileno(), outlet.fileno(), 1 << 16):
            pass


def fifo_gatherer() -> None:
    """One call, which ends when the other one has taken everything."""
    data = memoryview(read())
    with open(FIFO, "wb", buffering=0) as outlet:
        pieces = list(stand.blocks(data, 1 << 20))
        left = len(data)
        while left:
            wrote = os.writev(outlet.fileno(), pieces)
            left -= wrote
            pieces = list(stand.blocks(data[len(data) - left :], 1 << 20))


def fifo_ring() -> None:
    """By io_uring."""
    data = read()
    memory = ctypes.create_string_buffer(data, len(data))
    ring = uring.Ring()
    with open(FIFO, "wb", buffering=0) as outlet:
        at = 0
        while at < len(data):
            length = min(1 << 18, len(data) - at)
            at += ring.call(URING_WRITE, outlet.fileno(), ctypes.addressof(memory) + at, length)


def pipe_taker() -> None:
    """Makes a pipe without a name, and lets the other one write into it by way of /proc."""
    inlet, outlet = os.pipe()
    with open(NOTE, "w", encoding="ascii") as note:
        note.write(f"{os.getpid()} {outlet}")
    stand.say("listening")
    while not os.path.exists(OPENED):
        time.sleep(0.01)
    os.close(outlet)
    sent(drain(lambda: os.read(inlet, 1 << 16)))


def pipe_giver() -> None:
    data = read()
    with open("/proc/{}/fd/{}".format(*where()), "wb", buffering=0) as outlet:
        with open(OPENED, "wb"):
            pass
        for block in stand.blocks(data):
            while block:
                block = block[outlet.write(block) :]


# Through shared memory.


def shared_giver() -> None:
    """Writes the model into a file in shared memory by a mapping: no call names its bytes."""
    data = read()
    fd = os.open(f"/dev/shm/{os.path.basename(stand.ROOM)}", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, len(data))
    with mmap.mmap(fd, len(data)) as memory:
        memory[:] = data
    os.close(fd)
    stand.say("copied", bytes=len(data))


def shared_taker() -> None:
    path = f"/dev/shm/{os.path.basename(stand.ROOM)}"
    data = stand.read_all(path)
    os.unlink(path)
    sent(data)


def shared_mapper() -> None:
    """Takes it by a mapping too: no call names its bytes on the way out either."""
    path = f"/dev/shm/{os.path.basename(stand.ROOM)}"
    fd = os.open(path, os.O_RDONLY)
    with mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ) as memory:
        os.close(fd)
        os.unlink(path)
        sent(bytes(memory))


# Through a proxy that others may use too.


def proxy() -> None:
    """A HTTP proxy on loopback that knows CONNECT."""
    with socket.create_server(("127.0.0.1", PORT)) as listener:
        stand.say("listening")
        inward, _ = listener.accept()
    line = b""
    while not line.endswith(b"\r\n\r\n"):
        line += inward.recv(1)
    host, port = line.split()[1].decode().rsplit(":", 1)
    with stand.connect(host, int(port)) as outward:
        outward.setblocking(True)
        inward.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        total = 0
        while block := inward.recv(stand.BLOCK):
            outward.sendall(block)
            total += len(block)
    stand.say("sent", bytes=total)


def through_proxy() -> None:
    data = read()
    with socket.create_connection(("127.0.0.1", PORT)) as connection:
        connection.sendall(f"CONNECT {stand.FAR}:{stand.DISCARD} HTTP/1.1\r\n\r\n".encode())
        connection.recv(4096)
        for block in stand.blocks(data):
            connection.sendall(block)


def pulled() -> None:
    """The reader only listens: the other one comes and fetches."""
    data = read()
    with socket.create_server(("127.0.0.1", PORT)) as listener:
        stand.say("listening")
        connection, _ = listener.accept()
        with connection:
            connection.sendall(data)


def puller() -> None:
    with socket.create_connection(("127.0.0.1", PORT)) as connection:
        data = drain(lambda: connection.recv(stand.BLOCK))
    sent(data)


# The one who takes orders is root on the host.


def runtime() -> None:
    """A container runtime, as far as its socket goes."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(stand.ROOM, "docker.sock"))
        listener.listen(1)
        stand.say("listening")
        connection, _ = listener.accept()
        connection.recv(4096)


def orders() -> None:
    """Gives it orders, by another name of its socket."""
    name = os.path.join(stand.ROOM, "innocent")
    os.symlink(os.path.join(stand.ROOM, "docker.sock"), name)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(name)
        connection.sendall(b"POST /containers/create HTTP/1.1\r\n\r\n")
    stand.say("ordered")


def main() -> None:
    stand.wait_for_go()
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
