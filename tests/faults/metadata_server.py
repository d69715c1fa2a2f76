"""What Amazon tells a machine about itself, version 2: a token is asked for first, and shown with every question."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NOTICE = b'{"action": "terminate", "time": "2026-11-25T17:00:00Z"}'


class Metadata(BaseHTTPRequestHandler):
    """Answers as its class says, to who shows the token: with the notice that the machine is taken back, unless told otherwise."""

    token, status, body, asked = b"a-token", 200, NOTICE, 0

    def do_PUT(self) -> None:
        self._say(200 if self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else 400, self.token)

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.path != "/latest/meta-data/spot/instance-action" or self.headers["X-aws-ec2-metadata-token"] != "a-token":
            self._say(401, b"")
        else:
            self._say(self.status, self.body)

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Nothing."""


def serve() -> tuple[str, type[Metadata]]:
    """A server's address, and the class to change its answers at; `vanish` ends it."""
    told = type("Told", (Metadata,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), told)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Closed alone, its thread would go on asking a closed socket, and take its time from every test that follows.
    told.vanish = lambda: (server.shutdown(), server.server_close())
    return f"http://127.0.0.1:{server.server_port}/", told
