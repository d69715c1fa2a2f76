"""What tests ask of a run's folder."""

import json
from pathlib import Path


def manifest_of(run: Path) -> dict:
    return json.loads((run / "manifest.json").read_text())


def states_of(run: Path) -> list[str]:
    return [notebook["state"] for notebook in manifest_of(run)["notebooks"]]
