"""Amazon's notice, two minutes ahead, that it takes a spot machine back (EC2 instance metadata, version 2).

No torch here: a rented machine asks this before anything is installed.
"""

import http.client
import json
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S, ANSWER_WITHIN_S = 2.0, 1.0
ENDPOINT = "http://169.254.169.254"
ACTIONS = ("terminate", "stop", "hibernate")
MOST = 4096  # bytes read of an answer; a notice has about 60
# What the firmware and, on older machines, the hypervisor of an EC2 machine say, readable by everyone and in containers.
MARKS = ((Path("/sys/devices/virtual/dmi/id/sys_vendor"), "amazon ec2"), (Path("/sys/hypervisor/uuid"), "ec2"))

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the address means this machine: no proxy knows it


def spot_notice() -> str:
    """Why this machine goes away, or '' where nobody says that it does.

    Whatever is no notice in Amazon's own form counts as none: no server, none that answers soon, nonsense.
    """
    if _disabled():
        return ""
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", ENDPOINT).rstrip("/")
    try:
        token = _asked(f"{base}/latest/api/token", "PUT", "ttl-seconds", "60")
        said = json.loads(_asked(f"{base}/latest/meta-data/spot/instance-action", "GET", "", token))
    except (OSError, http.client.HTTPException, ValueError):  # 404 is the usual answer
        return ""
    known = isinstance(said, dict) and said.get("action") in ACTIONS
    return f"Amazon takes the spot machine back ({said['action']} at {str(said.get('time'))[:30]})" if known else ""


def _asked(url: str, method: str, header: str, value: str) -> str:
    name = "-".join(filter(None, ("X-aws-ec2-metadata-token", header)))
    with _direct.open(urllib.request.Request(url, method=method, headers={name: value}), timeout=ANSWER_WITHIN_S) as answer:
        return answer.read(MOST).decode()


def _disabled() -> bool:
    return os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"


def _worth_asking() -> bool:
    """Whether this is an EC2 machine, or a metadata server was named. Two small files at most are read: other machines
    ask nobody and wait for nothing."""
    if _disabled():
        return False
    return "AWS_EC2_METADATA_SERVICE_ENDPOINT" in os.environ or any(_begins(path, mark) for path, mark in MARKS)


def _begins(path: Path, mark: str) -> bool:
    try:
        return path.read_text().strip().lower().startswith(mark)
    except (OSError, ValueError):
        return False


@contextmanager
def spot_watched(leave: Callable[[str], None]) -> Iterator[None]:
    """A context in which a notice, looked for every `POLL_S` in a thread, is handed to `leave`, once."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            if why := spot_notice():
                leave(why)
                return
            over.wait(POLL_S)

    if _worth_asking():
        threading.Thread(target=ask, name="spot notice", daemon=True).start()
    try:
        yield
    finally:
        over.set()  # and is not waited for: it may be waiting for an answer
