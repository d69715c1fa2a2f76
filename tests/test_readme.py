"""What README and the model cards say was measured is what the committed reports hold."""

import json
from pathlib import Path

import pytest
from trajvit.magvit.published import WEIGHTS, published
from trajvit.running.cli import main

ROOT = Path(__file__).parents[1]
TABLES = (("compact-30k", "compact-30k-varied"), ("classic-5k",))  # of README, each for clips of one format


def figures_of(*names: str, capsys) -> str:
    assert main(["figures", *(str(ROOT / "reports" / name) for name in names)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("names", TABLES, ids=" ".join)
def test_readme_tells_the_figures_of_the_published_models(names, capsys):
    assert figures_of(*names, capsys=capsys) in (ROOT / "README.md").read_text()


def test_readme_tells_of_all_published_models():
    assert sorted(name for names in TABLES for name in names) == published()


@pytest.mark.parametrize("name", published())
def test_a_model_card_tells_the_figures_of_its_model(name, capsys):
    assert figures_of(name, capsys=capsys) in (WEIGHTS / name / "README.md").read_text()
    pages = ROOT / "reports" / name
    measured = json.loads((pages / "metrics.json").read_text())["04_evaluate"]
    assert measured["generation"]["class_agreement"]["value"] > 0.9
    assert f"checkpoint: {name}" in (pages / "params.yaml").read_text() and (pages / "04_evaluate.html").is_file()
