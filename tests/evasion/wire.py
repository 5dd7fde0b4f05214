"""Ways onto the wire that are seldom used.

    wire.py WAY
"""

import os
import socket
import struct
import sys

import raw
import stand

DATAGRAM = 1200
CHUNK = 1000
IP_TRANSPARENT, IP_PKTINFO, SO_MARK = 19, 8, 36
IPPROTO_UDPLITE, IPPROTO_SCTP = 136, 132
AF_UNSPEC = struct.pack("=H", 0) + bytes(14)
CLONE_NEWNET = 0x40000000


def reconnected(data: bytes) -> int:
    """One datagram socket, connected to one peer, to none, and to another."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        half = len(data) // 2
        for at, host in ((0, stand.FAR), (half, stand.CROWD[0])):
            outlet.connect((host, stand.UDP))
            for block in stand.blocks(data[at : at + half], DATAGRAM):
                outlet.send(block)
            nobody = stand.libc.connect(outlet.fileno(), AF_UNSPEC, 16)
            stand.check(nobody, "connect to nobody")
    return half * 2


def control(data: bytes) -> int:
    """Each datagram says by itself which address it comes from."""
    near = struct.pack("=I", 0) + socket.inet_aton(stand.HOST) + bytes(4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        for block in stand.blocks(data, DATAGRAM):
            outlet.sendmsg([block], [(socket.IPPROTO_IP, IP_PKTINFO, near)], 0, (stand.FAR, stand.UDP))
    return len(data)


def mapped_datagrams(data: bytes) -> int:
    """IPv4 peers in the clothes of IPv6."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as outlet:
        for block in stand.blocks(data, DATAGRAM):
            outlet.sendto(block, (f"::ffff:{stand.FAR}", stand.UDP))
    return len(data)


def many(data: bytes) -> int:
    """Each datagram from a socket of its own, to one of twenty addresses."""
    for number, block in enumerate(stand.blocks(data, 8000)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
            host = stand.CROWD[number % len(stand.CROWD)]
            outlet.sendto(block, (host, stand.UDP))
    return len(data)


def dressed(data: bytes) -> int:
    """From the port of a resolver, marked, transparent, and with a byte out of band."""
    with socket.socket() as outlet:
        outlet.setsockopt(socket.SOL_SOCKET, SO_MARK, 7)
        outlet.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        outlet.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        outlet.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        outlet.bind((stand.HOST, 53))
        outlet.connect((stand.FAR, stand.DISCARD))
        outlet.sendall(data[:-1])
        outlet.send(data[-1:], socket.MSG_OOB)
    return len(data)


def elsewhere(data: bytes) -> int:
    """The socket is made in this network, and used from one that has no way out."""
    outlet = socket.socket()
    stand.check(stand.libc.unshare(CLONE_NEWNET), "unshare")
    outlet.connect((stand.FAR, stand.DISCARD))
    outlet.sendall(data)
    outlet.close()
    return len(data)


def numbered(data: bytes) -> int:
    """A protocol that has a number only (RFC 3692)."""
    return packets(data, 253)


def tunnel(data: bytes) -> int:
    """GRE without a tunnel."""
    return packets(data, 47)


def packets(data: bytes, protocol: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as outlet:
        for block in stand.blocks(data, CHUNK):
            outlet.sendto(block, (stand.FAR, 0))
    return len(data)


def own_head(data: bytes) -> int:
    """With a header of its own, which names a protocol that the socket does not."""
    total = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as outlet:
        for block in stand.blocks(data, CHUNK):
            addresses = socket.inet_aton(stand.HOST) + socket.inet_aton(stand.FAR)
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(block), 0, 0, 64, 253, 0)
            total += outlet.sendto(head + addresses + block, (stand.FAR, 0))
    return total


def icmp6(data: bytes) -> int:
    """Echoes over IPv6: the kernel does their checksum."""
    total = 0
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as outlet:
        for number, block in enumerate(stand.blocks(data, CHUNK)):
            head = struct.pack(">BBHHH", 128, 0, 0, 7, number & 0xFFFF)
            total += outlet.sendto(head + block, (stand.FAR6, 0))
    return total


def ping(data: bytes) -> int:
    """The socket of ping, which needs no rights where the host allows it."""
    with open("/proc/sys/net/ipv4/ping_group_range") as file:
        first, last = map(int, file.read().split())
    if not first <= os.getgid() <= last:
        os.setgid(first) if first <= last else stand.cannot("the host lets nobody ping")
    total = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as outlet:
        for number, block in enumerate(stand.blocks(data, CHUNK)):
            body = bytes(block) + bytes(len(block) % 2)
            head = struct.pack(">BBHHH", 8, 0, 0, 7, number & 0xFFFF)
            head = struct.pack(">BBHHH", 8, 0, raw.checksum(head + body), 7, number & 0xFFFF)
            total += outlet.sendto(head + body, (stand.FAR, 0))
    return total


def light(data: bytes) -> int:
    """UDP-Lite (RFC 3828)."""
    try:
        outlet = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, IPPROTO_UDPLITE)
    except OSError as error:
        stand.cannot(f"UDP-Lite: {error.strerror}")
    with outlet:
        for block in stand.blocks(data, DATAGRAM):
            outlet.sendto(block, (stand.FAR, stand.UDP))
    return len(data)


def sctp(data: bytes) -> int:
    try:
        outlet = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_SCTP)
    except OSError as error:
        stand.cannot(f"SCTP: {error.strerror}")
    outlet.connect((stand.FAR, stand.DISCARD))
    outlet.sendall(data)
    return len(data)


def frames(data: bytes) -> int:
    """Frames past the network layer, again and again: long enough for a second opinion."""
    return raw.frames(data, bypass=False)


def main() -> None:
    stand.wait_for_go()
    data = stand.read_all(stand.MODEL)
    stand.say("read", bytes=len(data))
    stand.say("sent", bytes=globals()[sys.argv[1]](data))


if __name__ == "__main__":
    main()
