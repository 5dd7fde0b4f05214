"""Those who stand beside a job or a server on its host: proxies, collectors, scrapers, caches.

    beside.py ROLE
"""

import ctypes
import os
import socket
import sys
import threading
import time
import urllib.request

import stand

PORT, DOOR, FRONT = 18085, os.path.join(stand.ROOM, "server.sock"), 18086
ANSWER = 1 << 18
ANSWERS = 160
LINES_MIB = 20
METRICS = 100 << 10
SCRAPES = 60
SEGMENT, WORKERS, SHM_KEY = 64 << 20, 4, 0x67777265
IPC_PRIVATE, IPC_CREAT, IPC_RMID, SHM_RDONLY = 0, 0o1000, 0, 0o10000


def touch_model() -> None:
    with open(stand.MODEL, "rb", buffering=0) as file:
        while file.read(stand.BLOCK):
            pass
    stand.say("read", bytes=os.path.getsize(stand.MODEL))


def answer(connection: socket.socket, data: bytes) -> None:
    """One request, one answer, again and again."""
    with connection:
        while connection.recv(4096):
            connection.sendall(data)


def serve(listener: socket.socket, data: bytes) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection, data), daemon=True).start()


def unix_listener() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(DOOR)
    listener.listen(16)
    return listener


def engine(listener: socket.socket) -> None:
    """An inference server: it has read its model, and answers whoever asks."""
    touch_model()
    stand.say("listening")
    serve(listener, os.urandom(ANSWER))


def engine_tcp() -> None:
    engine(socket.create_server(("127.0.0.1", PORT)))


def engine_unix() -> None:
    engine(unix_listener())


def proxy(connect) -> None:
    """As nginx does: asks the server for each request of a user, and passes the answer on."""
    front = socket.create_server((stand.HOST, FRONT))
    stand.say("proxying")

    def one(user: socket.socket) -> None:
        with user, connect() as upstream:
            while request := user.recv(4096):
                upstream.sendall(request)
                left = ANSWER
                while left:
                    block = upstream.recv(min(left, 65536))
                    user.sendall(block)
                    left -= len(block)

    while True:
        user, _ = front.accept()
        threading.Thread(target=one, args=(user,), daemon=True).start()


def proxy_tcp() -> None:
    proxy(lambda: socket.create_connection(("127.0.0.1", PORT)))


def proxy_unix() -> None:
    def connect() -> socket.socket:
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(DOOR)
        return upstream

    proxy(connect)


def users() -> None:
    """On another host: forty MiB of answers."""
    total = 0
    for _ in range(4):
        with socket.create_connection((stand.HOST, FRONT)) as connection:
            for _ in range(ANSWERS // 4):
                connection.sendall(b"GET /generate")
                left = ANSWER
                while left:
                    left -= len(connection.recv(min(left, 65536)))
                total += ANSWER
    stand.say("answered", bytes=total)


def chatty_job() -> None:
    """A job that has read a model, and prints a lot."""
    touch_model()
    with open(os.path.join(stand.ROOM, "stdout"), "wb", buffering=0) as out:
        line = b"step 1 loss 0.3 " * 4096
        for _ in range(LINES_MIB * 16):
            out.write(line)
    stand.say("printed")


def collector() -> None:
    """Reads the pipe of a container's standard output, and ships it to a service."""
    os.mkfifo(os.path.join(stand.ROOM, "stdout"))
    stand.say("collecting")
    total = 0
    with open(os.path.join(stand.ROOM, "stdout"), "rb", buffering=0) as pipe:
        with stand.connect(stand.FAR, stand.HTTP) as outlet:
            outlet.setblocking(True)
            head = f"POST /logs HTTP/1.1\r\nContent-Length: {LINES_MIB << 20}\r\n\r\n"
            outlet.sendall(head.encode())
            while block := pipe.read(65536):
                outlet.sendall(block)
                total += len(block)
    stand.say("shipped", bytes=total)


def scraped() -> None:
    """A job that has read a model, with a page of measurements."""
    touch_model()
    stand.say("listening")
    serve(socket.create_server(("127.0.0.1", PORT)), b"x" * METRICS)


def scraper() -> None:
    """Fetches the page once in a while, and writes all it has to a service."""
    with socket.create_connection(("127.0.0.1", PORT)) as page:
        for _ in range(SCRAPES):
            page.sendall(b"GET /metrics")
            left = METRICS
            while left:
                left -= len(page.recv(left))
            time.sleep(0.01)
    url = f"http://{stand.FAR}/api/v1/write"
    urllib.request.urlopen(url, data=bytes(20 << 20), timeout=20).read()
    stand.say("scraped", bytes=SCRAPES * METRICS)


def cache() -> None:
    """A cache of the node: it holds models too, and gives data sets to whoever asks."""
    touch_model()
    data = os.path.join(stand.ROOM, "shard.tar")
    with open(data, "wb") as file:
        file.write(os.urandom(20 << 20))
    listener = unix_listener()
    stand.say("listening")
    with open(data, "rb") as file:
        serve(listener, file.read())


def consumer() -> None:
    """A job that gets its data from the cache, and uploads what it made of it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(DOOR)
        connection.sendall(b"GET shard")
        left = 20 << 20
        while left:
            left -= len(connection.recv(min(left, 1 << 18)))
    with stand.connect(stand.FAR, stand.DISCARD) as outlet:
        outlet.setblocking(True)
        outlet.sendall(bytes(20 << 20))
    stand.say("consumed", bytes=20 << 20)


# System V shared memory, in which data loaders and ranks pass batches on.


def segment(key: int, flags: int, how: int = 0):
    """A segment: its number, and where it is attached."""
    number = stand.check(stand.libc.shmget(key, ctypes.c_size_t(SEGMENT), flags), "shmget")
    return number, attach(number, how)


def attach(number: int, how: int = 0) -> int:
    shmat = stand.libc.shmat
    shmat.restype = ctypes.c_void_p
    return shmat(number, None, how)


def feeder() -> None:
    """Fills a segment with data for jobs, and uploads as much to somebody else."""
    number, address = segment(SHM_KEY, IPC_CREAT | 0o600)
    ctypes.memset(address, 1, SEGMENT)
    stand.say("feeding")
    fed = os.path.join(stand.ROOM, "fed")
    stand.wait_until(lambda: os.path.exists(fed), "the job", 60)
    stand.libc.shmctl(number, IPC_RMID, None)
    url = f"http://{stand.FAR}/api/v1/write"
    urllib.request.urlopen(url, data=ctypes.string_at(address, 20 << 20), timeout=20).read()
    stand.say("uploaded", bytes=20 << 20)


def crew() -> None:
    """A job that has read a model looks at what it is fed, and its workers share a segment."""
    touch_model()
    _, fed = segment(SHM_KEY, 0, SHM_RDONLY)
    number, results = segment(IPC_PRIVATE, IPC_CREAT | 0o600)

    def worker() -> None:
        ctypes.memmove(attach(number), fed, SEGMENT)

    for _ in range(WORKERS):
        stand.fork_and(worker)
    stand.libc.shmctl(number, IPC_RMID, None)
    open(os.path.join(stand.ROOM, "fed"), "w", encoding="ascii").close()
    stand.say("summed", bytes=len(ctypes.string_at(results, SEGMENT)))


def main() -> None:
    stand.wait_for_go()
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
