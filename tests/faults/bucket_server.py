"""moto's S3 behind a real HTTP server, which can be told to make trouble."""

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
REFUSAL = "<?xml version='1.0'?><Error><Code>{0}</Code><Message>{0}</Message></Error>"


@dataclass
class Trouble:
    """What goes wrong, each as the share of requests that it befalls."""

    fails: float = 0.0  # 500, and nothing was done
    fails_after: float = 0.0  # 500, although it was done
    slow: float = 0.0  # the answer takes `slow_s`
    slow_s: float = 0.3
    refuses: str = ""  # 403 with this code, whatever is asked
    made: int = 0  # how often there was trouble
    chance: random.Random = field(default_factory=lambda: random.Random(0))


class Server:
    """An S3 of its own at `url`."""

    def __init__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.app, self.trouble = DomainDispatcherApplication(create_backend_app), Trouble()
        self.server = make_server("127.0.0.1", 0, self.answer, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.environment = CREDENTIALS | {"AWS_ENDPOINT_URL": self.url, "AWS_EC2_METADATA_DISABLED": "true"}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request, respond):
        trouble = self.trouble
        fails, fails_after, slow = (
            trouble.chance.random() < share for share in (trouble.fails, trouble.fails_after, trouble.slow)
        )
        trouble.made += fails or fails_after or slow
        if slow:
            time.sleep(trouble.slow_s)
        if trouble.refuses:
            respond("403 Forbidden", [("Content-Type", "application/xml")])
            return [REFUSAL.format(trouble.refuses).encode()]
        if fails_after:
            list(self.app(request, lambda *_: lambda _: None))
        if fails or fails_after:
            respond("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [REFUSAL.format("InternalError").encode()]
        return self.app(request, respond)

    @contextmanager
    def making(self, **trouble: object) -> Iterator[Trouble]:
        """A context in which there is trouble."""
        self.trouble = Trouble(**trouble)
        try:
            yield self.trouble
        finally:
            self.trouble = Trouble()

    def close(self) -> None:
        self.server.shutdown()
