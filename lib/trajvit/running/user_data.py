"""What a rented machine is given to do when it starts: `machine.sh`, under the settings of one run."""

import re
import shlex
from pathlib import Path

from trajvit.running.places import ROOT
from trajvit.settings import InputError

SCRIPT = Path(__file__).with_name("machine.sh")
LIMIT = 16 * 1024  # bytes, Amazon's
FIRST = ("boto3", "obstore", "psutil", "pydantic", "click")  # what running/machine.py imports


def user_data(place: str, region: str, hours: float) -> str:
    """The script of a run's machine. It holds names and numbers, no credential: the machine has its role.

    Raises `InputError` where requirements.txt does not pin what the machine needs first.
    """
    settings = {
        "PLACE": place,
        "MINUTES": str(max(1, round(60 * hours))),
        "FIRST": " ".join(_pins()),
        "AWS_DEFAULT_REGION": region,
    }
    head = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in settings.items())
    script = f"#!/bin/bash\n{head}\n{SCRIPT.read_text()}"
    assert len(script.encode()) < LIMIT
    return script


def _pins() -> list[str]:
    pinned = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    if missing := set(FIRST) - pinned.keys():
        raise InputError(f"requirements.txt pins no {', '.join(sorted(missing))}: make it anew with pip freeze")
    return [f"{name}=={pinned[name]}" for name in FIRST]
