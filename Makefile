# `make demo` and `make test` set up everything they need; the rest is for people who work on Mien.
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

.PHONY: demo test lint types lock clean soak device-test power-cut-test
.DELETE_ON_ERROR:

demo: $(VENV)/demo.stamp            ## real pictures of people, an embedded broker, live events on this terminal
	$(VENV)/bin/mien demo

test: $(VENV)/dev.stamp             ## all tests; what needs a missing tool is skipped with its install line
	$(VENV)/bin/python -m pytest

lint: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/dev.stamp
	$(VENV)/bin/mypy

soak: $(VENV)/dev.stamp             ## two hours: does memory grow? soak/soak.png
	$(VENV)/bin/python tests/benchmarks/soak.py

ARCH ?= arm64
device-test: $(VENV)/dev.stamp      ## a whole emulated system (ARCH=amd64: another one), from power on; names what it needs
	$(VENV)/bin/python tests/device/whole_system.py --arch $(ARCH)

power-cut-test: $(VENV)/dev.stamp   ## the power goes 20 times; needs user-mode-linux, e2fsprogs
	$(VENV)/bin/python tests/device/power_cut.py

lock: $(VENV)/dev.stamp             ## resolves requirements.lock anew, for every Python and machine at once
	$(PIP) uv
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --no-emit-index-url --no-header \
		--extra dev --upgrade pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) dist build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml requirements.lock
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/bin/python pyproject.toml requirements.lock
	$(PIP) --editable '.[dev]'
	touch $@
