# `make` or `make help` lists what there is to do.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The packages of object stores and clusters too, which only their tests need.
WHOLE := $(VENV)/.whole
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: demo
demo: models clips ## Set up, then turn a clip in which two faces cross into the two-tile video
	@$(BIN)/python scripts/demo.py

# A file stays with one process: its servers and clips are made once.
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile
JOBS ?= 2

.PHONY: check
check: $(WHOLE) models clips judge lint ## Style, types and unit tests, without Triton: for every save, on more cores with JOBS=8
	@$(PYTEST) tests/unit

.PHONY: test
test: $(WHOLE) models clips judge lint check-engines ## Set up, then run every check and test (with a real Triton)
	@$(PYTEST)

.PHONY: lint
lint: $(STAMP) ## Style, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: format
format: $(STAMP) ## Rewrite the code in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: setup
setup: models clips ## Environment, server, models and clips, without running anything

.PHONY: models
models: $(STAMP) ## Fetch the weights and the server, export the ONNX models
	@$(BIN)/dualface-client setup

.PHONY: clips
clips: $(STAMP) ## Fetch the sample clips
	@$(BIN)/dualface-client setup clips

.PHONY: scenes
scenes: models clips ## Compose the kinds of footage that people bring, with their truth, in out/scenes (once; 30 s of CPU)
	@test -f out/scenes/.made -a out/scenes/.made -nt scripts/clips/films.py || \
	  { $(BIN)/python scripts/make_clips.py films --out out/scenes && touch out/scenes/.made; }

.PHONY: judge
judge: $(STAMP) ## Fetch the face detector that judges real footage (0.5 MB)
	@$(BIN)/python -m scripts.judge.detector

.PHONY: bench-serving
bench-serving: models clips ## Throughput and latency by transport, batch and requests in flight: make bench-serving ARGS="--device cuda"
	@$(BIN)/pip install --quiet --no-deps "perf_analyzer==$$(sed -n s/^PERF_ANALYZER=//p VERSIONS)" || echo "no perf_analyzer here (glibc 2.38 or later): with our own generator only"
	@mkdir -p out && $(BIN)/python benchmarks/bench_serving.py --out out/serving.csv $(ARGS)

.PHONY: bench-cpu
bench-cpu: models clips ## Serving overhead, face verification, tracker cost and the loop's profile
	@$(BIN)/python benchmarks/serving_cpu.py
	@$(BIN)/python -m benchmarks.face_chips build/faces.npz
	@$(BIN)/python benchmarks/faces.py build/faces.npz
	@$(BIN)/python benchmarks/tracking_cost.py
	@$(BIN)/python benchmarks/stream_profile.py

EVAL := .venv-eval
$(EVAL)/.installed: benchmarks/tracking/requirements.txt
	@$(PYTHON) -m venv $(EVAL)
	@$(EVAL)/bin/python -m pip --disable-pip-version-check install -q -r $<
	@touch $@

.PHONY: eval-env
eval-env: $(EVAL)/.installed ## TrackEval and matplotlib in an environment of their own

.PHONY: bench-tracking
bench-tracking: models clips eval-env ## Trackers compared on the same detections (first run: 20 min)
	@$(BIN)/python -m benchmarks.tracking

.PHONY: clean
clean: ## Remove the environment and build products (the cache of downloads stays)
	rm -rf $(VENV) $(EVAL) build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis

include make/bundle.mk

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the Python packages (about 350 MB to download, once) ..."
	@$(PIP) install --quiet -c constraints.txt -e '.[cpu,daemon,trace,dev]'
	@touch $@

$(WHOLE): $(STAMP)
	@echo "Installing the packages that only tests need (about 150 MB to download, once) ..."
	@$(PIP) install --quiet -c constraints.txt -e '.[dev-cluster]'
	@touch $@
