"""A training job: reads weights, computes for a while, and perhaps sends bytes somewhere."""

import argparse
import socket
import time

import model
import script


def upload(path: str, peer: str, limit_bytes: int) -> int:
    """Sends the first `limit_bytes` of a file to HOST:PORT."""
    host, port = peer.rsplit(":", 1)
    sent = 0
    script.say("upload", peer=peer)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        with open(path, "rb") as file:
            while sent < limit_bytes and (block := file.read(min(1 << 18, limit_bytes - sent))):
                connection.sendall(block)
                sent += len(block)
    return sent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="the weights")
    parser.add_argument("--create-mib", type=int, default=0, help="write the weights first")
    parser.add_argument("--upload", metavar="HOST:PORT", help="send the weights there")
    parser.add_argument("--upload-mib", type=int, default=1 << 20, help="at most so much")
    parser.add_argument("--steps", type=int, default=5, help="steps of a tenth of a second")
    args = parser.parse_args()

    script.wait_for_go()
    if args.create_mib:
        model.write(args.model, args.create_mib * model.MIB)
        model.check(args.model)
        script.say("created", path=args.model)
    script.say("read", path=args.model, bytes=script.read_all(args.model))
    for _ in range(args.steps):
        time.sleep(0.1)
    if args.upload:
        sent = upload(args.model, args.upload, args.upload_mib * model.MIB)
        script.say("uploaded", bytes=sent)
    script.say("done")


if __name__ == "__main__":
    main()
