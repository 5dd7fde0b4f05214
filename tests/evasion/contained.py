"""Plays another script of this suite inside a real container.

    contained.py ENGINE NAME SCRIPT [ARGUMENT...]     as the container's first process
    contained.py entered NAME SCRIPT [ARGUMENT...]    by exec, into a container that waits
"""

import sys

import container
import stand


def words(script: str, *arguments: str) -> list[str]:
    return ["/usr/bin/python3", f"{container.SOURCES}/evasion/{script}", *arguments]


def main() -> None:
    way, name, *script = sys.argv[1:]
    stand.wait_for_go()
    engine = "runc" if way == "entered" else way
    with container.Container(engine, name) as inside:
        if way != "entered":
            container.relay(inside, inside.run(words(*script)))
            return
        first = inside.run(["/bin/cat"])
        inside.wait_until_it_runs()
        container.relay(inside, inside.enter(words(*script)))
        first.stdin.close()
        first.wait()


if __name__ == "__main__":
    main()
