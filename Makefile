# Two commands: `make run` shows a report of a real network, `make test` runs the tests.
# Both set up .venv first, from requirements.lock, with nothing but Python 3.11+, gcc and make.
PYTHON ?= python3
BIN    := .venv/bin
READY  := .venv/.ready

.PHONY: setup extras run test exhaustive mutants bench studies rtl rtl-long libref wheel lint pages docs lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml setup.py $(wildcard c_ref/*.c c_ref/*.h c_ref/*.py)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv (the first time this takes a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@HFP8SIM_STRICT=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Optional packages whose tests are skipped without them: PyTorch, whose layers can be captured, and mmaemu, which
# replays products of GPUs. Not in the lock: PyTorch is large, and few need them. On Linux a CPU build is enough.
TORCH  := torch==2.13.0
MMAEMU := mmaemu==0.1.0

# cocotb runs an example bench of examples/bench; its tests are skipped without it.
COCOTB := cocotb==2.1.0

extras: setup
	@$(BIN)/python -c "import torch" 2>/dev/null || \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(BIN)/python -c "import mmaemu" 2>/dev/null || \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MMAEMU)
	@$(BIN)/python -c "import cocotb" 2>/dev/null || \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check $(COCOTB)

run: setup
	$(BIN)/hfp8sim run digits-cnn

test: setup
	$(BIN)/python -m pytest

exhaustive: setup
	$(BIN)/python -m pytest -n 2 -m exhaustive --dist worksteal

mutants: extras
	$(BIN)/python -m tests.mutants

bench: setup
	$(BIN)/python -m benchmarks.run

# Verilog units against the C reference: lint, then simulations of three minutes. They need Verilator, Icarus and Yosys.
rtl: setup
	$(BIN)/python -m tests.rtl

# All binary32 numbers through the converters, all pairs through the adder: a quarter of an hour on one core.
rtl-long: setup
	$(BIN)/python -m tests.rtl --long

# The papers' claims measured again, minutes each, and their page.
studies: extras
	OMP_NUM_THREADS=1 $(BIN)/hfp8sim study all --out docs/studies
	$(BIN)/python -m docs.pages

# The C reference as a library for test benches: docs/rtl.md, "Your own bench".
PREFIX ?= out/ref

libref:
	@$(MAKE) --no-print-directory -C c_ref install PREFIX=$(abspath $(PREFIX)) OUT=$(abspath out/c_ref)

# The wheel in an empty environment; PYTHONS="python3.12 python3.13 python3.14" tries others.
wheel: setup
	$(BIN)/python -m tests.wheel $(addprefix --python ,$(PYTHONS))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pages: setup
	$(BIN)/python -m docs.pages

docs: setup
	$(BIN)/python -m docs.pages.site

# New versions of everything (UPGRADE= keeps the present ones); the lock is the one place where versions are pinned.
UPGRADE ?= --upgrade

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --no-emit-index-url --no-emit-find-links --extra dev $(UPGRADE) pyproject.toml -o requirements.lock

clean:
	rm -rf .venv build dist *.egg-info out site
