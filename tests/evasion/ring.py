"""Takes the model out through io_uring.

    ring.py plain|poll|zero_copy|direct
"""

import os
import sys
import threading

import stand
import uring


def act(way: str) -> None:
    read, sent = uring.take_and_send(
        stand.MODEL, poll=way == "poll", zero_copy=way == "zero_copy", direct=way == "direct"
    )
    stand.say("read", bytes=read)
    stand.say("sent", bytes=sent)


def main() -> None:
    way = sys.argv[1]
    stand.wait_for_go()
    if way == "poll":
        # The first thread ends, and the process lives on in another: its state must too.
        pid = os.fork()
        if pid == 0:
            worker = threading.Thread(target=lambda: (act(way), os._exit(0)))
            worker.start()
            stand.libc.pthread_exit(None)
        _, status = os.waitpid(pid, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    act(way)


if __name__ == "__main__":
    main()
