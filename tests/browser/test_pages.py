"""The pages of a run as a reader sees them: on a desk and on a phone, in light and in dark, with no network."""

import json
import shutil

import pytest
from trajvit.evaluation.measure import read_metrics
from trajvit.running.cli import main

REPORTS = ["01_generate_data", "02_validate_magvit", "03_scale_up", "04_evaluate"]
PAGES = ["index.html", "compare.html", "smoke/index.html", *(f"smoke/{name}.html" for name in REPORTS)]


@pytest.fixture(scope="module")
def site(smoke_run, tmp_path_factory):
    """The smoke run's pages, and those that stand above them: all runs, and two compared."""
    root = tmp_path_factory.mktemp("runs")
    for name in ("smoke", "other"):
        (root / name).mkdir()
        for file in smoke_run.iterdir():
            if file.suffix in (".html", ".json", ".yaml"):
                shutil.copy(file, root / name)
    manifest = json.loads((root / "other" / "manifest.json").read_text())
    (root / "other" / "manifest.json").write_text(json.dumps(manifest | {"state": "failed", "seconds": 1e4}))
    metrics = read_metrics(root / "other")
    metrics["04_evaluate"]["prediction"]["centre_error_px"] |= {"value": 0.5, "ci95": [0.4, 0.6]}
    (root / "other" / "metrics.json").write_text(json.dumps(metrics))
    assert main(["index", str(root)]) == 0
    assert main(["compare", str(root / "smoke"), str(root / "other"), "--out", str(root / "compare.html")]) == 0
    return root


@pytest.fixture
def opened(browser, site):
    """Opens a page and, in the end, finds that nothing went wrong in it and nothing was asked of the network."""
    problems, contexts = [], []

    def open_page(name: str, **options):
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("requestfailed", lambda request: problems.append(f"failed request: {request.url[:100]}"))
        page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.goto((site / name).as_uri(), wait_until="load")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


@pytest.mark.parametrize("name", PAGES)
def test_a_page_stands_alone_and_fits_the_screen(opened, artefacts, name):
    for width, scheme in ((1400, "light"), (390, "dark")):
        page = opened(name, viewport={"width": width, "height": 900}, color_scheme=scheme)
        images = page.evaluate("[...document.images].map(i => ({alt: i.alt, width: i.naturalWidth}))")
        assert all(image["width"] > 0 and image["alt"] for image in images), images
        assert not [image for image in images if "No description" in image["alt"]]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ink, paper = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
        assert (_brightness(ink) < _brightness(paper)) == (scheme == "light")
        page.screenshot(path=artefacts / f"{name.replace('/', '-')}-{width}.png", full_page=True)


def _brightness(colour: str) -> int:
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_shows_its_code_only_when_asked_and_says_what_it_is_of(opened, report):
    page = opened(f"smoke/{report}.html")
    code = page.locator(".input", has_text="from trajvit").first
    assert not code.is_visible()
    page.get_by_label("show code").check()
    assert code.is_visible()
    facts = page.locator(".facts").inner_text()
    assert all(word in facts for word in ("commit", "took", "machine", "state"))
    page.get_by_text("Parameters", exact=True).first.click()
    assert page.get_by_role("cell", name="tokenizer_steps", exact=True).is_visible()
    page.locator(".toc a").last.click()
    assert page.evaluate("document.getElementById(decodeURIComponent(location.hash.slice(1))) !== null")
    page.get_by_role("link", name="all pages of this run").click()
    assert page.get_by_role("heading", name="Run smoke").is_visible()


@pytest.mark.parametrize(
    ("heading", "first"), [("prediction px", "other"), ("took", "smoke"), ("run", "other"), ("state", "smoke")]
)
def test_the_index_is_sorted_by_any_heading_either_way(opened, heading, first):
    page = opened("index.html")
    for order in ("ascending", "descending"):
        page.get_by_role("button", name=heading).click()
        assert page.get_by_role("columnheader", name=heading).get_attribute("aria-sort") == order
        names = page.locator("tbody tr td:first-child").all_inner_texts()
        assert (names[0] == first) == (order == "ascending") and sorted(names) == ["other", "smoke"]
    assert page.locator("svg.spark[role=img][aria-label]").count() == 2


def test_the_comparison_says_what_is_better_and_sorts_too(opened):
    page = opened("compare.html")
    assert page.locator(".better").all_inner_texts() == ["better"]
    page.get_by_role("button", name="difference").click()
    assert "prediction.centre_error_px" in page.locator("table.sortable").last.locator("tbody tr").first.inner_text()


def test_no_script_runs_in_a_page_but_the_one_that_sorts(browser, site):
    page = browser.new_context(offline=True).new_page()
    page.goto((site / "index.html").as_uri())
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hurt=1\">')")
    page.evaluate("{const s = document.createElement('script'); s.textContent = 'window.hurt=1'; document.body.append(s)}")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hurt") is None and any("Content Security Policy" in line for line in said)
    page.context.close()
