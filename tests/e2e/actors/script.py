"""What every actor does: wait for the word, and say what it does and when."""

import json
import os
import sys
import time


def say(act: str, **more: object) -> None:
    """One JSON line: the act, the monotonic clock, this process."""
    line = {"act": act, "mono_ns": time.monotonic_ns(), "pid": os.getpid(), **more}
    print(json.dumps(line), flush=True)


def wait_for_go() -> None:
    """Waits until the director has prepared everything that needs this process's id."""
    say("ready")
    if not sys.stdin.readline():
        sys.exit("the director went away")


def read_all(path: str) -> int:
    """Reads a file from end to end, and returns its bytes."""
    total = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            total += len(block)
    return total
