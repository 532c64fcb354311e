# `make digits` trains on real digits, samples and reports; `make test` runs the tests.
# Both make a virtual environment in .venv first. ARGS passes flags on: make digits ARGS="--steps 200"
# `make test ARGS="-m exhaustive"` runs the rest of the grids of which the tests are a sample.
# PYTHON=python3.13 chooses a Python; without it, the oldest of the supported ones that runs (pyenv's too). Its JAX
# compiles the programs of the tests twice as fast as later releases.

SUPPORTED := 3.11 3.12 3.13
ifndef PYTHON
PYTHON := $(shell for v in $(SUPPORTED); do for p in python$$v $(HOME)/.pyenv/versions/$$v.*/bin/python; do \
    $$p -c "" 2>/dev/null && echo $$p && exit; done; done; echo python3)
endif
VERSION := $(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])" 2>/dev/null)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/$(VERSION)
PINS := --constraint requirements.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINS)

# On a machine without chips libtpu, which the tests bring along, would complain that there are none.
ON := $(if $(wildcard /dev/accel* /dev/vfio/* /dev/nvidia*),,JAX_PLATFORMS=$${JAX_PLATFORMS:-cpu})

.PHONY: digits toy2d bench theorems cost calibrate ncsn edm distill solvers classifier likelihood posterior restore prepare ema trilemma sbi view plan \
  test fast lint newest version supported pins docs figures clean

digits toy2d bench theorems cost calibrate ncsn edm distill solvers classifier likelihood posterior restore prepare ema trilemma: \
  $(READY)-experiments
	@$(ON) $(BIN)/python -m experiments.$@ $(ARGS)

# The published posteriors come with the tests' environment.
sbi: $(READY)-test
	@$(ON) $(BIN)/python -m experiments.sbi $(ARGS)

# For example make view ARGS="runs/digits runs/toy2d".
view: $(READY)-experiments
	@$(ON) $(BIN)/python -m jaxscore.launch.view $(or $(ARGS),runs)

plan: $(READY)-plan
	@$(ON) $(BIN)/python -m experiments.plan $(ARGS)

test: lint
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

# The library's tests, without the experiments, the documentation and runs of many seconds.
fast: $(READY)-test
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow" \
	  --ignore tests/experiments --ignore tests/test_docs.py $(ARGS)

lint: $(READY)-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# The newest releases there are of all that is needed, whatever requirements.txt says, for the Python that PYTHON names.
newest:
	rm -rf .venv-newest .cache/newest
	@$(MAKE) fast VENV=.venv-newest PINS=
	@$(MAKE) digits VENV=.venv-newest PINS= ARGS="--steps 40 --workdir .cache/newest"
	@.venv-newest/bin/python -m pip freeze | grep -E "^(flax|jax|jaxlib|numpy|optax|orbax-checkpoint)="

# requirements.txt holds a set of versions for Python 3.11 and one for later Pythons. After `make newest` passes,
# `make pins` puts the versions in its environment in the place of those for this Python.
MARKER := ; python_version $(if $(filter 3.11,$(VERSION)),<,>=) "3.12"
pins:
	@$(MAKE) .venv-newest/$(VERSION)-docs VENV=.venv-newest PINS=
	@grep -v '$(MARKER)$$' requirements.txt > .cache/pins
	@.venv-newest/bin/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/$$/$(MARKER)/' >> .cache/pins
	@mv .cache/pins requirements.txt

# For .ci/run: which Python would be taken, and which could be.
version:
	@echo $(VERSION)

supported:
	@echo $(SUPPORTED)

docs: $(READY)-docs
	@$(ON) $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# The pictures of README and docs, from finished runs; three and a half hours on two cores if there are none.
figures: digits toy2d theorems cost $(READY)-plan
	@$(ON) $(BIN)/python -m experiments.calibrate --data fashion_mnist
	@$(ON) $(BIN)/python -m experiments.ncsn --preset digits
	@$(ON) $(BIN)/python -m experiments.ncsn --preset fashion
	@$(ON) $(BIN)/python -m experiments.distill
	@$(ON) $(BIN)/python -m experiments.distill --method consistency --workdir runs/distill-consistency
	@$(ON) $(BIN)/python -m experiments.solvers --students runs/distill runs/distill-consistency
	@$(ON) $(BIN)/python -m experiments.classifier
	cp runs/classifier/report/classes.png docs/pictures/classifier.png
	@$(ON) $(BIN)/python -m experiments.posterior
	cp runs/posterior/posterior.png docs/pictures/
	cp runs/posterior/modes.png docs/pictures/posterior_modes.png
	@$(ON) $(BIN)/python -m experiments.edm --preset fashion --workdir runs/fashion --no-conditional --p-uncond 0 \
	  --sampling.scale 1
	@$(ON) $(BIN)/python -m experiments.restore --run runs/fashion
	cp runs/restore-super_resolution/restore.png docs/pictures/
	@$(ON) $(BIN)/python -m experiments.restore --run runs/fashion --problem inpaint
	cp runs/restore-inpaint/restore.png docs/pictures/inpaint.png
	@$(ON) $(BIN)/python -m experiments.edm --preset fashion
	for task in two_moons slcp; do \
	  $(MAKE) sbi ARGS="--task $$task" && \
	  cp runs/sbi-$$task/report/posterior.png docs/pictures/sbi_$$task.png && \
	  cp runs/sbi-$$task/report/calibration.png docs/pictures/sbi_$${task}_calibration.png || exit 1; done
	cp runs/edm-fashion/report/classes.png docs/pictures/edm_classes.png
	cp runs/edm-fashion/report/guidance.png docs/pictures/edm_guidance.png
	cp runs/digits/report/samples.png runs/digits/report/trajectory.png runs/digits/report/nearest.png docs/pictures/
	cp runs/toy2d/report/story.png runs/theorems/theorems.png runs/cost/cost.png docs/pictures/
	cp runs/calibrate/calibrate.png runs/ncsn-digits/ablation.png docs/pictures/
	cp runs/solvers/solvers.png docs/pictures/
	cp runs/distill/report/samples.png docs/pictures/distill.png
	@$(ON) $(BIN)/python -m experiments.plan --preset digits --topology v5e --batch-size 16384 --sweep \
	  --out runs/plan/plan.json
	cp runs/ncsn-fashion/report/samples.png docs/pictures/fashion.png
	cp runs/plan/plan.png docs/pictures/
	@$(ON) $(BIN)/python -m experiments.trilemma
	cp runs/trilemma/digits/report/trilemma.png docs/pictures/
	cp runs/trilemma/digits/report/samples.png docs/pictures/families.png
	@$(ON) $(BIN)/python -m experiments.lecture
	@$(ON) $(BIN)/python -m experiments.trilemma --data 25gaussians --denoising-steps 1 4 \
	  --families vanilla_gan,gan,vae,flow,ddpm,ncsn,edm,ddgan
	cp runs/trilemma/25gaussians/report/samples.png docs/pictures/25gaussians.png

# An environment for another Python is begun anew. Each of the others adds its extra to it.
$(READY)-experiments: requirements.txt setup.cfg
	$(if $(filter $(VERSION),$(SUPPORTED)),,$(error $(PYTHON) is $(if $(VERSION),Python $(VERSION),not there); \
	  jaxscore runs on Python $(SUPPORTED): choose one with make PYTHON=python$(firstword $(SUPPORTED))))
	$(PYTHON) -m venv $(if $(wildcard $@),,--clear) $(VENV)
	$(INSTALL) --editable ".[experiments]"
	@touch $@

$(READY)-%: $(READY)-experiments
	$(INSTALL) --editable ".[$*]"
	$(if $(filter test,$*),$(INSTALL) --no-deps sbibm)
	@touch $@

clean:
	rm -rf .venv .venv-* .cache docs/_build
