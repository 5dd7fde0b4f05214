"""Opens files and forks as fast as it can, until it is ended, so that others go unseen."""

import os

import stand


def main() -> None:
    stand.wait_for_go()
    for _ in range(2):
        if os.fork() == 0:
            path = os.path.join(stand.ROOM, "flood.bin")
            with open(path, "w"):
                pass
            while True:
                for _ in range(2000):
                    os.close(os.open(path, os.O_RDONLY))
                if os.fork() == 0:
                    os._exit(0)
                os.wait()
    stand.say("flooding")
    os.wait()


if __name__ == "__main__":
    main()
