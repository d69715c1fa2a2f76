"""The trained models that come with the repository, by name, and the trained rivals that lie beside them."""

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parents[3] / "data" / "weights"


def published() -> list[str]:
    """Their names: each is a folder of `data/weights`, with a model card."""
    return sorted(folder.parent.name for folder in WEIGHTS.glob("*/config.json"))


def located(path: str | Path) -> str | Path:
    """The folder of a published model where `path` is the name of one, else `path` itself."""
    return WEIGHTS / path if str(path) in published() else path


def rivals(kind: str) -> list[Path]:
    """The files of the networks of a kind that were trained on what a published model was trained on."""
    return sorted(WEIGHTS.glob(f"*/{kind}.safetensors"))
