"""The far side of the suites: swallows bytes over TCP, MPTCP and UDP, takes uploads and gives
downloads over HTTP, answers DNS, plays a mining pool in the clear and over TLS, and plays the one
who waits for a reverse shell."""

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import stand

IPPROTO_MPTCP = 262
TCP_FASTOPEN = 23
CONNECTIONS_MAX = 256
TYPING_S = 0.5 * int(os.environ.get("STAND_SLOWNESS", "1"))

places = threading.BoundedSemaphore(CONNECTIONS_MAX)


def serve(port: int, act, *, proto: int = 0) -> None:
    """Takes connections of both families on a port, each in a thread of its own."""
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
    listener.bind(("::", port))
    listener.listen(128)

    def one(connection: socket.socket) -> None:
        with places, connection:
            try:
                bytes_in = act(connection)
                stand.say("arrived", port=port, bytes=bytes_in)
            except (OSError, ssl.SSLError) as error:
                stand.say("broken", port=port, why=str(error))

    def loop() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()


def discard(connection: socket.socket) -> int:
    total = 0
    buffer = bytearray(1 << 18)
    while got := connection.recv_into(buffer):
        total += got
    return total


def http(connection: socket.socket) -> int:
    """PUT and POST are swallowed; GET /N gives N bytes."""
    file = connection.makefile("rb")
    total = 0
    while line := file.readline(4096):
        total += len(line)
        method, path, _ = line.decode().split(" ", 2)
        length = 0
        while (header := file.readline(8192)) not in (b"\r\n", b""):
            total += len(header)
            name, _, value = header.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
            if name.lower() == "expect":
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while length:
            got = len(file.read(min(length, 1 << 18)))
            if not got:
                return total
            total, length = total + got, length - got
        size = int(path.rsplit("/", 1)[-1] or 0) if method == "GET" else 0
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size >> 18):
            connection.sendall(bytes(1 << 18))
        connection.sendall(bytes(size & ((1 << 18) - 1)))
    return total


def pool(connection: socket.socket) -> int:
    """Accepts every login, and gives one job."""
    total = 0
    for line in connection.makefile("rb"):
        total += len(line)
        request = json.loads(line)
        job = {"job_id": "1", "blob": "00" * 76, "target": "b88d0600", "algo": "rx/0"}
        result = {"id": "1", "status": "OK", "job": job}
        answer = {"id": request["id"], "jsonrpc": "2.0", "error": None, "result": result}
        connection.sendall(json.dumps(answer).encode() + b"\n")
    return total


def shell(connection: socket.socket) -> int:
    """Gives a shell two commands, and waits for it to end."""
    connection.settimeout(20)
    connection.sendall(b"echo answer-$((6*7))\n")
    got = b""
    while b"answer-42" not in got:
        block = connection.recv(4096)
        if not block:
            stand.say("no_shell", said=got.decode(errors="replace"))
            return len(got)
        got += block
    stand.say("shell", said="answer-42")
    # Somebody who types, not a script: nobody builds a reverse shell for two milliseconds.
    time.sleep(TYPING_S)
    connection.sendall(b"exit\n")
    try:
        while block := connection.recv(4096):
            got += block
    except TimeoutError:
        pass
    return len(got)


def answer(question: bytes) -> bytes:
    """An A record for whatever was asked (RFC 1035)."""
    head = question[:2] + b"\x81\x80" + question[4:6] + b"\x00\x01\x00\x00\x00\x00"
    end = 12
    while question[end]:
        end += question[end] + 1
    asked = question[12 : end + 5]
    name = asked.split(b"\x00")[0]
    address = stand.STORE if b"store" in name else stand.FAR
    record = b"\xc0\x0c\x00\x01\x00\x01" + struct.pack(">IH", 60, 4) + socket.inet_aton(address)
    return head + asked + record


def dns_stream(connection: socket.socket) -> int:
    total = 0
    file = connection.makefile("rb")
    while len(length := file.read(2)) == 2:
        question = file.read(int.from_bytes(length, "big"))
        total += len(question)
        reply = answer(question)
        connection.sendall(len(reply).to_bytes(2, "big") + reply)
    return total


def datagrams(port: int, act) -> None:
    listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    listener.bind(("::", port))

    def loop() -> None:
        while True:
            data, peer = listener.recvfrom(65536)
            if reply := act(data):
                listener.sendto(reply, peer)

    threading.Thread(target=loop, daemon=True).start()


def tls(directory: str, act):
    """The same over TLS, with a certificate of its own."""
    key, certificate = f"{directory}/far.key", f"{directory}/far.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=far"],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return lambda connection: act(context.wrap_socket(connection, server_side=True))


def main() -> None:
    serve(stand.HTTP, http)
    for port in (stand.DISCARD, 22, 853, 8080, 8443, 29400, 29500, 6379):
        serve(port, discard)
    try:
        serve(stand.MPTCP, discard, proto=IPPROTO_MPTCP)
    except OSError as error:
        # Older kernels lack it; the case that needs it says so.
        stand.say("no_mptcp", why=error.strerror)
    serve(stand.POOL, pool)
    serve(stand.POOL_TLS, tls(sys.argv[1], pool))
    serve(stand.SHELL, shell)
    serve(stand.DNS, dns_stream)
    datagrams(stand.DNS, answer)
    datagrams(stand.UDP, lambda _: None)
    stand.say("ready")
    # The director holds the other end for as long as the suite goes on.
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    main()
