"""Takes bytes out past TCP and UDP.

    raw.py packet|bypass|icmp|vsock|netlink|xdp
"""

import fcntl
import socket
import struct
import sys

import stand

SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
SIOCGIFHWADDR = 0x8927
AF_XDP = 44
CHUNK = 1000


def link() -> str:
    """The interface that leads to the far side."""
    with open("/proc/net/route") as file:
        next(file)
        for line in file:
            name, destination = line.split()[:2]
            if destination == "006433C6":
                return name
    sys.exit("no route leads to 198.51.100.0/24")


def frames(data: bytes, *, bypass: bool) -> int:
    name = link()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as outlet:
        outlet.bind((name, 0x88B5))
        own = fcntl.ioctl(outlet, SIOCGIFHWADDR, struct.pack("256s", name.encode()))[18:24]
        if bypass:
            outlet.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        head = b"\xff" * 6 + own + b"\x88\xb5"
        sent = 0
        for block in stand.blocks(data, CHUNK):
            try:
                sent += outlet.send(head + block)
            except OSError:
                # No room in the queue of the device: such frames are dropped, and were not sent.
                continue
    return sent


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def icmp(data: bytes) -> int:
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as outlet:
        for number, block in enumerate(stand.blocks(data, CHUNK)):
            body = bytes(block) + bytes(len(block) % 2)
            head = struct.pack(">BBHHH", 8, 0, 0, 7, number & 0xFFFF)
            head = struct.pack(">BBHHH", 8, 0, checksum(head + body), 7, number & 0xFFFF)
            sent += outlet.sendto(head + body, (stand.FAR, 0))
    return sent


def main() -> None:
    way = sys.argv[1]
    stand.wait_for_go()
    if way == "vsock":
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as outlet:
            stand.say("made")
            try:
                outlet.connect((socket.VMADDR_CID_HOST, 4444))
            except OSError as error:
                stand.say("refused", why=error.strerror)
        return
    if way == "xdp":
        try:
            socket.socket(AF_XDP, socket.SOCK_RAW).close()
        except OSError as error:
            stand.cannot(f"AF_XDP: {error.strerror}")
        stand.say("made")
        return
    data = stand.read_all(stand.MODEL)
    stand.say("read", bytes=len(data))
    sent = icmp(data) if way == "icmp" else frames(data, bypass=way == "bypass")
    stand.say("sent", bytes=sent)


if __name__ == "__main__":
    main()
