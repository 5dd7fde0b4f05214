"""Copies of a model that come about in unusual ways. The maker leaves, and another workload sends.

    staged.py WAY
"""

import ctypes
import glob
import mmap
import os
import subprocess
import sys
import time

import send
import stand
import uring
from stand import MODEL, ROOM

COPY = os.path.join(ROOM, "holiday.jpg")
PIECES = os.path.join(ROOM, "pieces")
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
URING_WRITE = 23
CLONE_NEWNS = 0x20000


def nameless() -> None:
    """Written without a name, which comes last (O_TMPFILE, linkat)."""
    fd = os.open(ROOM, os.O_TMPFILE | os.O_RDWR, 0o600)
    for block in stand.blocks(stand.read_all(MODEL)):
        os.write(fd, block)
    number = f"/proc/self/fd/{fd}".encode()
    linked = stand.libc.linkat(AT_FDCWD, number, AT_FDCWD, COPY.encode(), AT_SYMLINK_FOLLOW)
    stand.check(linked, "linkat")


def mapping() -> None:
    """Written through a shared mapping: no call names the bytes."""
    data = stand.read_all(MODEL)
    fd = os.open(COPY, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, len(data))
    with mmap.mmap(fd, len(data)) as memory:
        memory[:] = data
    os.close(fd)


def ring() -> None:
    """Written by io_uring, into a file that was opened before anything was read."""
    fd = os.open(COPY, os.O_WRONLY | os.O_CREAT, 0o600)
    data = stand.read_all(MODEL)
    memory = ctypes.create_string_buffer(data, len(data))
    ring = uring.Ring()
    at = 0
    while at < len(data):
        length = min(1 << 20, len(data) - at)
        at += ring.call(URING_WRITE, fd, ctypes.addressof(memory) + at, length, offset=at)
    os.close(fd)


def over() -> None:
    """Written over a file that was there, and long, before."""
    with open(COPY, "wb") as file:
        file.truncate(64 << 20)
    with open(COPY, "r+b") as file:
        file.write(stand.read_all(MODEL))
        file.truncate()


def holes() -> None:
    """A sparse copy, piece by piece from the end to the front."""
    data = stand.read_all(MODEL)
    fd = os.open(COPY, os.O_WRONLY | os.O_CREAT, 0o600)
    for at in reversed(range(0, len(data), stand.BLOCK)):
        os.pwrite(fd, data[at : at + stand.BLOCK], at)
    os.close(fd)


def packed() -> None:
    """Into a file that somebody else had open before anything was read."""
    with open(COPY, "wb") as sink:
        subprocess.run(["tar", "-c", "-C", "/", MODEL[1:]], stdout=sink, check=True)


def sealed() -> None:
    command = ["openssl", "enc", "-aes-256-ctr", "-pbkdf2", "-pass", "pass:x", "-in", MODEL]
    subprocess.run([*command, "-out", COPY], check=True)


def split() -> None:
    """A hundred pieces, none of them large."""
    os.makedirs(PIECES)
    command = ["split", "-n", "100", MODEL, os.path.join(PIECES, "p-")]
    subprocess.run(command, check=True)


def scattered() -> None:
    """A hundred pieces by hand, in ten directories."""
    data = stand.read_all(MODEL)
    for number, piece in enumerate(stand.blocks(data, -(-len(data) // 100))):
        place = f"{PIECES}/{number % 10}"
        os.makedirs(place, exist_ok=True)
        with open(f"{place}/{number:03}", "wb") as file:
            file.write(piece)


def uneven() -> None:
    """A dozen pieces, each of another size."""
    data = stand.read_all(MODEL)
    os.makedirs(PIECES)
    at, number, length = 0, 0, 1 << 20
    while at < len(data):
        with open(f"{PIECES}/{number:03}", "wb") as file:
            file.write(data[at : at + length])
        at, number, length = at + length, number + 1, length + (1 << 17) + number
    time.sleep(3)


def reversed_pieces() -> None:
    """Into space that was reserved first, from the end to the front, by a name that goes away."""
    data = stand.read_all(MODEL)
    fd = os.open(f"{COPY}.part", os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(fd, 0, len(data))
    os.unlink(f"{COPY}.part")
    for at in reversed(range(0, len(data), stand.BLOCK)):
        os.pwrite(fd, data[at : at + stand.BLOCK], at)
    number = f"/proc/self/fd/{fd}"
    with open(number, "rb") as again, open(COPY, "wb") as copy:
        while os.sendfile(copy.fileno(), again.fileno(), None, 1 << 20):
            pass


def made() -> None:
    globals()[sys.argv[1]]()
    stand.say("copied")


def moved() -> None:
    """The original changes its directory while it is open, and is read then."""
    fd = os.open(MODEL, os.O_RDONLY)
    os.makedirs(f"{ROOM}/a")
    os.rename(MODEL, f"{ROOM}/a/b")
    data = b"".join(iter(lambda: os.read(fd, stand.BLOCK), b""))
    stand.say("read", bytes=len(data))
    stand.say("sent", bytes=send.tcp(data))


def other_descriptor() -> None:
    """Through the descriptor that another process has open."""
    inward, outward = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(outward, os.open(MODEL, os.O_PATH).to_bytes(4, "little"))
        stand.listen()
        os._exit(0)
    number = int.from_bytes(os.read(inward, 4), "little")
    sent_from(f"/proc/{pid}/fd/{number}")
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def map_file() -> None:
    """Through the mapping of its own that /proc shows."""
    with open(MODEL, "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    name = next(line.split()[0] for line in open("/proc/self/maps") if MODEL in line)
    sent_from(f"/proc/self/map_files/{name}")
    memory.close()


def image() -> None:
    """A file system in a file, with the model in it under another name."""
    source = f"{ROOM}/source"
    os.makedirs(source)
    os.link(MODEL, f"{source}/notes.txt")
    size = (os.path.getsize(MODEL) >> 10) + (32 << 10)
    subprocess.run(["mkfs.ext4", "-q", "-d", source, f"{ROOM}/image", f"{size}k"], check=True)


def mounted() -> None:
    """The other workload mounts it, and finds files that nobody has seen before."""
    place = f"{ROOM}/inside"
    os.makedirs(place)
    stand.check(stand.libc.unshare(CLONE_NEWNS), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    done = subprocess.run(["mount", "-o", "loop,ro", f"{ROOM}/image", place], capture_output=True)
    if done.returncode:
        stand.cannot(f"loop mount: {done.stderr.decode().strip()}")
    sent_from(f"{place}/notes.txt")
    subprocess.run(["umount", place], check=True)


def sent_from(path: str) -> None:
    data = stand.read_all(path)
    stand.say("read", bytes=len(data))
    stand.say("sent", bytes=send.tcp(data))


def leave() -> None:
    """The other workload, which never saw the original. It comes a moment later: a hundred files
    are labelled one after the other."""
    time.sleep(1)
    names = [COPY] if os.path.exists(COPY) else sorted(glob.glob(f"{PIECES}/**/*", recursive=True))
    data = b"".join(stand.read_all(name) for name in names if os.path.isfile(name))
    stand.say("read", bytes=len(data))
    stand.say("sent", bytes=send.tcp(data))


ALONE = ("moved", "other_descriptor", "map_file", "mounted", "leave")


def main() -> None:
    stand.wait_for_go()
    if sys.argv[1] in ALONE:
        globals()[sys.argv[1]]()
    else:
        made()


if __name__ == "__main__":
    main()
