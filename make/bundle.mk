# The production bundle: rendered configs, engines, containers. Included by the Makefile.

COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
PROFILE ?= gpu
# Additions to a deployment: observability, tls, mps.
WITH ?=
# Name of one of several projects on this host; empty for the only one.
PROJECT ?=
# Index of the GPU that engines are built for, and their version directory.
GPU ?= $(or $(DUALFACE_GPU),$(shell sed -n s/^DUALFACE_GPU=//p configs/$(PROFILE).env),0)
VERSION ?= 1
ENGINES = $(BIN)/python scripts/build_engines.py --gpu $(if $(findstring MIG,$(GPU)),0,$(GPU)) --version $(VERSION)
ENV_FILE = .env$(if $(PROJECT),.$(PROJECT))
KEY := docker/secrets/triton_key

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
up: models $(KEY) env ## Start the containers: make up PROFILE=gpu (or cpu) WITH="observability tls mps"
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
