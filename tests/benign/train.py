"""A trainer that has read its model and computes for a while."""

import time

import stand


def main() -> None:
    stand.wait_for_go()
    stand.say("read", bytes=len(stand.read_all(stand.MODEL)))
    time.sleep(5)
    stand.say("trained")


if __name__ == "__main__":
    main()
