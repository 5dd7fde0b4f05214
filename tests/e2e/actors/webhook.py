"""A receiver of alerts: takes each POST, answers 200, and says what came as a JSON line."""

import argparse
import http.server
import json

import script


class Receiver(http.server.BaseHTTPRequestHandler):
    """Believes nothing but the headers and the body."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        alert = json.loads(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        key = self.headers["Idempotency-Key"]
        kind = self.headers["Content-Type"]
        script.say("received", key=key, content_type=kind, alert=alert)

    def log_message(self, *_: object) -> None:
        """Says nothing: standard error is for what goes wrong."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    args = parser.parse_args()

    host, port = args.listen.rsplit(":", 1)
    with http.server.ThreadingHTTPServer((host, int(port)), Receiver) as server:
        script.say("listening", address=args.listen)
        server.serve_forever()


if __name__ == "__main__":
    main()
