# Needs Rust and Python 3.11 to 3.13; everything else goes into .venv and target/.
# `make` shows the targets. Slow ones stand apart: `make test` is what a change must pass.

PYTHON ?= python3
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin
STEP   := tools/step
STAMPS := $(VENV)/stamps
TOOLS  := target/tools/bin

CARGO_DENY_VERSION    := 0.20.2
CARGO_FUZZ_VERSION    := 0.13.1

FUZZ_SECONDS ?= 60

# As the Rust tests build them, so that nothing is built twice.
FAULT_SERVERS := cargo test --workspace --locked --no-run
AT_THEM       := AIRFREIGHT_FAULT_SERVER=$(CURDIR)/target/debug/dashboard AIRFREIGHT_KUBE_SERVER=$(CURDIR)/target/debug/kubernetes

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Airflow's components import for seconds when Python may not keep its byte code.
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV
export CARGO_TERM_PROGRESS_WHEN ?= auto
# uv doesn't read pip's settings; who has a mirror has set it for pip.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

SHIPPED        := $(filter-out crates/airfreight-schemas crates/airfreight-testkit,$(wildcard crates/*))
RUST_SOURCES   := $(shell find $(SHIPPED:%=%/src) -name '*.rs' -o -name '*.css') \
                  $(SHIPPED:%=%/Cargo.toml) Cargo.toml Cargo.lock
COMPAT_SOURCES := $(shell find compat -type f -not -path '*/__pycache__/*')
PYTHON_SOURCES := $(shell find python -type f -not -path '*/__pycache__/*' -not -name '*.so') pyproject.toml tools/wheel_backend.py

## Everyday

help: ## these lines
	@awk 'BEGIN {FS = ":.*## "} \
	  /^## / {printf "\n\033[1m%s\033[0m\n", substr($$0, 4)} \
	  /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMPS)/venv ## .venv with Airflow and every tool, as locked in requirements/

ray: .venvs/ray/.installed ## .venvs/ray: the Ray that tests and demo talk to, which airfreight itself never needs

api: .venvs/api/.installed ## .venvs/api: what holds docs/openapi.yaml against a running agent

s3: .venvs/s3/.installed ## .venvs/s3: a real S3 server that the tests start

azure: .venvs/azure/.installed ## .venvs/azure: Azurite, against which checkpoints on Azure are tested (needs Node)

apolo: .venvs/apolo/.installed ## .venvs/apolo: Apolo's SDK, which the tests compare with, and its web server

build: $(STAMPS)/installed ## setup, airfreight itself (a release wheel) and the old import names installed into .venv

test: build ray s3 apolo ## the Rust tests and the Python tests but the slow ones, the latter through a real Airflow and a real Ray
	@$(MAKE) test-rust test-python

demo: build ray ## the DAGs `flights` and `flights_ray` on a real Airflow and a real Ray, on real data
	@$(BIN)/python -m demo

lint: $(STAMPS)/installed ## formatting, clippy, ruff, mypy, the stubs, the layers
	@$(STEP) "cargo fmt" cargo fmt --all --check
	@$(STEP) "cargo clippy" cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	@$(STEP) "rustdoc" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@$(STEP) "ruff check" $(BIN)/ruff check
	@$(STEP) "ruff format" $(BIN)/ruff format --check
	@$(STEP) "mypy" $(BIN)/mypy
	@$(STEP) "stubtest" env MYPYPATH=python $(BIN)/stubtest --allowlist tools/stubtest-allowlist.txt \
	  airfreight._store airfreight._remote
	@$(MAKE) layers

format: $(STAMPS)/venv ## format everything, mend what ruff can mend
	@cargo fmt --all
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format --quiet

clean: ## remove what was built; keeps .venv (`make distclean` doesn't)
	rm -rf build dist target/wheel-data target/wheels .pytest_cache .mypy_cache .ruff_cache
	cargo clean --quiet

distclean: clean ## and .venv too
	rm -rf $(VENV) .venvs target

## Parts of the above

test-rust: ## the Rust tests
	@if cargo nextest --version >/dev/null 2>&1; then \
	  $(STEP) "Rust tests" cargo nextest run --workspace --locked; \
	  $(STEP) "Rust documentation tests" cargo test --workspace --locked --doc; \
	else \
	  $(STEP) "Rust tests" cargo test --workspace --locked; \
	fi

test-python: $(STAMPS)/installed .venvs/ray/.installed .venvs/s3/.installed .venvs/apolo/.installed ## the Python tests; PYTEST="-k name" passes options on
	@$(STEP) "fault servers" $(FAULT_SERVERS)
	@$(AT_THEM) $(BIN)/pytest $(if $(PYTEST),$(PYTEST),--numprocesses 2 --dist loadscope --no-loadscope-reorder --reruns 1 -raR)

layers: ## what each crate may depend on
	@$(STEP) "layers" tools/layers

deny: $(TOOLS)/cargo-deny ## licences, sources and known advisories of every Rust dependency
	@$(STEP) "cargo deny: licences, bans, sources" $(TOOLS)/cargo-deny --all-features --locked check licenses bans sources
	@tools/advisories $(TOOLS)/cargo-deny

wheel: dist/.built dist/.compat-built ## dist/airfreight-*.whl, and that of the old import names

docs: $(STAMPS)/installed ## rustdoc, and the reference page generated from the settings
	@$(STEP) "rustdoc" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@$(BIN)/python tools/configuration_reference.py

lock: $(STAMPS)/venv ## resolve requirements/*.txt anew from pyproject.toml; UPGRADE=1 takes the newest
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) \
	  --group dev --universal --generate-hashes --python-version 3.11 --output-file requirements/dev.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) \
	  --group dev --group extra --constraint requirements/dev.txt \
	  --universal --generate-hashes --python-version 3.11 --output-file requirements/extra.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) \
	  --group ray --constraint requirements/dev.txt \
	  --universal --generate-hashes --python-version 3.11 --output-file requirements/ray.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) \
	  --group modin --universal --generate-hashes --python-version 3.11 --output-file requirements/modin.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) \
	  --group s3 --universal --generate-hashes --python-version 3.11 --output-file requirements/s3.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) \
	  --group api --universal --generate-hashes --python-version 3.11 --output-file requirements/api.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) \
	  --group apolo --universal --generate-hashes --python-version 3.11 --output-file requirements/apolo.txt

## Slow

test-slow: build ray api s3 .venvs/modin/.installed ## values and warm functions on a real cluster, agents on three hosts: kills, cuts, takeovers
	@$(STEP) "fault servers" $(FAULT_SERVERS)
	@$(AT_THEM) $(BIN)/pytest -m slow $(PYTEST)

test-crash: ## SIGKILL at every passage of the store's named points, and a minute of pressure
	@$(STEP) "crash points and pressure" cargo test --package airfreight-testkit --locked -- --include-ignored

soak: ## 10,000 kills at random; SOAK="--kills 1000" passes options on
	@cargo run --release --locked --package airfreight-testkit --bin soak -- $(SOAK)

soak-ray: build ray ## 200 runs with values in a Ray cluster, which must be as empty afterwards as before
	@AIRFREIGHT_TEST_RUNS=200 $(BIN)/pytest -m slow tests/ray/survival/test_leaks.py $(PYTEST)

proof: ## the lock-and-link rule of the warm pool, for an hour; PROOF="--seconds 60" passes options on
	@cargo run --release --locked --package airfreight-testkit --bin proof -- $(PROOF)

fuzz: $(TOOLS)/cargo-fuzz ## the object format under cargo-fuzz (nightly Rust), FUZZ_SECONDS a target
	@for target in format object; do \
	  PATH="$(CURDIR)/$(TOOLS):$$PATH" cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done

bench: build ## against the other stores; writes benches/results/
	@$(BIN)/python -m benches $(BENCH)

bench-ray: build ray ## work on Ray beside astro-provider-ray; writes benches/ray/results/
	@$(BIN)/python -m benches.ray $(BENCH)

bench-agent: build ## agents of two hosts beside iperf3 (needs root); writes benches/agent/results/
	@$(BIN)/python -m benches.agent $(BENCH)

bench-apolo: build apolo ## how late an event loop is that waits for 100 jobs on Apolo; writes benches/apolo/results/
	@$(BIN)/python -m benches.apolo $(BENCH)

bench-kube: build ## what a triggerer needs to wait for 200 Ray clusters on Kubernetes; writes benches/kube/results/
	@$(BIN)/python -m benches.kube $(BENCH)

test-kube: build ## on a real Kubernetes with KubeRay, whichever the kubeconfig leads to; tests/kube says what can be chosen
	@$(BIN)/pytest -m kube tests/kube $(PYTEST)

test-extra: build ## with torch (its wheels are gigabytes)
	@$(STEP) "torch" $(BIN)/uv pip install --python $(BIN)/python --require-hashes --requirement requirements/extra.txt
	@$(BIN)/pytest -m extra $(PYTEST)

test-pandas2: build ## the codec with pandas 2, in a venv of its own
	@$(STEP) "pandas 2" $(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venvs/pandas-2
	@$(STEP) "its packages" $(BIN)/uv pip install --quiet --python .venvs/pandas-2/bin/python \
	  "pandas<3" numpy polars pyarrow pydantic scikit-learn scipy sqlalchemy xgboost-cpu hypothesis pytest pytest-timeout
	@$(STEP) "airfreight" $(BIN)/uv pip install --quiet --python .venvs/pandas-2/bin/python --no-deps --reinstall dist/airfreight-*.whl
	@.venvs/pandas-2/bin/pytest --confcutdir tests/codec tests/codec $(PYTEST)

test-matrix: build ## Airflow 3.0 to 3.4, each in a venv of its own; AIRFLOW="3.1.8 3.4.0b2" picks some
	@$(BIN)/python -m tests.matrix $(AIRFLOW)

## Files

$(STAMPS)/python:
	@mkdir -p $(@D)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
	  f"Airfreight is developed on Python 3.11 to 3.13, and `$(PYTHON)` is {v[0]}.{v[1]}: try make PYTHON=python3.12")'
	@$(STEP) "virtual environment" $(PYTHON) -m venv $(VENV)
	@$(STEP) "uv" $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements/dev.txt)"
	@touch $@

$(STAMPS)/venv: requirements/dev.txt $(STAMPS)/python
	@$(STEP) "Airflow and tools" $(BIN)/uv pip install --python $(BIN)/python --require-hashes --compile-bytecode --requirement requirements/dev.txt
	@touch $@

dist/.built: $(STAMPS)/venv $(RUST_SOURCES) $(PYTHON_SOURCES)
	@rm -f dist/airfreight-*.whl
	@PATH="$(BIN):$$PATH" $(STEP) "airfreight wheel" $(BIN)/uv build --wheel --python $(BIN)/python --no-build-isolation --out-dir dist
	@touch $@

dist/.compat-built: $(STAMPS)/venv $(COMPAT_SOURCES)
	@rm -f dist/airfreight_ray_provider-*.whl
	@$(STEP) "airfreight-ray-provider wheel" $(BIN)/uv build --wheel --python $(BIN)/python --out-dir dist compat
	@touch $@

$(STAMPS)/installed: dist/.built dist/.compat-built
	@$(STEP) "install airfreight" $(BIN)/uv pip install --python $(BIN)/python --no-deps --reinstall --compile-bytecode \
	  dist/airfreight-*.whl dist/airfreight_ray_provider-*.whl
	@touch $@

# Without byte code every process of a Ray cluster would import for a second longer, and each job is three of them.
.venvs/ray/.installed: requirements/ray.txt $(STAMPS)/python
	@$(STEP) "Ray's virtual environment" $(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(@D)
	@$(STEP) "Ray" $(BIN)/uv pip install --python $(@D)/bin/python --require-hashes --compile-bytecode --requirement requirements/ray.txt
	@touch $@

.venvs/modin/.installed: requirements/modin.txt $(STAMPS)/python
	@$(STEP) "the virtual environment for Modin" $(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(@D)
	@$(STEP) "Ray with Modin" $(BIN)/uv pip install --python $(@D)/bin/python --require-hashes --compile-bytecode --requirement requirements/modin.txt
	@touch $@

.venvs/s3/.installed: requirements/s3.txt $(STAMPS)/python
	@$(STEP) "the S3 server's virtual environment" $(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(@D)
	@$(STEP) "S3 server" $(BIN)/uv pip install --python $(@D)/bin/python --require-hashes --compile-bytecode --requirement requirements/s3.txt
	@touch $@

.venvs/azure/.installed: requirements/azurite/package-lock.json
	@mkdir -p $(@D) && cp requirements/azurite/package*.json $(@D)
	@$(STEP) "Azurite" npm ci --prefix $(@D) --no-audit --no-fund --loglevel=error
	@touch $@

.venvs/api/.installed: requirements/api.txt $(STAMPS)/python
	@$(STEP) "the virtual environment for the agent's interface" $(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(@D)
	@$(STEP) "schemathesis" $(BIN)/uv pip install --python $(@D)/bin/python --require-hashes --compile-bytecode --requirement requirements/api.txt
	@touch $@

.venvs/apolo/.installed: requirements/apolo.txt $(STAMPS)/python
	@$(STEP) "the virtual environment of Apolo's SDK" $(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(@D)
	@$(STEP) "Apolo's SDK" $(BIN)/uv pip install --python $(@D)/bin/python --require-hashes --compile-bytecode --requirement requirements/apolo.txt
	@touch $@

# Tools that run for seconds need not be optimised for minutes.
QUICKLY := env CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1

$(TOOLS)/cargo-deny:
	@$(STEP) "cargo-deny" $(QUICKLY) cargo install --quiet --locked --root target/tools cargo-deny@$(CARGO_DENY_VERSION)

$(TOOLS)/cargo-fuzz:
	@$(STEP) "cargo-fuzz" $(QUICKLY) cargo install --quiet --locked --root target/tools cargo-fuzz@$(CARGO_FUZZ_VERSION)

.PHONY: help setup ray api s3 azure apolo build test demo lint format clean distclean test-rust test-python layers deny wheel docs lock \
        test-slow test-crash soak soak-ray proof fuzz bench bench-agent bench-ray bench-apolo test-extra test-pandas2 test-matrix
