# make setup   virtual environment .venv with everything that training, testing and checking need
# make demo    train a small network on a generated corpus, test it, print the tables
# make results the quick ranking of docs/results.md again: fourteen losses, three seeds, tables and figures; 1.5 hours on two cores
# make test    lint, then the quick tests
# make test-slow   the long tests: trainings that are killed, many processes
# make gpu     in nine minutes: tests of a GPU, then its speed, row by row, printed and in gpu.jsonl; DATA=data/mine
#              measures loading
# make lint    only check formatting and lint

PYTHON ?= python3
BIN := .venv/bin
DATA ?= data/demo
DEMO_RUN := runs/demo_SI-SNR+LMS
QUICK_LOSSES := SI-SNR SNR MSE PC-MSE SI-SNR+LMS MSE+LMS SI-SNR+PMSQE MSE+PMSQE SI-SNR+asymmetric \
	SI-SNR+PESQ SI-SNR+metric-GAN GTCRN FastEnhancer MR-compressed

.PHONY: setup demo results test test-slow gpu lint

setup: .venv/.done

.venv/.done: pyproject.toml requirements.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "error: Python 3.10 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-pesq.txt
	touch $@

demo: $(DEMO_RUN)/test/demo/tables.md
	@echo "The tables are in $<, samples to listen to in samples/$(notdir $(DEMO_RUN))/demo/."

$(DEMO_RUN)/test/demo/tables.md: .venv/.done
	$(BIN)/python train.py --preset demo
	$(BIN)/python test.py --preset demo

results: .venv/.done
	$(BIN)/python -m tools.sweep --name quick --losses $(QUICK_LOSSES) --seeds 0 1 2 --devices cpu cpu \
		--rates results/published/quick/tuning.csv -- --preset demo --model GTCRN --metrics pesq stoi estoi si_sdr
	$(BIN)/python -m tools.publish quick

lint: .venv/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" -rs

test-slow: .venv/.done
	$(BIN)/python -m pytest -m slow

gpu: .venv/.done
	-timeout 180 $(BIN)/python -m pytest -v -m gpu
	-timeout 240 $(BIN)/python -m tools.benchmark --against tests/upstream.py --json gpu.jsonl --data $(DATA)
	-timeout 120 $(BIN)/python -m tools.benchmark --json gpu.jsonl --model GTCRN --channels 48
