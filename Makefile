# `make demo` and `make test` set up everything they need; the rest is for people who work on Mien.
PYTHON ?= python3
VENV ?= .venv
# What the tests use of Mien.
EXTRAS = demo,onnx,page,signatures,training
comma = ,
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

.PHONY: help demo preview models test test-clients test-edge lint types lock clean man soak device-test power-cut-test
.DELETE_ON_ERROR:
.DEFAULT_GOAL := demo

help:                               ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | while IFS='	' read -r goal what; do printf '  make %-16s %s\n' "$$goal" "$$what"; done

demo: $(VENV)/demo.stamp            ## real pictures of people, an embedded broker, live events on this terminal
	$(VENV)/bin/mien demo

SOURCE ?= demo
preview: $(VENV)/preview.stamp      ## faces and emotions in a browser; SOURCE=clip.mp4 or SOURCE=0: of a video, a camera
	$(VENV)/bin/mien preview --source '$(SOURCE)'

JOBS ?= 2
PYTEST = $(VENV)/bin/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/dev.stamp             ## all tests; what needs a missing tool is skipped with its install line; ARGS="tests/publish -k outbox": some
	$(PYTEST) $(ARGS)

EDGE_TESTS = $(filter-out %/convert/ %/training/ %/device/ %/integration/ %/benchmarks/ %/__pycache__/,$(wildcard tests/*/))
test-edge: $(VENV)/dev.stamp        ## the tests of edge alone: no TensorFlow, no emulated device, two minutes
	$(PYTEST) $(EDGE_TESTS) tests/integration/test_run.py $(ARGS)

CLIENTS = .venv-clients
HASS_PYTHON ?= python3.13
test-clients: $(VENV)/dev.stamp     ## a real Home Assistant (HASS_PYTHON, 700 MB), Node-RED, Prometheus: what they make of our messages
	if $(HASS_PYTHON) -c ''; then $(MAKE) $(CLIENTS)/homeassistant.stamp; fi
	if npm --version; then $(MAKE) $(CLIENTS)/node-red.stamp; fi
	MIEN_HASS="$$(ls $$PWD/$(CLIENTS)/bin/hass 2>/dev/null)" \
		MIEN_NODE_RED="$$(ls $$PWD/$(CLIENTS)/node_modules/.bin/node-red 2>/dev/null)" $(PYTEST) tests/integration/test_clients_*.py $(ARGS)

$(CLIENTS)/homeassistant.stamp:
	$(HASS_PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check uv  # pip alone takes more than five minutes
	$(CLIENTS)/bin/uv pip install --quiet --python $(CLIENTS)/bin/python homeassistant==2025.4.4 paho-mqtt==2.1.0 \
		home-assistant-frontend==20250411.0
	touch $@

$(CLIENTS)/node-red.stamp:
	npm install --prefix $(CLIENTS) --no-audit --no-fund --silent node-red@4.1
	touch $@

models: $(VENV)/dev.stamp           ## trains and converts the emotion models: DATA=fer2013.csv; training/models.mk says what and how long
	$(MAKE) -f training/models.mk TRAIN=$(VENV)/bin/mien-train

lint: $(VENV)/dev.stamp             ## ruff, and the floors of the house
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/dev.stamp            ## mypy, strict
	$(VENV)/bin/mypy

soak: $(VENV)/dev.stamp             ## two hours: does memory grow? soak/soak.png
	$(VENV)/bin/python tests/benchmarks/soak.py

ARCH ?= arm64
device-test: $(VENV)/dev.stamp      ## a whole emulated system (ARCH=amd64: another one), from power on; names what it needs
	$(VENV)/bin/python tests/device/whole_system.py --arch $(ARCH)

power-cut-test: $(VENV)/dev.stamp   ## the power goes 20 times; needs user-mode-linux, e2fsprogs
	$(VENV)/bin/python tests/device/power_cut.py

man: $(VENV)/dev.stamp              ## mien.1, mien-convert.1, mien-train.1: the texts of --help as manual pages
	for pair in mien:edge mien-convert:convert mien-train:training; do $(VENV)/bin/python -c "from $${pair#*:}.cli import app; \
		from edge.commands.man import make_page; print(make_page(app), end='')" > $${pair%:*}.1 || exit 1; done

lock: $(VENV)/dev.stamp             ## resolves requirements.lock anew, for every Python and machine at once
	$(PIP) uv
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --no-emit-index-url --no-header \
		$(foreach extra,$(subst $(comma), ,$(EXTRAS)),--extra $(extra)) --group dev --upgrade pyproject.toml \
		--output-file requirements.lock

clean:                              ## away with the environment and what was built
	rm -rf $(VENV) dist build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml requirements.lock
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/preview.stamp: $(VENV)/bin/python pyproject.toml requirements.lock
	$(PIP) --editable '.[page]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/bin/python pyproject.toml requirements.lock
	$(PIP) 'pip>=25.1'  # Bookworm's does not know dependency groups
	$(PIP) --editable '.[$(EXTRAS)]' --group dev
	touch $@
