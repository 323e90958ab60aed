# The production bundle: rendered configs, engines, containers. Included by the Makefile.

COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
PROFILE ?= gpu
# Additions to a deployment: observability, live, tls, mps.
WITH ?=
# Name of one of several projects on this host; empty for the only one.
PROJECT ?=
# Index of the GPU that engines are built for, and their version directory.
GPU ?= $(or $(DUALFACE_GPU),$(shell sed -n s/^DUALFACE_GPU=//p configs/$(PROFILE).env),0)
VERSION ?= 1
ENGINES = $(BIN)/python scripts/build_engines.py --gpu $(if $(findstring MIG,$(GPU)),0,$(GPU)) --version $(VERSION)
ENV_FILE = .env$(if $(PROJECT),.$(PROJECT))
KEY := docker/secrets/triton_key
TOOLS := build/release-tools

.PHONY: render
render: $(STAMP) ## Renew what is generated: model_repository's configs, the settings' page and defaults
	@$(BIN)/python scripts/render_repository.py
	@$(BIN)/python scripts/render_configuration.py

.PHONY: check-engines
check-engines: models ## Build both models with TensorRT-RTX, without a GPU (96 MB to download, once)
	@$(BIN)/python scripts/check_engines.py

.PHONY: build-engines
build-engines: models render ## Build TensorRT engines for this machine's GPU, in the pinned container
	@$(ENGINES)

.PHONY: up
up: models $(KEY) env ## Start the containers: make up PROFILE=gpu (or cpu) WITH="observability live tls mps"
	@if [ "$(PROFILE)" = gpu ]; then $(ENGINES) --check; fi
	@videos=$$(sed -n s/^DUALFACE_VIDEOS=//p $(ENV_FILE)); \
	  mkdir -p "$${videos:-build/videos}/in" "$${videos:-build/videos}/out"
	@$(COMPOSE) --env-file $(ENV_FILE) up -d --build

.PHONY: env
env: $(STAMP) ## Write .env (with PROJECT=NAME .env.NAME), which tells docker compose what `make up` would start
	@DUALFACE_GPU=$(GPU) $(BIN)/python scripts/compose_env.py --profile $(PROFILE) --project "$(PROJECT)" --with $(WITH)

.PHONY: down
down: $(KEY) ## Stop the containers (of PROJECT=NAME)
	@$(COMPOSE) --env-file $(ENV_FILE) down

.PHONY: test-docker
test-docker: models clips ## Run the cpu profile for real; needs a Docker engine, no GPU
	@DUALFACE_TEST_DOCKER=1 $(BIN)/python -m pytest tests/docker -v

# Readable by the containers' user: file secrets keep their mode.
$(KEY):
	@umask 077; head -c 32 /dev/urandom | base64 | tr -d '+/=\n' > $@; chmod 644 $@

# One tool pins for the machine of a developer (constraints.txt) and, with checksums, for the image.
LOCK := $(TOOLS)/bin/uv pip compile --quiet --python-platform linux --python-version 3.11 --no-header --no-annotate

.PHONY: lock
lock: $(TOOLS) ## Pin the Python packages anew: `make lock LOCK_OPTIONS=--upgrade`
	@printf 'hatchling\n' | $(LOCK) $(LOCK_OPTIONS) pyproject.toml - --all-extras --output-file constraints.txt
	@sed -i '1i # Exact versions of everything that setup installs; pip reads it with -c. Written by `make lock`.' constraints.txt
	@printf 'hatchling\n' | $(LOCK) - --constraints constraints.txt --generate-hashes --output-file docker/requirements-build.txt
	@for extra in cpu gpu; do \
	    $(LOCK) pyproject.toml --extra $$extra --extra daemon --constraints constraints.txt --generate-hashes \
	        --output-file docker/requirements-$$extra.txt || exit; \
	done

.PHONY: sbom
sbom: $(TOOLS) ## What the image is made of, as CycloneDX in dist/, for a release
	@mkdir -p dist
	@for extra in cpu gpu; do \
	    $(TOOLS)/bin/cyclonedx-py requirements docker/requirements-$$extra.txt --pyproject pyproject.toml \
	        --output-reproducible --output-file dist/dualface-client-$$extra.cdx.json || exit; \
	done

$(TOOLS): VERSIONS
	@$(PYTHON) -m venv --clear $@
	@. ./VERSIONS && $@/bin/pip install --quiet "uv==$$UV" "cyclonedx-bom==$$CYCLONEDX_BOM"
	@touch $@
