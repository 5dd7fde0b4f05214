"""Ranks of a job on two hosts: each listens on a port that the kernel chose, and all send to all.

    mesh.py HOST FIRST COUNT OF
"""

import os
import socket
import sys
import threading
import time

import stand

PIECE = 4 << 20


def note(rank: int) -> str:
    return os.path.join(stand.ROOM, f"rank-{rank}")


def swallow(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=lambda c=connection: drain(c), daemon=True).start()


def drain(connection: socket.socket) -> None:
    with connection:
        while connection.recv(stand.BLOCK):
            pass


def rank(host: str, own: int, of: int, local: range) -> None:
    listener = socket.create_server((host, 0), backlog=of)
    threading.Thread(target=swallow, args=(listener,), daemon=True).start()
    with open(note(own) + ".new", "w") as file:
        file.write(f"{host} {listener.getsockname()[1]}")
    os.rename(note(own) + ".new", note(own))
    for other in range(of):
        stand.wait_until(lambda: os.path.exists(note(other)), f"rank {other}")
        # Ranks of one host talk over loopback or shared memory.
        if other == own or other in local:
            continue
        with open(note(other)) as file:
            peer, port = file.read().split()
        with socket.create_connection((peer, int(port)), 20) as connection:
            connection.sendall(bytes(PIECE))
    with open(note(own) + ".done", "w"):
        pass
    for other in range(of):
        stand.wait_until(lambda: os.path.exists(note(other) + ".done"), f"the end of rank {other}")


def main() -> None:
    host, first, count, of = sys.argv[1], *map(int, sys.argv[2:5])
    stand.wait_for_go()
    if host == stand.HOST:
        # The rendezvous first.
        for port in (29400, 29500):
            with stand.connect(stand.STORE, port) as connection:
                connection.sendall(b"hello")
    stand.say("meshing")
    children = []
    for own in range(first, first + count):
        pid = os.fork()
        if pid == 0:
            rank(host, own, of, range(first, first + count))
            time.sleep(0.1)
            os._exit(0)
        children.append(pid)
    for pid in children:
        if os.waitpid(pid, 0)[1]:
            sys.exit(f"rank {pid} failed")
    stand.say("meshed")


if __name__ == "__main__":
    main()
