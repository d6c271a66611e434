# make train [BACKEND=jax|torch|tensorflow] [ARGS="--epochs 5"]   install one backend into .venv and train LeNet-5
# make test                                                      install all backends into .venv-test and check all
# make bench [BACKEND=...] [ARGS="..."]                           run the benchmarks with .venv-test
# make docs [BACKEND=...]                                         write the documentation's pages into site
# make test-keras KERAS="keras-nightly" [BACKEND=...]             the tests with another release of Keras, in .venv-keras

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

.PHONY: train test bench docs test-keras

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

docs: $(TEST)/installed
	KERAS_BACKEND=$(BACKEND) NO_MKDOCS_2_WARNING=1 $(TEST)/bin/mkdocs build --strict --quiet

test-keras:
	$(PYTHON) -m venv .venv-keras
	.venv-keras/bin/python $(PIP) --editable ".[apps,cv,docs,dev]" $(foreach backend,$(BACKENDS),$(PACKAGE_OF_$(backend)))
	.venv-keras/bin/python -m pip --quiet uninstall --yes keras
	.venv-keras/bin/python -m pip --quiet install $(KERAS)
	KERAS_BACKEND=$(BACKEND) .venv-keras/bin/pytest --numprocesses 2 --dist loadfile --ignore=tests/parity

$(VENV)/installed-$(BACKEND): $(INPUTS)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable ".[apps]" $(PACKAGE_OF_$(BACKEND))
	touch $@

$(TEST)/installed: $(INPUTS)
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/python $(PIP) --editable ".[apps,cv,docs,dev]" $(foreach backend,$(BACKENDS),$(PACKAGE_OF_$(backend)))
	touch $@
