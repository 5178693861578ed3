# make setup | demo | test | test-all | check | bench | screens | screenshots. Each makes .venv first if there is none.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# More than cores: stories wait for processes and links.
PYTEST_WORKERS ?= 3
SCREENS ?= screens
SCREENSHOTS ?= screenshots
# Further packages for the environment, such as torch, whose tests are skipped without it.
ALSO ?=

.PHONY: help setup demo test test-all check bench screens screenshots clean
help:
	@echo "make setup   $(VENV) with lanfit, its extras and the tools"
	@echo "make demo    the whole thing on this machine: the digits, a server, two clients"
	@echo "make test    all tests"
	@echo "make test-all  the same, and more of what is drawn at random"
	@echo "make check   ruff, mypy, architecture"
	@echo "make bench   the measurements; takes some minutes"
	@echo "make screens what server and client show, into SCREENS ($(SCREENS)); needs tmux"
	@echo "make screenshots  the live page: every view, light and dark, phone to projector; needs chromium"

setup: $(VENV)/.ready

# Made anew when the dependencies change. With uv if there is one, else with venv and pip.
$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.maxsize < 2**32)' || \
		{ echo "lanfit needs a 64-bit Python 3.11 or later; this is $$($(PYTHON) --version). Try: make PYTHON=python3.11"; exit 2; }
	@echo "Making $(VENV); the first time this takes a minute or two, most of it TensorFlow."
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
		uv pip install --quiet --python $(BIN)/python -e '.[server,dev]' $(ALSO); \
	else \
		$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[server,dev]' $(ALSO); \
	fi
	@touch $@

demo: setup
	@$(BIN)/lanfit demo

test: setup
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal

test-all: setup
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal --hypothesis-profile deep

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini tests
	$(BIN)/mypy --config-file tests/mypy.ini bench
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: setup
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/timing.py
	$(BIN)/python bench/push.py
	$(BIN)/python bench/training.py
	$(BIN)/python bench/files.py
	$(BIN)/python bench/simulation.py

screens: setup
	$(BIN)/python bench/screens.py $(SCREENS)

screenshots: setup
	$(BIN)/python bench/screenshots.py $(SCREENSHOTS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
