"""An inference server: reads weights once, then answers whoever asks, until it has been asked
often enough."""

import argparse
import http.server

import script


def handler(answer: bytes) -> type[http.server.BaseHTTPRequestHandler]:
    """A handler that answers every request with `answer`."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Says nothing: standard error is for what goes wrong."""

    return Answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="the weights")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--answer-kib", type=int, default=64)
    args = parser.parse_args()

    host, port = args.listen.rsplit(":", 1)
    script.wait_for_go()
    script.say("read", path=args.model, bytes=script.read_all(args.model))
    answer = b"token " * (args.answer_kib * 1024 // 6)
    with http.server.HTTPServer((host, int(port)), handler(answer)) as server:
        script.say("listening", address=args.listen)
        for _ in range(args.requests):
            server.handle_request()
    script.say("done", answers=args.requests, bytes=args.requests * len(answer))


if __name__ == "__main__":
    main()
