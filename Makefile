# `make demo` and `make test` need Python 3.11 or newer, pip and make; the first run sets everything up in $(VENV).

VENV := .venv
# The first of these that is at least 3.11 and can make virtual environments is used.
PYTHON := python3.11 python3
DEMO := runs/demo
BENCH := runs/bench.json
FLOORS := .venv-floors
GPU_COUNTS := runs/gpu-counts.json
# An interpreter with a CUDA build of torch, for make gpu-counts; BEFORE is an older checkout to count beside this one.
PYTHON_CUDA :=
BEFORE :=
SITE := site
# Imports of everything, what needs no model, models of each kind, and whole runs through the command.
FLOOR_TESTS := tests/test_imports.py tests/pruning tests/tickets tests/runs tests/models/test_attention.py tests/analysis/parallel/test_embedding.py \
    tests/cli/test_options.py tests/cli/test_training.py

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast floors bench gpu-counts docs lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# Tests, benchmarks and the demo need nothing from the Hugging Face Hub or W&B: whatever asks them for something fails at once.
demo test test-fast floors bench gpu-counts docs: export HF_HUB_OFFLINE := 1
demo test test-fast floors bench gpu-counts: export WANDB_MODE := offline
demo test test-fast floors bench gpu-counts: export TOKENIZERS_PARALLELISM := false
# Several processes of one test share the cores: threads that spin while they wait would make small steps many times slower.
test test-fast: export OMP_WAIT_POLICY := passive

demo: $(STAMP) ## the whole story on the embedded model and data, into runs/demo
	$(BIN)/lnsub demo --output $(DEMO)

test: $(STAMP) ## all tests
	$(BIN)/python -m pytest

test-fast: $(STAMP) ## all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow"

floors: $(STAMP) ## some tests at the lowest versions that pyproject.toml promises, in $(FLOORS)
	$(BIN)/python -m venv --clear $(FLOORS)
	$(BIN)/python tools/floors.py > $(FLOORS)/floors.txt
	$(FLOORS)/bin/python -m pip install -qq --disable-pip-version-check -c $(FLOORS)/floors.txt torch
	$(FLOORS)/bin/python -m pip install -qq --disable-pip-version-check -c $(FLOORS)/floors.txt -e '.[dashboard]' pytest pytest-timeout
	$(FLOORS)/bin/python -m pytest $(FLOOR_TESTS)

bench: $(STAMP) ## all benchmarks, into runs/bench.json and the tables of docs/performance.md
	$(BIN)/python -m benchmarks --json $(BENCH)
	$(BIN)/python -m benchmarks --write docs/performance.md $(BENCH)

gpu-counts: ## what a step asks of a GPU, without one, into docs/performance.md: see CONTRIBUTING.md
	@test -n "$(PYTHON_CUDA)" || { echo "Name a Python with a CUDA build of torch: make gpu-counts PYTHON_CUDA=/path/to/python" >&2; exit 1; }
	$(PYTHON_CUDA) -m pytest -rs tests/gpu_counts
	$(PYTHON_CUDA) -m benchmarks.gpu_counts --json $(GPU_COUNTS) $(if $(BEFORE),--before $(BEFORE))
	$(PYTHON_CUDA) -m benchmarks --write docs/performance.md $(GPU_COUNTS)

# Without a server every page can be read, but not searched: python -m http.server -d site
docs: $(STAMP) ## the documentation as a site, into site/; a broken link is an error
	$(BIN)/mkdocs build --strict --quiet --site-dir $(SITE)

lint: $(STAMP) ## style, format, types and which folder imports which, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP) ## put the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(STAMP) ## the virtual environment with lnsub and all it needs

# torch goes first, so that no other package's looser wish for it can bring in another build.
$(STAMP): pyproject.toml constraints.txt
	@set -e; found=; \
	for python in $(PYTHON); do \
	    if "$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found=$$python; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "None of '$(PYTHON)' is Python 3.11 or newer with the venv module." >&2; \
	    echo "Name one that is: make venv PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	echo "Installing lnsub and the packages it needs in $(VENV) with $$("$$found" --version): this takes a few minutes."; \
	"$$found" -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean: ## remove caches, build products and the demo's output; keeps the virtual environment and your runs
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage $(DEMO)
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
