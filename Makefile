# Each target says what it does after ##; `make` alone prints them.
PYTHON ?= python3
VENV := .venv
# The backend of Keras: tensorflow, jax or torch (docs/gpu.md), with its CUDA libraries where there is an NVIDIA GPU.
BACKEND ?= $(or $(KERAS_BACKEND),tensorflow)
ifeq ($(filter $(BACKEND),tensorflow jax torch),)
$(error BACKEND is $(BACKEND); set it to tensorflow, jax or torch)
endif
GPU := $(if $(shell command -v nvidia-smi 2>/dev/null),-gpu)
REQUIREMENTS := requirements$(filter-out -tensorflow,-$(BACKEND))$(if $(filter-out torch,$(BACKEND)),$(GPU)).txt
INSTALLED := $(VENV)/.installed-$(BACKEND)$(GPU)
export KERAS_BACKEND := $(BACKEND)
# What the targets start is the environment's.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# DVC asks for the user's name, which a user id without an entry in /etc/passwd (docker run --user) has not.
ifneq ($(shell id -un >/dev/null 2>&1 || echo nameless),)
export LOGNAME ?= somebody
endif

.DEFAULT_GOAL := help
.PHONY: help install repro test test-all lint lock-check constraints constraints-check update format doctor experiments \
	crossval remote-demo campaign dependencies clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv installs in a sixth of pip's time; where it cannot be had, or does not find the packages, pip does it. Without
# bytecode, as where PYTHONDONTWRITEBYTECODE is set, each stage would compile TensorFlow again: 10 seconds.
UV := $(VENV)/bin/uv pip
# PyPI's PyTorch brings CUDA; uv knows where the one for this machine is.
INSTALL = $(UV) install --quiet --compile-bytecode --python $(VENV) --torch-backend auto --constraints constraints.txt $(1) || \
	python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(1)

install: $(INSTALLED) ## Create .venv with every dependency (about a minute, 3 GB; BACKEND=jax or torch: see docs/gpu.md)

$(INSTALLED): $(REQUIREMENTS) requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "redarte needs Python 3.11, 3.12 or 3.13, for which TensorFlow 2.21 has packages; name one with: make PYTHON=/path/to/python3.13"; exit 1; }
	@# Where Python came without ensurepip, as in Colab, its own pip puts one there.
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { $(PYTHON) -m venv --without-pip --clear $(VENV) && \
		$(PYTHON) -m pip --python $(VENV) install --quiet --disable-pip-version-check pip; }
	@python -m pip install --quiet --disable-pip-version-check uv==0.13.9 || echo "uv cannot be had: pip installs"
	$(call INSTALL,-r $(REQUIREMENTS))
	$(call INSTALL,--no-deps --editable .)
	redarte offline-plots
	@touch $@

repro: install ## Run the pipeline: whatever is not up to date, and nothing else
	@redarte check
	dvc repro
	@echo; cat plots/table_one.md; echo; echo "The report: plots/report.html. Figures: plots/*.png, or all in one page: dvc plots show --open"
	@! git rev-parse --git-dir >/dev/null 2>&1 || git diff --quiet HEAD -- dvc.lock metrics || \
		echo "This run is not committed: git commit -am 'A run on this machine' (before git restore or git checkout, or it runs again)"

$(VENV)/.tested: $(INSTALLED) requirements-test.txt requirements-ray.txt
	$(call INSTALL,-r requirements-test.txt)
	@touch $@

# A process more than cores: many tests wait for processes of their own.
PYTEST := python -m pytest -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --maxprocesses 5 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.tested ## Run the tests, but for the longest (about 5 minutes on 2 CPU cores)
	$(PYTEST) -m "not long"

$(VENV)/.backends: $(VENV)/.tested requirements-jax.txt requirements-torch.txt
	$(call INSTALL,-r requirements-jax.txt -r requirements-torch.txt)
	@touch $@

test-all: $(VENV)/.backends ## Run all the tests, with JAX and PyTorch too (about 20 minutes on 2 CPU cores)
	$(PYTEST)

lint: $(VENV)/.tested ## Check format, style and types
	ruff format --check
	ruff check
	mypy

lock-check: install ## Check that dvc.lock is of this code and params.yaml
	@redarte check --lock

COMPILE = $(UV) compile --quiet --universal --python-version 3.11 --no-annotate --no-emit-index-url \
	--custom-compile-command "make constraints" requirements*.txt

constraints: install ## Compile constraints.txt from the requirements files, keeping what it pins already
	$(COMPILE) --output-file constraints.txt

update: install ## Renew constraints.txt: the newest of everything that the requirements files allow
	$(COMPILE) --upgrade --output-file constraints.txt

constraints-check: install ## Check that constraints.txt is of the requirements files
	@cp constraints.txt $(VENV)/constraints.txt
	@$(COMPILE) --output-file $(VENV)/constraints.txt
	@cmp -s constraints.txt $(VENV)/constraints.txt || \
		{ echo "constraints.txt is stale: run \`make constraints\`, and commit it."; exit 1; }

format: $(VENV)/.tested ## Mend format and style
	ruff format
	ruff check --fix

doctor: install ## Say what this machine has, and what would run and for how long
	@redarte doctor

experiments: install ## List the experiments of this commit: what each changed, and how good it was
	@redarte experiments

crossval: install ## Measure the models on every image, in 5 folds (MODELS="red1 finetuned"; takes 5 trainings of each)
	@redarte crossval $(MODELS)

remote-demo: install ## Show two teammates share a run through a folder, in two throw-away clones
	@python docs/remote_demo.py

$(VENV)/.campaigns: $(VENV)/.tested requirements-campaigns.txt
	$(call INSTALL,-r requirements-campaigns.txt)
	@touch $@

campaign: $(VENV)/.campaigns ## Attack a promise of docs/promises.md (NAME=kills COUNT=100 SEED=0)
	python -m tests.campaigns $(NAME) --count $(or $(COUNT),100) --seed $(or $(SEED),0)

dependencies: $(VENV)/.campaigns ## Audit the dependencies, list their licences, and write an SBOM (sbom.json)
	cyclonedx-py environment --output-file sbom.json
	pip-licenses --order=license
	@# That of diskcache has no mended version: docs/promises.md says what to do about it.
	pip-audit --strict --no-deps --disable-pip --ignore-vuln CVE-2025-69872 --requirement constraints.txt

clean: ## Delete what the stages wrote and the environment; DVC's cache stays
	rm -rf $(VENV) data/raw data/split data/augmented data/resized data/.downloads models/*.keras models/.checkpoints plots/*
