"""Notebooks 01 and 02 in a real JupyterLab, watched and used through a real browser."""

import json
import os
import re
import subprocess
import sys
import time

import nbformat
import pytest
from trajvit.datasets.files import write_json
from trajvit.reporting.live import HEADLESS
from trajvit.running.places import NOTEBOOKS

TOKEN = "only-this-test"
SAMPLES = 80_000  # the bar takes a few seconds
NOTEBOOK, TRAINING = "01_generate_data.ipynb", "02_validate_magvit.ipynb"
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight stay in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A copy of the notebook that makes new data in a folder of its own."""
    folder = tmp_path_factory.mktemp("jupyterlab")
    notebook = nbformat.read(NOTEBOOKS / NOTEBOOK, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source += f'\nsamples = {SAMPLES}\ndata_dir = "{folder / "data"}"\nrun_dir = "{folder / "run"}"'
    (folder / "work").mkdir()
    nbformat.write(notebook, folder / "work" / NOTEBOOK)
    nbformat.write(_up_to_training(folder), folder / "work" / TRAINING)
    return folder


def _up_to_training(folder):
    """Notebook 02, up to and with its training, which takes a few seconds."""
    notebook = nbformat.read(NOTEBOOKS / TRAINING, as_version=4)
    (last,) = [k for k, cell in enumerate(notebook.cells) if "train_magvit(" in cell.source]
    notebook.cells = notebook.cells[: last + 1]
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source += f'\ntokenizer_steps = 50\ndata_dir = "{folder / "clips"}"\nrun_dir = "{folder / "training"}"'
    return notebook


@pytest.fixture(scope="module")
def jupyterlab(work):
    """The address of a server that knows nothing of this machine's user and asks nothing of the network."""
    for name, values in SETTINGS.items():
        write_json(work / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings", values)
    folders = {
        "HOME": "home",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "share",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    own = {name: str(work / folder) for name, folder in folders.items()}
    environment = {name: value for name, value in os.environ.items() if name != HEADLESS} | own
    options = [
        f"--ServerApp.root_dir={work / 'work'}",
        f"--IdentityProvider.token={TOKEN}",
        "--ServerApp.port=0",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.allow_root=True",
        "--ServerApp.open_browser=False",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    with open(work / "server.log", "wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log)
    try:
        yield f"{_address(work)}lab/tree/{NOTEBOOK}?token={TOKEN}"
    finally:
        server.terminate()
        server.wait(30)


def _address(work) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for file in (work / "runtime").glob("jpserver-*.json"):
            return json.loads(file.read_text())["url"]
        time.sleep(0.1)
    raise TimeoutError((work / "server.log").read_text())


@pytest.fixture(scope="module")
def page(browser, jupyterlab):
    """JupyterLab with the notebook open, and in `page.strangers` what it asked of other hosts."""
    context = browser.new_context(viewport={"width": 1500, "height": 1100})
    page = context.new_page()
    page.strangers = []
    page.on("request", lambda request: None if _is_ours(request.url) else page.strangers.append(request.url))
    page.goto(jupyterlab)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    yield page
    context.close()


def _is_ours(url: str) -> bool:
    return bool(re.match(r"(https?|wss?)://127\.0\.0\.1:|data:|blob:", url))


def test_the_bar_moves_and_fills_and_no_widget_fails(page, artefacts):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    bar = page.locator(".widget-hprogress .progress-bar").first
    bar.wait_for(state="attached", timeout=90_000)
    seen = []
    while not seen or seen[-1] != "100%":
        seen.append(bar.evaluate("bar => bar.style.width"))
        page.wait_for_timeout(30)
    moving = {float(width.rstrip("%")) for width in seen if width} - {0.0, 100.0}
    assert len(moving) >= 2, seen
    newest = page.locator(".widget-html img[alt='newest clip of generate']").first
    assert newest.evaluate("image => image.naturalWidth") > 0
    newest.scroll_into_view_if_needed()
    page.screenshot(path=artefacts / "jupyterlab-progress.png")
    page.locator(".jp-OutputArea-output", has_text="test: sound").wait_for(timeout=180_000)
    text = page.locator(".jp-Notebook").inner_text()
    assert "Error displaying widget" not in text and "Traceback" not in text
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert f"generate: done, {SAMPLES}/{SAMPLES} samples (100 %)" in text


def test_a_slider_changes_the_picture_at_once(page, artefacts):
    path = page.locator(".widget-html img[alt^='3-D path']")
    clip = page.locator(".widget-html img[alt^='moving clip']")
    before = path.get_attribute("src"), clip.get_attribute("src")
    slider = page.locator(".widget-slider", has=page.get_by_text("r", exact=True))
    handle = slider.locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    handle.focus()
    started = time.monotonic()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => document.querySelector(\".widget-html img[alt^='3-D path']\")?.src !== before", arg=before[0], polling=20
    )
    took = time.monotonic() - started
    page.screenshot(path=artefacts / "jupyterlab-playground.png")
    assert took < 1 and clip.get_attribute("src") != before[1]
    assert clip.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_training_is_seen_moving(browser, jupyterlab, work, artefacts):
    context = browser.new_context(viewport={"width": 1500, "height": 1100})
    page = context.new_page()
    page.goto(jupyterlab.replace(f"lab/tree/{NOTEBOOK}", f"lab/workspaces/training/tree/{TRAINING}"))
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    gauge = page.locator(".widget-hbox", has_text="train tokenizer: ").first
    gauge.wait_for(timeout=120_000)
    bar, seen = gauge.locator(".progress-bar").first, []
    while "train tokenizer: done" not in page.locator(".jp-Notebook").inner_text():
        seen.append(bar.evaluate("bar => bar.style.width"))
        page.wait_for_timeout(50)
    moving = {float(width.rstrip("%")) for width in seen if width} - {0.0, 100.0}
    assert len(moving) >= 2, seen
    page.locator(".jp-OutputArea-output", has_text="weights; ").wait_for(timeout=60_000)
    gauge.scroll_into_view_if_needed()
    page.screenshot(path=artefacts / "jupyterlab-training.png")
    text = page.locator(".jp-Notebook").inner_text()
    assert "train transformer: done" in text and "loss" in text
    assert "Traceback" not in text and "Error displaying widget" not in text
    context.close()


def test_it_needs_no_other_host(page):
    assert page.strangers == []
