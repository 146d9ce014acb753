# make demo | test | check | fix | bench | bench-training-speed | bench-training-step | bench-transfer | bench-learning |
#      bench-first-hour | bench-inference | bench-quantisation | bench-gpu | bench-birdsong | bench-timelines | bench-long-audio | cards | reference |
#      test-augment | test-timelines | test-javascript | test-peer | test-programs | test-quantised | test-floor | test-newest |
#      test-gpu | test-reliability | reliability | test-long | test-slow
# The first target that runs makes the environment, .venv.
# make demo QUICK=1 is a short run; make demo BASE=MIT/ast-finetuned-audioset-10-10-0.4593 starts from that checkpoint.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test check fix bench bench-inference bench-quantisation bench-training-speed bench-training-step bench-gpu bench-transfer bench-learning bench-first-hour bench-birdsong bench-timelines bench-long-audio cards reference lint test-augment test-timelines \
	test-javascript test-peer test-programs test-quantised test-floor test-newest test-gpu test-reliability reliability test-long test-slow
.DEFAULT_GOAL := test

# Every version is pinned by constraints.txt. The environment is updated only when one of these files changes.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/ast-hf demo --output outputs/demo$(if $(QUICK),-quick)$(if $(BASE),-base) $(if $(QUICK),--quick) $(if $(BASE),--base $(BASE))

# Two processes of one thread each: importing transformers twice takes less time than running everything in one process.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# Three minutes: the tests that take seconds each, of fresh processes, whole runs and compilation.
test-long: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m long

check: lint test

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# 12 minutes on one core, of a machine that does nothing else: speed on a CPU, side by side with transformers. PEERS=1 first
# installs OpenVINO and onnxruntime; CHECKPOINT=folder CLIPS=table adds the agreement of a trained checkpoint. QUICK=1
# takes four minutes and stores nothing; STORED=1 only writes the page of all stored results.
bench: $(STAMP)
	$(if $(PEERS),$(BIN)/python -m pip install -q -c constraints.txt -e ".[bench]")
	$(BIN)/python -m benchmarks.$(if $(STORED),report,speed $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT) --clips $(CLIPS)) $(if $(QUICK),--quick))

# Eight minutes on one core. PEERS=1 first installs OpenVINO and onnxruntime; CHECKPOINT=folder CLIPS=table adds a trained
# checkpoint; QUICK=1 takes three minutes. `make bench STORED=1` shows the stored results.
bench-inference: $(STAMP)
	$(if $(PEERS),$(BIN)/python -m pip install -q -c constraints.txt -e ".[bench]")
	$(BIN)/python -m benchmarks.inference_speed $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT) --clips $(CLIPS)) $(if $(QUICK),--quick)

# Five minutes on one core. Needs a trained checkpoint: CHECKPOINT=folder CLIPS=table. pip installs torchao into build/torchao,
# because transformers and peft import it where it is installed. `make bench STORED=1` shows the stored results.
bench-quantisation: $(STAMP)
	test -d build/torchao || $(BIN)/python -m pip install --quiet --no-deps -c constraints.txt --target build/torchao torchao
	PYTHONPATH=build/torchao $(BIN)/python -m benchmarks.quantisation --checkpoint $(CHECKPOINT) --clips $(CLIPS) $(if $(QUICK),--quick)

# Ten minutes on one core; with GPU=1 two minutes on a GPU instead. `make bench STORED=1` shows the stored results.
bench-training-speed: $(STAMP)
	$(BIN)/python -m benchmarks.training_speed$(if $(GPU),_gpu)

# Eight minutes on one GPU: training, inference, features, attention, whole programs. `make bench STORED=1` shows the
# stored results.
bench-gpu: $(STAMP)
	$(BIN)/python -m benchmarks.gpu

# Four minutes on one core, against stock transformers. QUICK=1 takes two and stores nothing.
bench-training-step: $(STAMP)
	$(BIN)/python -m benchmarks.training_step $(if $(QUICK),--quick)

# An hour on one core. Needs data: DATA=folder of ESC-10. VIT=weights replaces those of the Hub, CHOOSE=1 chooses the
# learning rates. `make bench STORED=1` shows the stored results.
bench-transfer: $(STAMP)
	$(BIN)/python -m benchmarks.transfer --data $(DATA) $(if $(VIT),--vit $(VIT)) $(if $(CHOOSE),--choose)

# 80 minutes on two cores. Needs data: DATA=folder of esc10/ and arabic_commands/. VIT=weights replaces those of the
# Hub, CHOOSE=1 chooses the learning rates, CONTROL=1 adds a fifth system, QUICK=1 takes minutes.
bench-learning: $(STAMP)
	$(BIN)/python -m benchmarks.learning --data $(DATA) $(if $(VIT),--vit $(VIT)) $(if $(CHOOSE),--choose) $(if $(CONTROL),--control) $(if $(QUICK),--quick)

# An hour on two cores that do nothing else: DATA is the folder of the sets, VIT the image weights. QUICK=1 takes eight
# minutes; RECIPES=1 also trains the shipped recipes. `make bench STORED=1` shows the stored results.
bench-first-hour: $(STAMP)
	$(BIN)/python -m benchmarks.first_hour --data $(DATA) $(if $(VIT),--vit $(VIT)) $(if $(RECIPES),--recipes) $(if $(QUICK),--quick)

# Ten minutes of one core for each seed. Needs data: DATA=folder of birdsong/. SEEDS="0" runs one, CONTROL=1 adds a
# system. `make bench STORED=1` shows the stored results.
bench-birdsong: $(STAMP)
	$(BIN)/python -m benchmarks.birdsong --data $(DATA) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(CONTROL),--control)

# 20 minutes on two cores. Needs data: DATA=folder of esc10/. VIT=weights replaces those of the Hub, CHECKPOINT=folder
# takes one that was trained on folds 3 to 5, QUICK=1 takes two minutes with it.
bench-timelines: $(STAMP)
	$(BIN)/python -m benchmarks.timelines --data $(DATA) $(if $(VIT),--vit $(VIT)) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)) $(if $(QUICK),--quick)

# Ten minutes on one core, with the checkpoint of `make demo`. QUICK=1 takes half a minute.
bench-long-audio: $(STAMP)
	$(BIN)/python -m benchmarks.long_audio $(if $(QUICK),--quick)

# Seconds: writes model_cards from their results. TAKE=1 first copies those of `make demo` and `make bench-learning`.
cards: $(STAMP)
	$(BIN)/python -m benchmarks.cards $(if $(TAKE),--take)

# Seconds: writes docs/reference/{api,recipe,cli}.md from the docstrings, the recipe options and the command line.
reference: $(STAMP)
	$(BIN)/python docs/reference/generate.py

# A minute: tests of the extra `augment`, in an environment of its own.
test-augment: $(STAMP)
	$(BIN)/python -m pytest -m slow tests/training/test_waveform_transforms.py

# A minute: tests of the extra `timelines`, in an environment of its own. Compiles: needs a C++ compiler.
test-timelines: $(STAMP)
	$(BIN)/python -m pytest -m slow tests/test_timeline_metrics.py

# A minute: transformers.js loads our checkpoints. Needs node and npm; npm installs 165 MB under tests/javascript.
test-javascript: $(STAMP)
	cd tests/javascript && npm ci
	AST_HF_TEST_JAVASCRIPT=1 $(BIN)/python -m pytest -m "slow or not slow" tests/test_javascript.py

# A minute: transformers' own common tests over its AST and over ours. pip downloads the source distribution of the
# installed version once; set AST_HF_TRANSFORMERS_SDIST to a folder that has it to avoid this.
test-peer: $(STAMP)
	$(BIN)/python -m pytest -m slow -rs tests/peer

# Two minutes: typical fine-tuning programs for transformers' AST, with its classes and with ours. They push to a local Hub
# server and load from it. The same again with torchcodec and audiomentations, in an environment of its own (needs
# ffmpeg).
test-programs: $(STAMP)
	$(BIN)/python -m pytest -m slow -rs tests/test_programs.py tests/test_stock_column.py

# A minute: torchao and bitsandbytes, which pip installs into build/quantisation (150 MB).
test-quantised: $(STAMP)
	$(BIN)/python -m pytest -m slow -rs tests/test_quantised.py

# Tests that every supported version has to pass: of the code shared with transformers, and of training.
FAST := $(addprefix tests/,test_audio.py test_checkpoints.py test_configuration.py test_drop_in.py test_ensemble.py \
	test_feature_extraction.py test_loading.py test_modeling.py test_peft_names.py test_pipeline.py test_registration.py \
	test_stock_trainer.py training/test_adapters.py training/test_data.py training/test_metrics.py \
	training/test_model_card.py training/test_streaming.py training/test_trainer.py)
PIP := python -m pip install --quiet --disable-pip-version-check

# Four minutes: the oldest versions that pyproject.toml allows, in build/floor.
test-floor:
	test -x build/floor/bin/python || $(PYTHON) -m venv build/floor
	build/floor/bin/$(PIP) -c constraints-floor.txt torch
	build/floor/bin/$(PIP) -c constraints-floor.txt -e ".[train]" pytest hypothesis markdown-it-py
	build/floor/bin/python -m pytest -m "not slow" $(FAST)

# Four minutes: the newest transformers, in build/newest. Does nothing if that is the version in constraints.txt.
test-newest:
	test -x build/newest/bin/python || $(PYTHON) -m venv build/newest
	build/newest/bin/$(PIP) -c constraints.txt torch
	grep -vE "^(transformers|tokenizers|huggingface_hub)==" constraints.txt > build/newest/constraints.txt
	build/newest/bin/$(PIP) --upgrade -c build/newest/constraints.txt -e ".[train]" pytest hypothesis markdown-it-py
	if grep -q "^transformers==$$(build/newest/bin/python -c 'import importlib.metadata as m; print(m.version("transformers"))')$$" constraints.txt; \
	then echo "constraints.txt has the newest transformers"; else build/newest/bin/python -m pytest -m "not slow" $(FAST); fi

# Minutes on a GPU, skipped without one: features, scores and training agree with a CPU; transformers' own tests; the
# programs.
test-gpu: $(STAMP)
	AST_HF_TEST_GPU=1 $(BIN)/python -m pytest -m "slow or not slow" -rs tests/test_cuda.py tests/training/test_cuda_training.py \
		tests/test_stock_trainer.py tests/peer tests/test_programs.py -k "not environment"

# Five minutes: bad input, fuzzing, kills, signals, full disks. FULL=1 is the long tier, 40 minutes.
test-reliability: $(STAMP)
	$(if $(FULL),AST_HF_RELIABILITY=full )OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow -rsf tests/reliability

# The long tier, beside transformers; then writes docs/reliability.md.
reliability: $(STAMP)
	rm -rf build/reliability
	AST_HF_RELIABILITY=full AST_HF_RELIABILITY_RESULTS=$(CURDIR)/build/reliability OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -n 2 --dist worksteal -m slow -rs tests/reliability --deselect tests/reliability/test_page.py
	$(BIN)/python tests/reliability/page.py build/reliability

# Minutes: the wheel in an empty environment, metrics on input of AudioSet's size, failing runs of several processes,
# test-augment and test-timelines.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow
