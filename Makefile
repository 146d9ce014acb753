# make demo | test | check | fix | bench | bench-training-speed | bench-transfer | bench-learning | cards | test-augment |
#      test-javascript | test-slow     One environment, .venv, made by the first of them.
# make demo QUICK=1               a short run          make demo BASE=MIT/ast-finetuned-audioset-10-10-0.4593
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test check fix bench bench-training-speed bench-transfer bench-learning cards test-augment test-javascript test-slow lint
.DEFAULT_GOAL := test

# The environment is exact: every version comes from constraints.txt. It is made anew only when one of these changes.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/ast-hf demo --output outputs/demo$(if $(QUICK),-quick)$(if $(BASE),-base) $(if $(QUICK),--quick) $(if $(BASE),--base $(BASE))

test: $(STAMP)
	$(BIN)/python -m pytest

check: lint test

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python -m benchmarks.report

# Ten minutes on one core; GPU=1 takes two on a GPU instead. `make bench` shows what they stored.
bench-training-speed: $(STAMP)
	$(BIN)/python -m benchmarks.training_speed$(if $(GPU),_gpu)

# An hour on one core, and needs data: DATA=folder of ESC-10, VIT=weights if not those of the Hub, CHOOSE=1 for the
# learning rates. `make bench` shows what it stored.
bench-transfer: $(STAMP)
	$(BIN)/python -m benchmarks.transfer --data $(DATA) $(if $(VIT),--vit $(VIT)) $(if $(CHOOSE),--choose)

# 80 minutes on two cores, and needs data: DATA=folder of esc10/ and arabic_commands/, VIT=weights if not those of the
# Hub, CHOOSE=1 for the learning rates, CONTROL=1 for a fifth system, QUICK=1 for minutes.
bench-learning: $(STAMP)
	$(BIN)/python -m benchmarks.learning --data $(DATA) $(if $(VIT),--vit $(VIT)) $(if $(CHOOSE),--choose) $(if $(CONTROL),--control) $(if $(QUICK),--quick)

# Seconds: model_cards from their results; TAKE=1 takes these from the runs of `make demo` and `make bench-learning` first.
cards: $(STAMP)
	$(BIN)/python -m benchmarks.cards $(if $(TAKE),--take)

# A minute: what the extra `augment` is tested with, in an environment of its own.
test-augment: $(STAMP)
	$(BIN)/python -m pytest -m slow tests/training/test_waveform_transforms.py

# A minute: transformers.js reads what we save. Needs node and npm, which installs 165 MB under tests/javascript.
test-javascript: $(STAMP)
	cd tests/javascript && npm ci
	AST_HF_TEST_JAVASCRIPT=1 $(BIN)/python -m pytest -m "slow or not slow" tests/test_javascript.py

# Minutes long: the wheel in an empty environment, metrics on input of AudioSet's size, runs that fail in other processes;
# and test-augment.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow
