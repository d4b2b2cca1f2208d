PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# vLLM pins versions of its own, so it has an environment of its own.
VLLM := .venv-vllm

export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export NO_MKDOCS_2_WARNING := 1

.PHONY: demo docs notebooks test test-browser test-docs test-lowest test-newest test-vllm test-wheel \
	screenshots check clean

demo: $(READY)  ## The main job, on the embedded model
	$(BIN)/pasta-chains demo

test: $(READY)
	$(BIN)/python -m pytest -q -n auto

test-browser: $(READY)  ## The playground; needs Debian's chromium
	$(BIN)/python -m pytest -q tests/with_browser

screenshots: $(READY)  ## For the docs; needs chromium, too
	$(BIN)/python tests/with_browser/screenshots.py

docs: $(READY)  ## The site, in site/
	$(BIN)/python -m mkdocs build

notebooks: $(READY)  ## Of the tutorials, from their pages
	$(BIN)/python tests/notebooks.py

test-docs: $(READY)  ## What the pages show is what happens
	$(BIN)/python -m pytest -q tests/test_docs.py tests/test_notebooks.py tests/test_site.py \
		tests/test_development.py

# Each in an environment of its own, with the versions in tests/versions.
test-lowest test-newest: test-%: .venv-%/.ready
	.venv-$*/bin/python -m pytest -q -n auto

test-wheel: $(READY)  ## Builds dist/, and tries each extra in an empty environment
	$(BIN)/python tests/wheel/check.py

test-vllm: $(VLLM)/.ready  ## The plugin, on servers of vLLM's CPU build
	$(VLLM)/bin/python -m pytest -q tests/with_vllm

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-* build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VLLM)/.ready: pyproject.toml constraints.txt tests/with_vllm/install.py
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --upgrade pip
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(VLLM)/bin/python tests/with_vllm/install.py
	touch $(VLLM)/.ready

.venv-%/.ready: pyproject.toml tests/versions/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade pip
	$(@D)/bin/python -m pip install --quiet --constraint tests/versions/$*.txt torch
	$(@D)/bin/python -m pip install --quiet --constraint tests/versions/$*.txt \
		--editable '.[all]' --group dev
	touch $@

# torch comes alone and first: a CPU build that pip is set up to prefer is then kept by the rest.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	touch $(READY)
