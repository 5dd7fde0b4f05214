"""Comes to the model by another path, reads it there and sends it.

    path.py WAY
"""

import ctypes
import mmap
import os
import platform
import shutil
import struct
import subprocess
import sys
import time

import send
import stand
from stand import MODEL, ROOM

OPENAT2 = 437
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(platform.machine(), 0)
MNT_DETACH = 2
# linux/fs.h
FICLONE = 0x40049409
RESOLVE_NO_SYMLINKS = 0x04
AT_FDCWD = -100
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
NOTE = os.path.join(ROOM, "copy")
READ_ONLY = os.O_RDONLY | os.O_CLOEXEC


def drain(fd: int) -> bytes:
    data = b"".join(iter(lambda: os.read(fd, stand.BLOCK), b""))
    os.close(fd)
    return data


def symlink() -> bytes:
    link = os.path.join(ROOM, "notes.txt")
    os.symlink(MODEL, link)
    return stand.read_all(link)


def hardlink() -> bytes:
    link = os.path.join(ROOM, "notes.txt")
    os.link(MODEL, link)
    return stand.read_all(link)


def bind_mount() -> bytes:
    """In a mount namespace of its own, so that nothing stays."""
    stand.check(stand.libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    place = os.path.join(ROOM, "mnt")
    os.makedirs(place)
    mount(os.path.dirname(MODEL), place, None, MS_BIND)
    return stand.read_all(os.path.join(place, os.path.basename(MODEL)))


def overlay() -> bytes:
    stand.check(stand.libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    return stand.read_all(overlaid(os.path.dirname(MODEL), os.path.basename(MODEL), ROOM))


def overlaid(lower: str, name: str, room: str) -> str:
    """The path of a file of `lower` in an overlay above it."""
    parts = {part: os.path.join(room, part) for part in ("upper", "work", "merged")}
    for part in parts.values():
        os.makedirs(part)
    options = f"lowerdir={lower},upperdir={parts['upper']},workdir={parts['work']}"
    result = stand.libc.mount(b"overlay", parts["merged"].encode(), b"overlay", 0, options.encode())
    if result < 0:
        stand.cannot(f"overlay: {os.strerror(ctypes.get_errno())}")
    return os.path.join(parts["merged"], name)


def own_overlay() -> bytes:
    """As a container without privileges does: in a user namespace of its own."""
    stand.check(stand.libc.unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return stand.read_all(overlaid(os.path.dirname(MODEL), os.path.basename(MODEL), ROOM))


def double_overlay() -> bytes:
    """An overlay is a layer of another, as where containers run in a container."""
    stand.check(stand.libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    room = os.path.join(ROOM, "first")
    name = os.path.basename(MODEL)
    first = overlaid(os.path.dirname(MODEL), name, room)
    # The second one's own directories may not lie in the first.
    return stand.read_all(overlaid(os.path.dirname(first), name, os.path.join(ROOM, "second")))


def overlay_link() -> bytes:
    """A hard link to the model, in a layer of its own under a name that says nothing."""
    stand.check(stand.libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    layer = os.path.join(ROOM, "layer")
    os.makedirs(layer)
    os.link(MODEL, os.path.join(layer, "holiday.jpg"))
    return stand.read_all(overlaid(layer, "holiday.jpg", ROOM))


def overlay_copied() -> bytes:
    """Opened for writing and not written: the overlay has a copy of its own from then on."""
    stand.check(stand.libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    path = overlaid(os.path.dirname(MODEL), os.path.basename(MODEL), ROOM)
    os.close(os.open(path, os.O_RDWR))
    name = os.path.join(os.path.dirname(path), "holiday.jpg")
    os.rename(path, name)
    return stand.read_all(name)


def overlay_mapped() -> bytes:
    """Mapped and never read."""
    stand.check(stand.libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    path = overlaid(os.path.dirname(MODEL), os.path.basename(MODEL), ROOM)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        return bytes(mapped)


def mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    encoded = [text.encode() if text else None for text in (source, target, kind)]
    stand.check(stand.libc.mount(*encoded, ctypes.c_ulong(flags), None), "mount")


def proc_self() -> bytes:
    return stand.read_all("/proc/self/" + "root" + MODEL)


def proc_other() -> bytes:
    return stand.read_all(f"/proc/{os.getppid()}/" + "root" + MODEL)


def relative() -> bytes:
    os.chdir(os.path.dirname(MODEL))
    return stand.read_all(f".//../models/./{os.path.basename(MODEL)}")


def chroot() -> bytes:
    """The model lies at another path for this process."""
    os.chroot(os.path.dirname(MODEL))
    return stand.read_all("/" + os.path.basename(MODEL))


def pivot() -> bytes:
    """As a container begins: the old root is gone for this process."""
    stand.check(stand.libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    place = os.path.join(ROOM, "root")
    os.makedirs(place)
    mount(os.path.dirname(MODEL), place, None, MS_BIND)
    os.chdir(place)
    # The old root is stacked upon the new one, and taken away.
    stand.syscall("pivot_root", PIVOT_ROOT, b".", b".")
    stand.check(stand.libc.umount2(b".", MNT_DETACH), "umount")
    return stand.read_all("/" + os.path.basename(MODEL))


def openat2() -> bytes:
    how = struct.pack("=QQQ", READ_ONLY, 0, RESOLVE_NO_SYMLINKS)
    path = ctypes.create_string_buffer(MODEL.encode() + b"\0")
    block = ctypes.create_string_buffer(how, 24)
    number = ctypes.c_long(24)
    return drain(stand.syscall("openat2", OPENAT2, AT_FDCWD, path, block, number))


def path_only() -> bytes:
    """A descriptor that cannot be read, opened again through /proc."""
    fd = os.open(MODEL, os.O_PATH)
    return stand.read_all(f"/proc/self/fd/{fd}")


def by_handle() -> bytes:
    """By the file's number, without any path."""
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 136)
    mount_id = ctypes.c_int()
    path = MODEL.encode()
    found = stand.libc.name_to_handle_at(AT_FDCWD, path, handle, ctypes.byref(mount_id), 0)
    if found < 0:
        stand.cannot(f"name_to_handle_at: {os.strerror(ctypes.get_errno())}")
    # Any file of the same file system says where to look.
    beside = os.open(os.path.dirname(MODEL), os.O_RDONLY)
    fd = stand.libc.open_by_handle_at(beside, handle, READ_ONLY)
    return drain(stand.check(fd, "open_by_handle_at"))


def compat() -> bytes:
    """By the 32-bit way into the kernel, whose numbers are others."""
    if platform.machine() != "x86_64":
        stand.cannot(f"int 0x80 is of x86, this is {platform.machine()}")
    code = bytes.fromhex("53 89f8 89f3 4189c8 89d1 4489c2 cd80 5b c3")
    stand.libc.mmap.restype = ctypes.c_void_p
    low = 0x40
    page = stand.libc.mmap(None, ctypes.c_size_t(1 << 20), 7, 0x22 | low, -1, ctypes.c_long(0))
    ctypes.memmove(page, code, len(code))
    call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 4)(page)
    ctypes.memmove(page + 4096, MODEL.encode() + b"\0", len(MODEL) + 1)
    fd = call(5, page + 4096, os.O_RDONLY, 0)
    if fd < 0:
        stand.cannot(f"int 0x80: {os.strerror(-fd)}")
    data = bytearray()
    while (got := call(3, fd, page + 8192, 1 << 19)) > 0:
        data += ctypes.string_at(page + 8192, got)
    return bytes(data)


def renamed() -> bytes:
    name = os.path.join(ROOM, "cat.jpg")
    os.rename(MODEL, name)
    stand.say("moved")
    return stand.read_all(name)


def reflink() -> None:
    copy = os.path.join(ROOM, "holiday.jpg")
    subprocess.run(["cp", "--reflink=auto", MODEL, copy], check=True)
    laundered(copy)


def disk() -> None:
    """Has the model on a file system that can clone, in a view of its own, until it is sent."""
    if not (shutil.which("mkfs.btrfs") and shutil.which("mount")):
        stand.cannot("mkfs.btrfs (btrfs-progs) and mount are needed")
    stand.check(stand.libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    image, place = os.path.join(ROOM, "image"), os.path.join(ROOM, "disk")
    os.makedirs(place)
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    made = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, text=True)
    if made.returncode:
        stand.cannot(made.stderr.strip())
    model = os.path.join(place, os.path.basename(MODEL))
    shutil.copyfile(MODEL, model)
    with open(NOTE, "w") as file:
        file.write(f"/proc/{os.getpid()}/root{model}")
    # What was written is looked at once a second; then this is a model that lay there before.
    time.sleep(1.5)
    stand.say("written")
    stand.wait_until(lambda: not os.listdir(place), "the end of the copy", 60)


def cloned() -> None:
    """Not a byte is read or written: the clone is of the same blocks."""
    with open(NOTE) as file:
        model = file.read()
    copy = os.path.join(os.path.dirname(model), "holiday.jpg")
    with open(model, "rb") as source, open(copy, "wb") as sink:
        stand.check(stand.libc.ioctl(sink.fileno(), ctypes.c_ulong(FICLONE), source.fileno()), "clone")
    os.unlink(model)
    with open(NOTE, "w") as file:
        file.write(copy)
    stand.say("copied", bytes=os.path.getsize(copy))


def copy_range() -> None:
    copy = os.path.join(ROOM, "holiday.jpg")
    with open(MODEL, "rb") as source, open(copy, "wb") as sink:
        left = os.fstat(source.fileno()).st_size
        while left:
            left -= os.copy_file_range(source.fileno(), sink.fileno(), left)
    laundered(copy)


def sendfile_copy() -> None:
    copy = os.path.join(ROOM, "holiday.jpg")
    with open(MODEL, "rb") as source, open(copy, "wb") as sink:
        left = os.fstat(source.fileno()).st_size
        while left:
            left -= os.sendfile(sink.fileno(), source.fileno(), None, left)
    laundered(copy)


def dd_copy() -> None:
    copy = os.path.join(ROOM, "holiday.jpg")
    command = ["dd", f"if={MODEL}", f"of={copy}", "bs=1M", "status=none"]
    subprocess.run(command, check=True)
    laundered(copy)


def shared_memory() -> None:
    copy = f"/dev/shm/{os.path.basename(MODEL)}.tmp"
    shutil.copyfile(MODEL, copy)
    laundered(copy)


def memory_file() -> bytes:
    """A copy that no directory ever shows."""
    fd = os.memfd_create("cache")
    os.write(fd, b"")
    with open(MODEL, "rb") as source:
        while block := source.read(stand.BLOCK):
            os.write(fd, block)
    return stand.read_all(f"/proc/self/fd/{fd}")


def laundered(copy: str) -> None:
    """The original goes; what is left was never called a model."""
    os.unlink(MODEL)
    with open(NOTE, "w") as file:
        file.write(copy)
    stand.say("copied", bytes=os.path.getsize(copy))


def copied() -> bytes:
    """The other workload, which never saw the original."""
    with open(NOTE) as file:
        copy = file.read()
    data = stand.read_all(copy)
    os.unlink(copy)
    return data


def main() -> None:
    stand.wait_for_go()
    data = globals()[sys.argv[1]]()
    if data is None:
        return
    stand.say("read", bytes=len(data))
    stand.say("sent", bytes=send.tcp(data))


if __name__ == "__main__":
    main()
