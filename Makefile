# Everything from nothing but Python 3.11-3.13 and make. `make` alone lists the targets.

SHELL := bash
.DELETE_ON_ERROR:

# The first of these that fits makes the environment; `make demo PYTHON=/path/to/python3.12` picks one.
PYTHON ?= python3 python3.13 python3.12 python3.11
TORCH ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
# Tests run in two processes, a file each, so that fixtures of a module run once; `make test WORKERS=0` runs them in one.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile
BACKEND_TESTS = $(wildcard tests/test_imports.py tests/test_losses.py tests/layers tests/networks \
	tests/parity tests/training tests/systems tests/baselines)

# Shows pip's words in short; all of them are in the log, whose end is shown if pip fails.
define pip_install
set -o pipefail; \
$(BIN)/pip install --disable-pip-version-check --no-input $(1) 2>&1 | tee $(VENV)/pip.log \
	| awk '/^(Collecting|Installing|Successfully)/ { print "  " substr($$0, 1, 96); fflush() }' \
	|| { tail -n 20 $(VENV)/pip.log; echo "pip failed; all it said is in $(VENV)/pip.log."; exit 1; }
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/installed ## train DRAI on the skin phantom, evaluate, report and export (minutes)
	$(BIN)/python -m train.drai --dataset=skin_phantom --preset=quick

.PHONY: test test-jax test-torch
test: $(VENV)/installed-test ## the whole suite, on TensorFlow
	KERAS_BACKEND=tensorflow $(PYTEST) --durations=15

test-jax: $(VENV)/installed-test $(VENV)/installed-jax ## engine and system tests, on JAX
	KERAS_BACKEND=jax $(PYTEST) --durations=5 $(BACKEND_TESTS)

test-torch: $(VENV)/installed-test $(VENV)/installed-torch ## engine and system tests, on PyTorch
	KERAS_BACKEND=torch $(PYTEST) --durations=5 $(BACKEND_TESTS)

.PHONY: mutations
mutations: $(VENV)/installed-test $(VENV)/installed-torch ## try wrong lines, each of which a test must notice (some minutes)
	$(BIN)/python -m tests.campaigns.mutate

.PHONY: test-beam
test-beam: .venv-beam/installed ## preparation under Apache Beam, in an environment of its own
	.venv-beam/bin/python -m pytest tests/datasets/test_beam.py

.PHONY: parity
parity: .venv-parity/installed ## recompute the numbers of TensorFlow Addons (needs Python 3.11)
	.venv-parity/bin/python tests/parity/recompute.py --check

.PHONY: lint format
lint: $(VENV)/installed-dev ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed-dev ## fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What a machine with a GPU and JAX or PyTorch may lack, for benchmarks/device.py; NumPy and SciPy come with JAX.
DEVICE_WHEELS := keras absl-py h5py ml_dtypes namex optree packaging rich markdown-it-py mdurl pygments tqdm \
	matplotlib contourpy cycler fonttools kiwisolver pillow pyparsing python-dateutil six \
	scikit-learn joblib narwhals threadpoolctl jinja2 markupsafe typing_extensions
MANYLINUX := manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1

.PHONY: device-wheels
device-wheels: | $(BIN)/pip ## download what benchmarks/device.py needs on a machine without a network (44 MB)
	rm -rf device-wheels
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
		--implementation cp $(foreach tag,$(MANYLINUX),--platform $(tag)_x86_64) \
		--dest device-wheels $(DEVICE_WHEELS)
	@du -sh device-wheels

.PHONY: wheel
wheel: $(VENV)/installed ## build the wheel into dist/
	rm -rf build  # or files deleted since the last build would be in the wheel
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/*.whl

.PHONY: clean
clean: ## remove environments, builds and caches; data/, runs/ and saved_models/ stay
	rm -rf .venv .venv-beam .venv-parity build dist device-wheels *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. A stamp file says what is installed; a change of setup.py asks pip again.

$(BIN)/pip:
	@for python in $(PYTHON); do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
				2> /dev/null; then \
			echo "Making $(VENV) with $$($$python --version) ($$python)"; \
			exec $$python -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "tfdisent needs Python 3.11, 3.12 or 3.13 with its venv module; tried: $(PYTHON)." >&2; \
	echo "Install one (Debian: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python." >&2; \
	exit 1

$(VENV)/installed: setup.py | $(BIN)/pip
	@echo "Installing tfdisent into $(VENV) (3.0 GB on disk, mostly TensorFlow; one to five minutes)"
	@$(call pip_install,--editable .)
	@touch $@

# The release that is tested, before anything that would take a newer one.
$(VENV)/torch: | $(VENV)/installed
	@echo "Installing $(TORCH) into $(VENV)"
	@$(call pip_install,'$(TORCH)')
	@touch $@

$(VENV)/installed-torch: | $(VENV)/torch

$(VENV)/installed-%: setup.py $(VENV)/installed
	@echo "Installing the extra '$*' into $(VENV)"
	@$(call pip_install,--editable '.[$*]')
	@touch $@

# Apart, because Beam holds protobuf at a release with which TensorFlow Datasets cannot read a folder.
.venv-beam/installed: setup.py | $(BIN)/pip
	@echo "Installing tfdisent and Apache Beam into .venv-beam"
	$(BIN)/python -m venv --clear .venv-beam
	.venv-beam/bin/pip install --quiet --disable-pip-version-check --editable '.[beam]' pytest pytest-timeout
	@touch $@

.venv-parity/installed: tests/parity/requirements.txt
	python3.11 -m venv --clear .venv-parity
	.venv-parity/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
