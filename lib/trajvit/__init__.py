"""trajvit: films balls on 3-D trajectories, trains MAGVIT on them, and measures it against the best possible."""

import os
from importlib import import_module

__version__ = "0.1.0"

# How long a thread of torch's that has nothing to do keeps its core before it sleeps. OpenMP's own 300,000 rounds make two programs that
# share the cores, such as a notebook beside a training, wait for each other: together they then do a twentieth of what one does alone.
# To be set before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# Resolved on first use, so that making data and starting the command line do not import torch.
_PUBLIC = {
    "generate": "trajvit.datasets.generator",
    "open_dataset": "trajvit.datasets.store",
    "InputError": "trajvit.settings",
    "MAGVIT": "trajvit.magvit.model",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'trajvit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
