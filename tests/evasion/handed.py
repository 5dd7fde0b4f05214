"""What one workload has read is handed to another one, which sends it.

    handed.py WAY
"""

import os
import socket
import sys

import send
import stand

PORT = 18090
DOOR = os.path.join(stand.ROOM, "door.sock")
FIFO = os.path.join(stand.ROOM, "fifo")
END = b"end of the model"
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


def taker() -> None:
    """Gets a descriptor of a file that it never opened, reads it and sends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(DOOR)
        listener.listen(1)
        stand.say("listening")
        connection, _ = listener.accept()
        _, (fd,), _, _ = socket.recv_fds(connection, 1, 1)
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


# Through a FIFO.


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


# Through shared memory.


def shared_giver() -> None:
    """Writes the model into a file in shared memory by a mapping: no call names its bytes."""
    import mmap

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
