# The commands of this project; `make help` lists them. Recipes are short, the work is in tools/.
# Needs Rust, make and CPython >= 3.11. What is made lands in build/, target/ and dist/.

# PROFILE=release, for test, quick and lint: build the wheel under test as it is shipped; the default is `fast`.
# PYTHON=/path/to/python3.x: the Python of everything but test-all and wheels; the default is the lowest one found.
PYTHON ?= $(shell tools/pythons.sh --first)
# What `make quick` runs: test files, or T="-k word".
T ?= tests/python

# Where rustup puts cargo, for a shell that was opened before; and nothing imported but what is installed.
export PATH := $(PATH):$(HOME)/.cargo/bin
unexport PYTHONPATH PYTHONHOME

.NOTPARALLEL:
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

.PHONY: demo
demo: ## build, install, and watch a real web app get fast
	@tools/env.sh demo "$(PYTHON)" release examples/demo/requirements.txt
	@build/venv-demo/bin/python -m examples.demo

.PHONY: demo-redis
demo-redis: ## the same on two server processes, over a Redis that it starts and ends
	@tools/redis.sh >/dev/null
	@tools/env.sh demo "$(PYTHON)" release examples/demo/requirements.txt
	@build/venv-demo/bin/python -m examples.demo --redis

.PHONY: test
test: ## everything: Rust, Python against the installed wheel, lint, types
	@tools/check.sh rust python lint

.PHONY: test-all
test-all: ## the Python tests on every Python found
	@PYTHONS="$$(tools/pythons.sh)" tools/check.sh python

.PHONY: test-rust
test-rust: ## the Rust tests alone
	@tools/check.sh rust

.PHONY: test-python
test-python: ## the Python tests alone
	@tools/check.sh python

.PHONY: lint
lint: ## formatting, lints, layer rules, types
	@tools/check.sh lint

.PHONY: quick
quick: ## the edit-test loop: rebuild what changed, run quick tests, last failures first (T=FILE, T="-k word")
	@PYTEST_ADDOPTS="-q -x -m 'not slow' --failed-first $(T)" tools/check.sh python

# SOAK_SECONDS=60: how long; SEED=1: which faults, and when.
SOAK_SECONDS ?= 600
.PHONY: soak
soak: ## processes over one Redis, cut, frozen, killed and flushed for ten minutes: nobody reads what is too old (SOAK_SECONDS=60)
	@tools/redis.sh >/dev/null
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -P tests/soak/soak.py --seconds "$(SOAK_SECONDS)" $(if $(SEED),--seed "$(SEED)")

.PHONY: docs-test
docs-test: ## the examples in README and docs
	@PYTEST_ADDOPTS="-k docs" tools/check.sh python

.PHONY: bench
bench: ## figures against peers, as ratios in one run
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -P tools/check_import.py
	@build/venv-bench/bin/python -P benches/run.py

.PHONY: bench-codecs
bench-codecs: ## codecs x payloads, size and time beside peers; writes the tables into docs/codecs.md
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -P benches/codecs.py --docs

.PHONY: bench-redis
bench-redis: ## a call to Redis beside other clients and a floor, on asyncio and uvloop; writes the tables into docs/redis.md
	@tools/redis.sh >/dev/null
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -m benches.redis --docs

.PHONY: bench-cluster
bench-cluster: ## how many loads one hot key costs eight processes in a minute, beside peers; writes the table into docs/redis.md
	@tools/redis.sh >/dev/null
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -P benches/cluster.py --docs

.PHONY: bench-coherence
bench-coherence: ## how long until what one process invalidates is gone from another, beside bare pub/sub
	@tools/redis.sh >/dev/null
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -P benches/coherence.py

.PHONY: bench-workers
bench-workers: ## what the workers of a host cost the Redis that they share, by their number; writes the table into docs/bus.md
	@tools/redis.sh >/dev/null
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -P benches/workers.py --docs

.PHONY: features
features: ## what each feature costs a hit while it has nothing to do, in instructions; needs valgrind
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -P benches/features.py

.PHONY: bench-rust
bench-rust: ## a get and an insert from Rust, by one thread and by two, beside peers, as ratios in one run
	@cargo run --quiet --release --manifest-path benches/threads/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}" \
		$(if $(CI),--locked)

.PHONY: compression
compression: ## what making a frame smaller or sealing it costs, beside zstandard, and what a dictionary gains: ratios in one run
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -P benches/compression.py

# RUNS=10000000: how many inputs each target gets.
RUNS ?= 1000000
.PHONY: fuzz
fuzz: ## fuzz envelope, frame, MessagePack and decompressors; needs nightly Rust and cargo-fuzz (RUNS=10000000)
	@tools/fuzz.sh "$(RUNS)"

.PHONY: outage
outage: ## what callers see of an origin that gets slow, fails, hangs and comes back: a table and a picture
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -m benches.outage

.PHONY: refresher
refresher: ## what a budget for background refreshes buys: old answers and waits against loader calls, in simulated time
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -P benches/refresher.py

# TRACES=dir: a folder of traces in the format of benches/hit_ratio/data; the default is those that come with the project.
# SEEDS=5: runs of everything that throws dice.
SEEDS ?= 1
.PHONY: hit-ratio
hit-ratio: ## hit ratios of our policies and of peers on real traces: a table and a picture (TRACES=dir, SEEDS=5)
	@tools/venv.sh bench "$(PYTHON)" tools/requirements/bench.txt
	@build/venv-bench/bin/python -m benches.hit_ratio $(if $(TRACES),--traces "$(TRACES)") --seeds $(SEEDS)

.PHONY: check-import
check-import: ## what `import samovar` costs
	@tools/env.sh bench "$(PYTHON)" release tools/requirements/bench.txt
	@build/venv-bench/bin/python -P tools/check_import.py

.PHONY: valgrind
valgrind: ## the native types under memcheck; needs valgrind
	@tools/valgrind.sh "$(PYTHON)"

.PHONY: wheels
wheels: ## a wheel for every Python found and an sdist, into dist/
	@tools/wheels.sh

.PHONY: clean
clean: ## remove all that was made
	rm -rf build dist target
