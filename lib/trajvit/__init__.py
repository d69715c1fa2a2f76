"""trajvit: films balls on 3-D trajectories, trains MAGVIT on them, and measures it against the best possible."""

from importlib import import_module

__version__ = "0.1.0"

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
