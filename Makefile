# Two commands do all the set-up on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS ?= runs
# Where PyTorch's install page finds its CPU builds; the default build brings gigabytes of CUDA along.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: run test check proof catalogue clean

run: $(VENV)/ready
	$(BIN)/treino run --runs $(RUNS)

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not proof"

check: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The long proofs: kills at every fault point, full-size figures. Records them with date and machine in benchmarks/PROOFS.md.
proof: $(VENV)/ready-dev
	$(BIN)/python benchmarks/proof.py $(if $(DATA),--data "$(DATA)")

# After a change of sentences: collect them, then translate what is new in treino.po and compile.
catalogue: $(VENV)/ready-dev
	$(BIN)/python tools/catalogue.py

$(VENV)/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if ! command -v nvidia-smi >/dev/null 2>&1 && ! $(BIN)/python -c 'import torch' 2>/dev/null; then \
	  $(BIN)/pip install -q --no-deps --retries 0 --timeout 20 --index-url $(TORCH_CPU_INDEX) "$(TORCH)" \
	  || echo "no CPU build of torch within reach: taking the default one"; fi
	$(BIN)/pip install -q -e . -c constraints.txt
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/pip install -q -e ".[dev]" -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
