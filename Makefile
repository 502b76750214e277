# Set-up, build, tests and demo. `make demo` and `make test` do everything they need, and say what they install.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

BUILD_PACKAGES := gcc libc6-dev pkg-config libasound2-dev python3 python3-pip dbus
TEST_PACKAGES  := $(BUILD_PACKAGES) dbus espeak-ng libglib2.0-bin pulseaudio pulseaudio-utils python3-venv systemd

# Clippy looks at the workspace while it is compiled, so that nothing is compiled twice for it.
LINTED := RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__

PYTHON ?= python3.12
SYSTEM_PYTHON ?= python3
FIXTURE_ENV ?= target/fixtures-env
FUZZ_SECONDS ?= 60
# `make demo ASK='--ask "What is the capital of Italy?"'` asks something else.
ASK ?=

.PHONY: help
help: ## Show what there is.
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

.PHONY: demo
demo: build-packages rust runtime ## Ask Eddy three recorded questions and write its spoken answers.
	@cargo build --quiet --locked --release --package eddyd
	target/release/eddy demo --output target/demo $(ASK)

.PHONY: test
test: test-packages rust runtime bus-client judge llama qdrant ## Check formatting, lints, and run all tests.
	@cargo fmt --all --check
	systemd/check
	# The command line's tests run the binary, which `cargo test` alone would not build.
	$(LINTED) cargo build --locked --workspace
	$(LINTED) cargo test --locked --workspace
	target/debug/eddy-fuzz --seconds $(FUZZ_SECONDS)

.PHONY: fuzz
fuzz: rust ## Hostile input for what reads input, FUZZ_SECONDS (60) for each of four targets.
	@$(LINTED) cargo build --quiet --locked --workspace
	target/debug/eddy-fuzz --seconds $(FUZZ_SECONDS)

.PHONY: install
install: build-packages rust runtime ## Install Eddy (DESTDIR and PREFIX as usual; PREFIX is /usr).
	@cargo build --locked --release --package eddyd
	systemd/install target/release

.PHONY: uninstall
uninstall: ## Take away what `make install` put there.
	@systemd/install --remove target/release

.PHONY: deb
deb: build-packages rust runtime ## Build the Debian package into target/debian.
	@command -v cargo-deb >/dev/null || { echo "installing cargo-deb"; cargo install --locked cargo-deb; }
	cargo build --locked --release --package eddyd
	rm -rf target/package
	DESTDIR=target/package PREFIX=/usr systemd/install target/release
	cargo deb --no-build --package eddyd

.PHONY: deb-check
deb-check: deb ## Install the package in a clean root, start the daemon there, and purge it (as root).
	@systemd/debian/check target/debian/eddy_*.deb

.PHONY: scenarios
scenarios: test-packages rust runtime judge ## Play every scenario of the live voice in real time, one after the other.
	@cargo test --locked --workspace --test scenarios --test dialogue -- --include-ignored --test-threads 1

.PHONY: soak
soak: test-packages rust runtime ## One long proof of the live voice: PART=echo|turns|wake-word|barge-in|false-alarms|devices|hour|idle|beside [LENGTH=N] [MODEL=DIR].
	@cargo build --locked --workspace
	target/debug/soak $(PART) $(or $(LENGTH),-) $(MODEL)

.PHONY: soak-bus
soak-bus: test-packages rust runtime ## Eight callers at once for ten minutes (SECONDS_LONG of them).
	@cargo build --locked --workspace
	target/debug/soak-bus $${SECONDS_LONG:-600}

# Models to write, of those that `eddy bench --help` lists, and where.
BENCH_MODELS ?= text-350m text-1.2b text-350m-c text-1.2b-c speech-1.5b-a speech-1.5b-c
BENCH_FOLDER ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/eddy/bench

.PHONY: bench-models
bench-models: build-packages rust ## Write full-size models with random weights, to measure with (BENCH_MODELS, 6 GB).
	@cargo build --quiet --locked --release --package eddyd
	target/release/eddy bench --make $(BENCH_MODELS) --to $(BENCH_FOLDER)

.PHONY: bench-bus
bench-bus: test-packages rust runtime ## How long a caller waits for a property.
	@cargo build --release --locked --workspace --bin eddyd --bin bench-bus
	target/release/bench-bus

.PHONY: bench-index
bench-index: rust ## What the search index costs, beside next-plaid on the same vectors.
	@cargo build --release --locked --workspace --bin bench-index
	target/release/bench-index target/bench-index
	CARGO_TARGET_DIR=target/next-plaid cargo run --release --manifest-path bench/index/next-plaid/Cargo.toml -- target/bench-index

.PHONY: lint
lint: rust ## Check licences, bans and sources of all dependencies.
	@command -v cargo-deny >/dev/null || { echo "installing cargo-deny"; cargo install --locked cargo-deny; }
	cargo deny check licenses bans sources

.PHONY: fixtures
fixtures: ## Make the fixtures again from the reference implementations (downloads PyTorch, about 6 GB).
	@[[ -x $(FIXTURE_ENV)/bin/python ]] || $(PYTHON) -m venv $(FIXTURE_ENV)
	$(FIXTURE_ENV)/bin/pip install --quiet --requirement tests/reference/requirements.txt
	$(FIXTURE_ENV)/bin/pip install --quiet --no-deps --requirement tests/reference/requirements-more.txt
	$(FIXTURE_ENV)/bin/pip uninstall --quiet --yes torchaudio
	for family in speech text vision colbert listening wake_word; do
	    $(FIXTURE_ENV)/bin/python tests/reference/make_$$family.py --out tests/fixtures
	done

# What the tests need that is not ours, each in an environment of its own: a client of the bus, an index server's interface and
# engine, a recogniser that listens to what the shipped model says, llama.cpp's own server.
CLIENTS := bus-client qdrant judge llama
SIZE_qdrant := 140 MB
SIZE_judge := 550 MB
SIZE_llama := 200 MB

.PHONY: $(CLIENTS)
$(CLIENTS): %: target/%/installed

$(CLIENTS:%=target/%/installed): target/%/installed: tests/clients/%-requirements.txt
	@echo "making the environment target/$* ($(or $(SIZE_$*),a few MB))"
	$(SYSTEM_PYTHON) -m venv target/$*
	target/$*/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

.PHONY: runtime
runtime: ## Fetch ONNX Runtime's library.
	@models/fetch-runtime

.PHONY: rust
rust:
	@command -v cargo >/dev/null || {
	    echo "Eddy needs Rust 1.92 or newer and there is no cargo here; install it from https://rustup.rs" >&2
	    exit 1
	}

.PHONY: build-packages test-packages
build-packages: PACKAGES := $(BUILD_PACKAGES)
test-packages: PACKAGES := $(TEST_PACKAGES)
build-packages test-packages:
	@missing=$$(for package in $(PACKAGES); do
	    dpkg-query --show --showformat='$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || echo $$package
	done)
	[[ -n $$missing ]] || exit 0
	echo "installing" $$missing
	[[ $$EUID -eq 0 ]] && sudo= || sudo=sudo
	$$sudo apt-get update --quiet=2
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $$missing >/dev/null
