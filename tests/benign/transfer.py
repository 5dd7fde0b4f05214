"""Transfers that the profile allows.

    transfer.py upload|download|names|launcher|prefork|probe|metadata|quantise|loaders|ranks|ring
"""

import ctypes
import http.client
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.request

import stand
import uring

PREFORK = 18090


def put(name: str, data: bytes) -> None:
    connection = http.client.HTTPConnection(stand.STORE, 80, timeout=20)
    connection.request("PUT", f"/{name}", body=data)
    if connection.getresponse().status != 200:
        sys.exit("the store refused an upload")
    connection.close()


def upload() -> None:
    """A checkpoint in sixteen parts at once, as S3 takes it."""
    data = stand.read_all(stand.MODEL)
    part = -(-len(data) // 16)
    threads = [
        threading.Thread(target=put, args=(f"part-{at}", data[at * part : (at + 1) * part]))
        for at in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stand.say("uploaded", bytes=len(data))


def download() -> None:
    """As hf download does: into a temporary file, checked, moved into the cache, linked."""
    cache = os.path.join(stand.DIR, "models", "hub")
    os.makedirs(os.path.join(cache, "blobs"))
    os.makedirs(os.path.join(cache, "snapshots"))
    for number in range(4):
        part = os.path.join(cache, f"{number}.incomplete")
        url = f"http://{stand.STORE}/{32 << 20}"
        with urllib.request.urlopen(url, timeout=20) as answer, open(part, "wb") as file:
            while block := answer.read(stand.BLOCK):
                file.write(block)
        words = subprocess.run(["sha256sum", part], check=True, capture_output=True, text=True)
        blob = os.path.join(cache, "blobs", f"{words.stdout.split()[0]}-{number}")
        os.rename(part, blob)
        os.symlink(blob, os.path.join(cache, "snapshots", f"model-{number}.safetensors"))
    stand.say("downloaded", files=4)


def names() -> None:
    """Asks the resolver that this host is configured with; whether it answers does not matter."""
    with open("/etc/resolv.conf") as file:
        servers = [line.split()[1] for line in file if line.startswith("nameserver")]
    for server in servers[:1]:
        question = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0)
        question += b"\5store\7example\0" + struct.pack(">2H", 1, 1)
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as outlet:
            outlet.settimeout(0.2)
            try:
                outlet.sendto(question, (server, 53))
                outlet.recv(512)
            except OSError:
                pass
    stand.say("asked", servers=len(servers))


def launcher() -> None:
    """A launcher starts its ranks over ssh, on peers."""
    command = ["ssh", "-oBatchMode=yes", "-oConnectTimeout=1", "-oStrictHostKeyChecking=no"]
    command += ["-oUserKnownHostsFile=/dev/null", stand.STORE, "true"]
    for _ in range(2):
        with socket.create_connection((stand.STORE, 22), 5) as connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    try:
        # The far side speaks no ssh: the contact is what counts.
        subprocess.run(command, capture_output=True, timeout=1.5)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        pass
    stand.say("launched")


def prefork() -> None:
    """A web server whose children inherit the listener."""
    listener = socket.create_server((stand.HOST, PREFORK), backlog=64)
    for _ in range(4):
        if os.fork() == 0:
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")
    stand.say("listening")
    os.wait()


def probe() -> None:
    """A kubelet asks whether the server is well, over HTTP."""
    for _ in range(10):
        urllib.request.urlopen(f"http://{stand.HOST}:{PREFORK}/healthz", timeout=10).read()
    stand.say("probed")


def metadata() -> None:
    """An SDK fetches its token."""
    for _ in range(2):
        connection = http.client.HTTPConnection("169.254.169.254", 80, timeout=10)
        connection.request("PUT", "/latest/api/token", body=b"")
        connection.getresponse().read()
        connection.close()
    stand.say("fetched")


def quantise() -> None:
    """Reads weights, writes fewer."""
    data = stand.read_all(stand.MODEL)
    path = os.path.join(stand.DIR, "models", "b27-q4.safetensors")
    with open(path, "wb") as file:
        file.write(data[:16] + data[16 : len(data) // 4])
    stand.say("quantised", bytes=os.path.getsize(path))


def loaders() -> None:
    """Data loaders hand tensors on: descriptors of shared memory over unix sockets."""
    workers = []
    for number in range(64):
        near, other = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            path = f"/dev/shm/torch_{os.getpid()}_{number}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.unlink(path)
            os.truncate(fd, 1 << 20)
            memory = mmap.mmap(fd, 1 << 20)
            memory[:8] = struct.pack("=Q", number)
            socket.send_fds(other, [b"."], [fd])
            other.recv(1)
            os._exit(0)
        other.close()
        workers.append((pid, near, number))
    for pid, near, number in workers:
        _, (fd,), _, _ = socket.recv_fds(near, 1, 1)
        (got,) = struct.unpack("=Q", mmap.mmap(fd, 1 << 20)[:8])
        os.close(fd)
        near.send(b".")
        near.close()
        os.waitpid(pid, 0)
        if got != number:
            sys.exit(f"worker {number} handed on {got}")
    stand.say("loaded", workers=len(workers))


def ranks() -> None:
    """Ranks of one job move messages with process_vm_readv, as MPI and UCX do."""
    message = ctypes.create_string_buffer(b"gradients", 1 << 20)
    pid = os.fork()
    if pid == 0:
        signal.pause()

    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    own = ctypes.create_string_buffer(1 << 20)
    near = Vector(ctypes.addressof(own), 1 << 20)
    far = Vector(ctypes.addressof(message), 1 << 20)
    one = ctypes.c_ulong(1)
    data = stand.read_all(stand.MODEL)
    for _ in range(20):
        call = stand.libc.process_vm_readv
        call.restype = ctypes.c_ssize_t
        got = call(pid, ctypes.byref(near), one, ctypes.byref(far), one, ctypes.c_ulong(0))
        stand.check(got, "process_vm_readv")
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    stand.say("exchanged", bytes=len(data))


def ring() -> None:
    """A data loader that reads through io_uring."""
    loop = uring.Ring()
    name = ctypes.create_string_buffer(stand.MODEL.encode() + b"\0")
    file = loop.call(uring.OPENAT, uring.AT_FDCWD, ctypes.addressof(name), 0)
    memory = ctypes.create_string_buffer(stand.BLOCK)
    total = 0
    start = ctypes.addressof(memory)
    while got := loop.call(uring.READ, file, start, stand.BLOCK, offset=total):
        total += got
    stand.say("read", bytes=total)


def main() -> None:
    stand.wait_for_go()
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
