# `make` alone prints the targets with the texts after ##.
PYTHON ?= python3
VENV := .venv
# The backend of Keras: tensorflow, jax or torch (docs/gpu.md), with its CUDA libraries where there is an NVIDIA GPU.
BACKEND ?= $(or $(KERAS_BACKEND),tensorflow)
ifeq ($(filter $(BACKEND),tensorflow jax torch),)
$(error BACKEND is $(BACKEND); set it to tensorflow, jax or torch)
endif
GPU := $(if $(shell command -v nvidia-smi 2>/dev/null),-gpu)
INSTALLED := $(VENV)/.installed-$(BACKEND)$(GPU)
comma := ,
export KERAS_BACKEND := $(BACKEND)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# DVC asks for the user's name, which does not exist for a user id without an entry in /etc/passwd (docker run --user).
export LOGNAME ?= $(shell id -un 2>/dev/null || echo somebody)
.PHONY: help install repro test test-all lint lock-check constraints constraints-check update format remote-demo campaign dependencies clean
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv takes a sixth of pip's time, and finds the build of PyTorch for this machine; pip is used if uv cannot be installed, or
# does not find the packages. Without bytecode each stage would compile TensorFlow again, for 10 seconds.
UV := $(VENV)/bin/uv pip
INSTALL = $(UV) install --quiet --compile-bytecode --python $(VENV) --torch-backend auto --constraints constraints.txt $(1) || \
	{ python -m pip install --quiet 'pip>=25.1'; python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(1); }

install: $(INSTALLED) ## Create .venv with every dependency (about a minute, 3 GB; BACKEND=jax or torch: see docs/gpu.md)
$(INSTALLED): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "redarte needs Python 3.11, 3.12 or 3.13, for which TensorFlow 2.21 has packages; choose one with: make PYTHON=/path/to/python3.13"; exit 1; }
	@test ! -L $(VENV) && { test -f $(VENV)/pyvenv.cfg || test -z "$$(ls -A $(VENV) 2>/dev/null)"; } || \
		{ echo "$(VENV) is a link, or no environment of Python: move it away, and run make again"; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { $(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(VENV) install --quiet --disable-pip-version-check pip; } # Colab's Python has no ensurepip
	@python -m pip install --quiet --disable-pip-version-check uv==0.13.9 || echo "uv cannot be installed: using pip"
	@echo "Installing requirements.txt and redarte[$(BACKEND)$(GPU)] into $(VENV): about a minute, 3 GB"
	@$(call INSTALL,-r requirements.txt --editable '.[$(BACKEND)$(GPU)]')
	@redarte offline-plots
	@touch $@
	@echo "Installed. Next: make repro, or: source .venv/bin/activate, then redarte train YOUR_IMAGES/"

repro: install ## Run the stages that are not up to date
	@redarte check
	dvc repro
	@echo; cat plots/table_one.md; echo; echo "The report: plots/report.html. Figures: plots/*.png, or all in one page: dvc plots show --open"
	@echo "Next, after 'source .venv/bin/activate': redarte predict IMAGE; dvc exp run -S model=red2; your own images: README.md"
	@! git rev-parse --git-dir >/dev/null 2>&1 || git diff --quiet HEAD -- dvc.lock metrics || \
		echo "This run is not committed: git commit -am 'A run on this machine' (before git restore or git checkout, or it runs again)"

# One process more than cores: many tests wait for other processes.
PYTEST := python -m pytest -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --maxprocesses 5 --dist loadfile --no-loadscope-reorder

$(VENV)/.tested $(VENV)/.backends $(VENV)/.campaigns: $(INSTALLED)
	@$(call INSTALL,--editable '.[hub$(comma)ray$(if $(filter %.backends,$@),$(comma)jax$(comma)torch)]' --group $(if $(filter %.campaigns,$@),campaigns,test))
	@touch $@

test: $(VENV)/.tested ## Run the tests, without the longest (about 6 minutes on 2 CPU cores)
	$(PYTEST) -m "not long"
test-all: $(VENV)/.tested $(VENV)/.backends ## Run all tests, also with JAX and PyTorch (about 20 minutes on 2 CPU cores)
	$(PYTEST)

lint: $(VENV)/.tested ## Check format, style and types
	ruff format --check
	ruff check
	mypy
format: $(VENV)/.tested ## Fix format and style
	ruff format && ruff check --fix
lock-check: install ## Check that dvc.lock matches the code and params.yaml
	@redarte check --lock

COMPILE = $(UV) compile --quiet --universal --python-version 3.11 --no-annotate --no-emit-index-url --all-extras --group test \
	--group campaigns --custom-compile-command "make constraints" requirements.txt pyproject.toml

constraints: install ## Compile constraints.txt from requirements.txt and pyproject.toml, keeping its versions
	$(COMPILE) --output-file constraints.txt
update: COMPILE += --upgrade
update: constraints ## Update constraints.txt to the newest versions that these allow
constraints-check: install ## Check that constraints.txt matches requirements.txt and pyproject.toml
	@cp constraints.txt $(VENV) && $(COMPILE) --output-file $(VENV)/constraints.txt
	@cmp -s constraints.txt $(VENV)/constraints.txt || { echo "constraints.txt is stale: type make constraints, and commit it."; exit 1; }

remote-demo: install ## Demonstrate two teammates who share a run through a folder, in two temporary clones
	@python docs/remote_demo.py
campaign: $(VENV)/.campaigns ## Attack a guarantee of docs/guarantees.md (NAME=kills COUNT=100 SEED=0)
	python -m campaigns $(NAME) --count $(or $(COUNT),100) --seed $(or $(SEED),0)
dependencies: $(VENV)/.campaigns ## Audit the dependencies, list their licences, and write an SBOM (sbom.json)
	cyclonedx-py environment --output-file sbom.json
	pip-licenses --order=license
	pip-audit --strict --no-deps --disable-pip --ignore-vuln CVE-2025-69872 --requirement constraints.txt # diskcache: docs/guarantees.md
clean: ## Delete the outputs of the stages and the environment; DVC's cache stays
	rm -rf $(VENV) data/raw data/split data/augmented data/resized data/inputs data/images.csv data/.downloads \
		models/*.keras models/*.onnx models/.checkpoints plots/*
