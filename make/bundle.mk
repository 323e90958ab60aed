# The production bundle: rendered configs, engines, containers. Included by the Makefile.

COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
PROFILE ?= gpu
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
	@$(BIN)/python scripts/build_engines.py

.PHONY: up
up: models $(KEY) ## Start the containers: make up PROFILE=gpu (or cpu), with DUALFACE_VIDEOS=DIR
	@if [ "$(PROFILE)" = gpu ]; then $(BIN)/python scripts/build_engines.py --check; fi
	@mkdir -p "$${DUALFACE_VIDEOS:-build/videos}/in" "$${DUALFACE_VIDEOS:-build/videos}/out"
	@$(COMPOSE) --env-file configs/$(PROFILE).env --profile $(PROFILE) up -d --build

.PHONY: down
down: $(KEY) ## Stop the containers: make down PROFILE=gpu (or cpu)
	@$(COMPOSE) --env-file configs/$(PROFILE).env --profile $(PROFILE) down

.PHONY: test-docker
test-docker: models clips ## Run the cpu profile for real; needs a Docker engine, no GPU
	@DUALFACE_TEST_DOCKER=1 $(BIN)/python -m pytest tests/docker -v

# Readable by the containers' user: file secrets keep their mode.
$(KEY):
	@umask 077; head -c 32 /dev/urandom | base64 | tr -d '+/=\n' > $@; chmod 644 $@
