"""Which process on which machine holds something, and whether it still lives."""

import json
import os
import socket

import psutil


def here() -> dict:
    """Which process on which machine this is."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def is_gone(host: str, pid: int) -> bool:
    """Whether a process of this machine has ended; of other machines nothing is known, so no."""
    if host != socket.gethostname():
        return False
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # dead, but its parent has not asked for it yet
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return True
    except psutil.AccessDenied:
        return False


def owner(text: str) -> tuple[str, int] | None:
    """The host and pid that a lock names; None where it names none."""
    try:
        found = json.loads(text)
        return str(found["host"]), int(found["pid"])
    except (ValueError, KeyError, TypeError):
        return None


def named(text: str) -> str:
    """The owner that a lock names, for people."""
    return "process {1} on {0}".format(*found) if (found := owner(text)) else "another process"
