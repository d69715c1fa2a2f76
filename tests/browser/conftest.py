import shutil

import pytest
from playwright.sync_api import Browser, sync_playwright
from trajvit.running.places import RUNS

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")  # no longer: its event loop would stand in the way of other tests' own
def browser() -> Browser:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield running
        running.close()


@pytest.fixture
def artefacts():
    """Where screenshots are kept, for people to look at."""
    folder = RUNS / "test-artefacts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
