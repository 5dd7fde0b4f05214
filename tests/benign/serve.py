"""An inference engine: eight workers map the model and answer whoever asks.

    serve.py            the engine
    serve.py ask COUNT  its users
"""

import http.server
import mmap
import os
import socket
import sys
import urllib.request

import stand

WORKERS = 8
PORT = 18080
ANSWER = b"token " * 2000


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Says nothing: standard error is for what goes wrong."""


def touch(path: str) -> int:
    """Maps a model and reads a byte of every page, as a loader does."""
    with open(path, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    return sum(mapping[at] for at in range(0, len(mapping), 4096))


def serve() -> None:
    listener = socket.create_server((stand.HOST, PORT), backlog=64)
    inward, outward = os.pipe()
    for _ in range(WORKERS):
        if os.fork() == 0:
            touch(stand.MODEL)
            os.write(outward, b".")
            server = http.server.HTTPServer(("", 0), Answer, bind_and_activate=False)
            server.socket = listener
            server.serve_forever()
    for _ in range(WORKERS):
        os.read(inward, 1)
    stand.say("listening", port=PORT)
    os.wait()


def ask(count: int) -> None:
    for number in range(count):
        url = f"http://{stand.HOST}:{PORT}/generate/{number}"
        if urllib.request.urlopen(url, timeout=20).read() != ANSWER:
            sys.exit(f"{url} did not give what it should")
    stand.say("answered", answers=count)


def main() -> None:
    stand.wait_for_go()
    if sys.argv[1:2] == ["ask"]:
        ask(int(sys.argv[2]))
    else:
        serve()


if __name__ == "__main__":
    main()
