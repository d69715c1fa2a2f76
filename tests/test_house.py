"""Data walks one way: each room imports only from those before it."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "lib" / "trajvit"
ROOMS = ["worlds", "datasets", "metrics", "magvit", "training", "evaluation", "reporting", "running"]
OPEN_TO_ALL = {"settings"}
FILES = sorted(LIBRARY.glob("*/*.py"))


def modules(file: Path) -> list[str]:
    tree = ast.parse(file.read_text())
    found = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return found + [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]


def imported(file: Path) -> set[str]:
    return {module.split(".")[0] for module in modules(file)}


def imported_rooms(file: Path) -> set[str]:
    return {module.split(".")[1] for module in modules(file) if module.startswith("trajvit.")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_no_room_imports_from_a_later_one(file):
    allowed = set(ROOMS[: ROOMS.index(file.parent.name) + 1]) | OPEN_TO_ALL
    assert imported_rooms(file) <= allowed


def test_worlds_and_metrics_know_nothing_of_torch():
    for file in (*LIBRARY.glob("worlds/*.py"), *LIBRARY.glob("metrics/*.py")):
        assert "torch" not in imported(file), file


def test_making_data_and_starting_the_command_line_do_not_import_torch():
    import subprocess
    import sys

    code = "import sys, trajvit.running.cli, trajvit; trajvit.generate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
