# SPDX-License-Identifier: BSD-2-Clause
# Every target sets itself up: the first one that needs Python builds .venv from pyproject.toml and constraints.txt.

PYTHON ?= python3
WORKERS ?= 0
FRAMES ?=
PRESET ?= 10g
OUT ?= build
DESIGN ?=
BIN := .venv/bin
STAMP := .venv/.complete

.DEFAULT_GOAL := help
.PHONY: help sim test golden lint waves verilog registers bench formal synth clean tools

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

sim: $(STAMP) tools ## Run the first experiment: what one packet's memory costs, by strategy
	$(BIN)/pagewheel run strategies $(if $(FRAMES),--set frames=$(FRAMES)) --out $(OUT)/strategies.json

test: $(STAMP) tools ## Run all tests (WORKERS=2 for two processes)
	$(BIN)/python -m pytest -q -n $(WORKERS)

golden: $(STAMP) tools ## Compare the IOMMU with its golden model on 120,000 random translations
	$(BIN)/python -m tests.golden

lint: $(STAMP) ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

waves: $(STAMP) tools ## Write the waves of a short run, and a GTKWave save file
	$(BIN)/pagewheel run strategies --waves --out $(OUT)/waves/result.json

verilog: $(STAMP) ## Export the NIC and the IOMMU as Verilog (PRESET=10g)
	$(BIN)/pagewheel verilog --core nic --preset $(PRESET) -o $(OUT)/verilog/nic
	$(BIN)/pagewheel verilog --core iommu --preset $(PRESET) -o $(OUT)/verilog/iommu

registers: $(STAMP) ## Write the register references (HTML) and the C headers
	$(BIN)/peakrdl html hw/abi/nic.rdl -P POOLS=2 -o $(OUT)/registers/nic
	$(BIN)/peakrdl c-header hw/abi/nic.rdl -P POOLS=2 -o $(OUT)/registers/nic.h
	$(BIN)/peakrdl html hw/abi/iommu.rdl -o $(OUT)/registers/iommu
	$(BIN)/peakrdl c-header hw/abi/iommu.rdl -o $(OUT)/registers/iommu.h

bench: $(STAMP) tools ## Measure how fast the simulation runs
	$(BIN)/pagewheel bench --out $(OUT)/bench.json
	$(BIN)/python -m tests.driver_model.speed

formal: $(STAMP) ## Prove what tests can only try (minutes)
	$(BIN)/python -m tests.formal

synth: $(STAMP) ## Area and timing on FPGAs, with Yosys and nextpnr (an hour; DESIGN=nic-10g for one)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[synth]'
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m synth $(DESIGN) --out $(OUT)/synth

clean: ## Remove everything that was built, the environment too
	rm -rf build .venv *.egg-info .mypy_cache .pytest_cache .ruff_cache

tools:
	@for tool in g++ make perl; do \
	  command -v $$tool >/dev/null || { \
	    echo "Pagewheel needs $$tool (Verilator builds its models with g++, make and perl): please install it" >&2; exit 1; }; \
	done

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Pagewheel needs Python 3.11 or later, and $(PYTHON) is not there: \
	install it or name it with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Pagewheel needs Python 3.11 or later, \
	but $(PYTHON) is `$(PYTHON) -V 2>&1`: name a newer one with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) comes without its venv module: \
	please install it (Debian: python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
