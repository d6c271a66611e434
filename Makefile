# make train [BACKEND=jax|torch|tensorflow] [ARGS="--epochs 5"]   install one backend into .venv and train LeNet-5
# make test                                                      install all backends into .venv-test and check all
# make bench [BACKEND=...] [ARGS="..."]                           run the benchmarks with .venv-test

PYTHON ?= python3
BACKEND ?= jax
ARGS ?=

BACKENDS := tensorflow jax torch
VENV := .venv
TEST := .venv-test
PYTEST = $(TEST)/bin/pytest --numprocesses 2 --dist loadfile
PIP := -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
INPUTS := pyproject.toml constraints.txt

# TensorFlow's small CPU build exists for some platforms only; with it the extra's own package is not needed.
ifeq ($(shell uname -s -m),Linux x86_64)
TENSORFLOW := tensorflow-cpu
else
TENSORFLOW := tensorflow
endif
PACKAGE_OF_jax := jax
PACKAGE_OF_torch := torch
PACKAGE_OF_tensorflow := $(TENSORFLOW)

ifeq ($(filter $(BACKEND),$(BACKENDS)),)
$(error BACKEND must be one of $(BACKENDS); got "$(BACKEND)")
endif

.PHONY: train test bench

train: $(VENV)/installed-$(BACKEND)
	KERAS_BACKEND=$(BACKEND) $(VENV)/bin/python apps/lenet.py $(ARGS)

test: $(TEST)/installed
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/ruff check .
	$(TEST)/bin/mypy
	set -e; for backend in $(BACKENDS); do KERAS_BACKEND=$$backend $(PYTEST) --ignore=tests/parity; done
	$(PYTEST) tests/parity

bench: $(TEST)/installed
	KERAS_BACKEND=$(BACKEND) $(TEST)/bin/python -m benchmarks $(ARGS)

$(VENV)/installed-$(BACKEND): $(INPUTS)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable ".[apps]" $(PACKAGE_OF_$(BACKEND))
	touch $@

$(TEST)/installed: $(INPUTS)
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/python $(PIP) --editable ".[apps,dev]" $(foreach backend,$(BACKENDS),$(PACKAGE_OF_$(backend)))
	touch $@
