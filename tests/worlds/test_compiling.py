"""What is kept of compiled functions is given up when a file of another of them changes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import trajvit

ASK = """
import numpy as np
from trajvit.worlds.likelihood import stays_in_view
still = np.zeros(8)
still[2] = 3.0
print(stays_in_view(0, still, 0.0, np.linspace(0, 1, 3), np.array([32.0, 32.0, 32.0, 0.2, 0.0, 0.0])))
"""


def test_a_function_of_another_file_is_compiled_anew_where_it_changes(tmp_path):
    shutil.copytree(Path(trajvit.__file__).parent, tmp_path / "trajvit", ignore=shutil.ignore_patterns("__pycache__"))
    families = tmp_path / "trajvit" / "worlds" / "families.py"

    def stays() -> str:
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        environment.pop("NUMBA_CACHE_DIR", None)
        return subprocess.run(
            [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert stays() == "True"
    source = families.read_text()
    assert "return x + speed * cosine * t" in source
    families.write_text(source.replace("return x + speed * cosine * t", "return x + 99 * t"))
    assert stays() == "False"
    assert len([place for place in (families.parent / "__pycache__").iterdir() if place.is_dir()]) == 2
