"""What README, its further pages and the model cards say was measured is what the committed reports hold."""

import base64
import json
import re
from pathlib import Path

import pytest
from trajvit.magvit.published import WEIGHTS, published
from trajvit.running.cli import main
from trajvit.running.parameters import read_parameters
from trajvit.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
# Each for clips of one format: whose figures, by which parameters' file they were trained, and where that is told.
TABLES = (
    (("compact-30k", "compact-30k-varied"), "production", "README.md"),
    (("classic-5k",), "classic", "docs/results.md"),
)
CHANGES = {"compact-30k-varied": ["variety=varied", "mirrored=true"]}  # of those parameters


def figures_of(*names: str, capsys) -> str:
    assert main(["figures", *(str(ROOT / "reports" / name) for name in names)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("names", "parameters", "page"), TABLES)
def test_the_figures_of_the_published_models_are_told(names, parameters, page, capsys):
    assert figures_of(*names, capsys=capsys) in (ROOT / page).read_text()


@pytest.mark.parametrize(("names", "parameters", "page"), TABLES)
def test_the_published_models_are_what_their_parameters_make(names, parameters, page):
    for name in names:
        asked = read_parameters(ROOT / "notebooks" / "params" / f"{parameters}.yaml", CHANGES.get(name, []))
        assert all(f"--set {change}" in (ROOT / "README.md").read_text() for change in CHANGES.get(name, []))
        made = json.loads((WEIGHTS / name / "training.json").read_text())
        assert Recipe(**made["recipe"]).of_model() == asked.recipe().of_model()
        assert (made["data"]["samples"], made["data"]["seed"]) == (asked.samples, asked.seed)


def test_all_published_models_are_told_of():
    assert sorted(name for names, *_ in TABLES for name in names) == published()


def test_the_pictures_are_those_of_the_page_of_the_published_model():
    page = (ROOT / "reports" / "compact-30k" / "04_evaluate.html").read_text()
    pictures = re.findall(r"\]\((docs/[^)]+\.png)\)", (ROOT / "README.md").read_text())
    assert len(pictures) == 2 and all(base64.b64encode((ROOT / one).read_bytes()).decode() in page for one in pictures)


def test_all_links_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            place, _, heading = link.partition("#")
            if not place.startswith("http"):
                target = page.parent / place if place else page
                assert target.exists(), (page, link)
                headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else []
                assert not heading or heading in [title.lower().replace(" ", "-") for title in headings], (page, link)


@pytest.mark.parametrize("name", published())
def test_a_model_card_tells_the_figures_of_its_model(name, capsys):
    assert figures_of(name, capsys=capsys) in (WEIGHTS / name / "README.md").read_text()
    pages = ROOT / "reports" / name
    measured = json.loads((pages / "metrics.json").read_text())["04_evaluate"]
    assert measured["generation"]["class_agreement"]["value"] > 0.9
    assert f"checkpoint: {name}" in (pages / "params.yaml").read_text() and (pages / "04_evaluate.html").is_file()
