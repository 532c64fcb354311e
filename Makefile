# `make digits` trains on real digits, samples and reports; `make test` runs the tests.
# Both make a virtual environment in .venv first. ARGS passes flags on: make digits ARGS="--steps 200"

PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: digits toy2d bench test lint docs clean

digits toy2d bench: .venv/installed
	$(BIN)/python -m experiments.$@ $(ARGS)

test: .venv/installed-for-tests lint
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The README's pictures, from finished runs of digits and toy2d.
docs: digits toy2d
	cp runs/digits/report/*.png runs/toy2d/report/story.png docs/

.venv/installed: requirements.txt setup.cfg
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv/installed-for-tests: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --editable ".[test]"
	touch $@

clean:
	rm -rf .venv .cache
