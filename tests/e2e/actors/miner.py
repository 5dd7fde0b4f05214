"""A miner: logs in to a pool in plain Stratum, and keeps the connection. It reads no model and no
data; the load on the GPU is in the scenario that the fake driver library plays."""

import argparse
import json
import socket
import time

import script

WALLET = "4" + "A" * 94


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pool", required=True, metavar="HOST:PORT")
    parser.add_argument("--steps", type=int, default=30, help="steps of a tenth of a second")
    args = parser.parse_args()

    host, port = args.pool.rsplit(":", 1)
    script.wait_for_go()
    for _ in range(args.steps):
        time.sleep(0.1)
    script.say("login", peer=args.pool)
    with socket.create_connection((host, int(port)), timeout=10) as pool:
        login = {
            "id": 1,
            "jsonrpc": "2.0",
            "method": "login",
            "params": {"login": WALLET, "pass": "x", "agent": "XMRig/6.21.0", "algo": ["rx/0"]},
        }
        pool.sendall(json.dumps(login).encode() + b"\n")
        answer = json.loads(pool.makefile("r").readline())
        script.say("accepted", status=answer["result"]["status"])
        for _ in range(args.steps):
            time.sleep(0.1)
    script.say("done")


if __name__ == "__main__":
    main()
