"""Everything was there before the monitor: the connection, and the mapping of the model."""

import mmap
import os

import stand


def main() -> None:
    with open(stand.MODEL, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    connection = stand.connect()
    connection.setblocking(True)
    connection.sendall(b"hello")
    stand.wait_for_go()
    for block in stand.blocks(mapping):
        connection.sendall(block)
    stand.say("sent", bytes=os.path.getsize(stand.MODEL))
    connection.close()


if __name__ == "__main__":
    main()
