# make demo   a real compare of the shipped example: one APPROVE, one REJECT
# make test   everything that can be tested on this machine
# make gate-proof  the gate's error, power and cost on noise and recordings, beside other tools, into docs/gate.md
# make gate-e2e  how often the verdict of a real compare is right, beside a busy neighbour; takes about an hour
# make chaos-agent  200 random kill -9 of the agent, its launchers, containers and benches; docs/chaos.md
# make test-vm  the agent on real kernels of other boxes, in QEMU: cgroup v2, several nodes, cores set apart at boot
# make bench  speed and memory, as ratios within one run, into docs/performance.md
# make lint   what the code must keep to

.PHONY: demo test gate-proof gate-e2e chaos-agent test-vm bench lint tools build
.DEFAULT_GOAL := help

CARGO ?= cargo
# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)
export CARGO_TERM_COLOR ?= auto

help:
	@sed -n 's/^# make/make/p' Makefile

# What a bare Debian machine lacks, beside a Rust toolchain: Python with venv and pip, git, a C compiler.
tools:
	@deploy/install-tools

build: tools
	$(CARGO) build --locked --release --bins

demo: build
	@$(TARGET)/release/darwin demo

test: tools
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace --no-fail-fast

gate-proof:
	$(CARGO) build --locked --release -p darwin-proof
	@$(TARGET)/release/gate-proof --write docs

gate-e2e: build
	$(CARGO) build --locked --release -p darwin-tests --bins
	@$(TARGET)/release/gate-e2e

# CHAOS="--seed 7 --kills 50 --no-docker" passes flags on.
chaos-agent:
	$(CARGO) build --locked --workspace --bins
	@$(TARGET)/debug/chaos-agent $(CHAOS)

test-vm: build
	@tests/src/vm/fetch $(TARGET)/vm
	$(CARGO) build --locked --release -p darwin-tests --bins
	@$(TARGET)/release/vm-boxes --kernel $(TARGET)/vm/vmlinuz

bench: build
	$(CARGO) build --locked --release -p darwin-tests --bins
	@$(TARGET)/release/darwin-bench --write docs/performance.md

lint: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	$(CARGO) run --locked -q -p darwin-tests --bin darwin-lint -- all
	@command -v cargo-deny > /dev/null || $(CARGO) install --locked cargo-deny --version 0.20.2
	$(CARGO) deny check bans licenses sources
