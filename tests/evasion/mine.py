"""A miner: it keeps a GPU flat and talks to a pool.

    mine.py plain|bitcoin|tls|proxy|silent
"""

import json
import os
import socket
import ssl
import sys
import threading
import time

import stand

WALLET = "4" + "A" * 94
LOGIN = {
    "id": 1,
    "jsonrpc": "2.0",
    "method": "login",
    "params": {"login": WALLET, "pass": "x", "agent": "XMRig/6.21.0", "algo": ["rx/0"]},
}
SUBSCRIBE = {"id": 1, "method": "mining.subscribe", "params": ["miner/1.0", None]}


def talk(connection: socket.socket, first: dict) -> None:
    connection.sendall(json.dumps(first).encode() + b"\n")
    if not connection.recv(4096):
        sys.exit("the pool does not answer")
    stand.say("login")


def plain() -> None:
    with stand.connect(port=stand.POOL) as connection:
        talk(connection, LOGIN)


def bitcoin() -> None:
    with stand.connect(port=stand.POOL) as connection:
        talk(connection, SUBSCRIBE)


def tls() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with stand.connect(port=stand.POOL_TLS) as bare:
        with context.wrap_socket(bare, server_hostname="xmr.2miners.com") as connection:
            talk(connection, LOGIN)


def proxy() -> None:
    """The miner talks to loopback; a proxy beside it talks to the pool."""
    listener = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if pid == 0:
        near, _ = listener.accept()
        far = stand.connect(port=stand.POOL)

        def back() -> None:
            while block := far.recv(4096):
                near.sendall(block)

        threading.Thread(target=back, daemon=True).start()
        while block := near.recv(4096):
            far.sendall(block)
        os._exit(0)
    with socket.create_connection(listener.getsockname()) as connection:
        talk(connection, LOGIN)
    os.waitpid(pid, 0)


def silent() -> None:
    """No pool that anybody could see: the GPU alone tells."""
    time.sleep(6)
    stand.say("hashed")


def main() -> None:
    stand.wait_for_go()
    {"plain": plain, "bitcoin": bitcoin, "tls": tls, "proxy": proxy, "silent": silent}[sys.argv[1]]()


if __name__ == "__main__":
    main()
