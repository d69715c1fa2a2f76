from pathlib import Path


def write_index(root: Path) -> None:
    pass
