# make run     trains on 1200 clips, evaluates the published model, writes HTML pages
# make test    everything that CI checks
# make lab     JupyterLab, on the page to start from

PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test chromium lab clean

run: $(READY)
	$(BIN)/python -m trajvit run notebooks/params/validate.yaml

test: $(READY) chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify notebooks/*.ipynb
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 300 notebooks

# For tests/browser. Who cannot install it here sees those tests skipped, with the reason; root sees a failure.
chromium:
	command -v chromium || [ "$$(id -u)" != 0 ] || ! command -v apt-get || \
		(apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null)

lab: $(READY)
	$(BIN)/jupyter lab --notebook-dir . --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

clean:
	rm -rf .venv .pytest_cache .ruff_cache

# The stamp is written last, so that an interrupted installation is begun anew.
$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 11), "Python 3.11 is needed: make PYTHON=/path/to/python3.11"'
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
