"""The rendered page of notebook 01 as a reader sees it: on a desk and on a phone, with no network."""

import subprocess
import sys

import pytest
from trajvit.running.places import NOTEBOOKS


@pytest.fixture(scope="module")
def page_url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    command = [sys.executable, "-m", "trajvit", "run", str(NOTEBOOKS / "params" / "smoke.yaml"), "--only", "01"]
    places = ["--out", str(folder / "run"), "--set", f"data_dir={folder / 'data'}"]
    subprocess.run([*command, *places], check=True, timeout=300)
    return (folder / "run" / "01_generate_data.html").as_uri()


@pytest.mark.parametrize("width", [1400, 390])
def test_it_stands_alone_and_fits_the_screen(browser, page_url, artefacts, width):
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    problems = []
    page.on("requestfailed", lambda request: problems.append(f"failed request: {request.url[:100]}"))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(page_url, wait_until="load")
    images = page.evaluate("[...document.images].map(i => ({alt: i.alt, width: i.naturalWidth}))")
    assert len(images) >= 15 and all(image["width"] > 0 and image["alt"] for image in images), images
    assert not [image for image in images if "No description" in image["alt"]]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=artefacts / f"01-{width}.png", full_page=True)
    context.close()
    assert not problems
