# `make digits` trains on real digits, samples and reports; `make test` runs the tests.
# Both make a virtual environment in .venv first. ARGS passes flags on: make digits ARGS="--steps 200"
# `make test ARGS="-m exhaustive"` runs the rest of the grids of which the tests are a sample.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.txt

# On a machine without chips libtpu, which the tests bring along, would complain that there are none.
ON := $(if $(wildcard /dev/accel* /dev/vfio/* /dev/nvidia*),,JAX_PLATFORMS=$${JAX_PLATFORMS:-cpu})

.PHONY: digits toy2d bench theorems cost calibrate ncsn inpaint prepare ema trilemma plan test lint docs clean

digits toy2d bench theorems cost calibrate ncsn inpaint prepare ema trilemma: .venv/installed
	@$(ON) $(BIN)/python -m experiments.$@ $(ARGS)

plan: .venv/installed-for-plans
	@$(ON) $(BIN)/python -m experiments.plan $(ARGS)

test: lint
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

lint: .venv/installed-for-tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# The README's pictures, from finished runs; three hours on two cores if there are none.
docs: digits toy2d theorems cost .venv/installed-for-plans
	@$(ON) $(BIN)/python -m experiments.calibrate --data fashion_mnist
	@$(ON) $(BIN)/python -m experiments.ncsn --preset digits
	@$(ON) $(BIN)/python -m experiments.ncsn --preset fashion
	@$(ON) $(BIN)/python -m experiments.inpaint --run runs/ncsn-fashion
	cp runs/digits/report/samples.png runs/digits/report/trajectory.png runs/digits/report/nearest.png docs/
	cp runs/toy2d/report/story.png runs/theorems/theorems.png runs/cost/cost.png docs/
	cp runs/calibrate/calibrate.png runs/ncsn-digits/ablation.png runs/inpaint/inpaint.png docs/
	@$(ON) $(BIN)/python -m experiments.plan --preset digits --topology v5e --batch-size 16384 --sweep \
	  --out runs/plan/plan.json
	cp runs/ncsn-fashion/report/samples.png docs/fashion.png
	cp runs/plan/plan.png docs/
	@$(ON) $(BIN)/python -m experiments.trilemma
	cp runs/trilemma/digits/report/trilemma.png docs/
	cp runs/trilemma/digits/report/samples.png docs/families.png
	@$(ON) $(BIN)/python -m experiments.trilemma --data 25gaussians --denoising-steps 1 4 \
	  --families vanilla_gan,gan,vae,flow,ddpm,ncsn,edm,ddgan
	cp runs/trilemma/25gaussians/report/samples.png docs/25gaussians.png

.venv/installed: requirements.txt setup.cfg
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	@touch $@

.venv/installed-for-tests: .venv/installed
	$(INSTALL) --editable ".[test]"
	@touch $@

.venv/installed-for-plans: .venv/installed
	$(INSTALL) --editable ".[plan]"
	@touch $@

clean:
	rm -rf .venv .cache
