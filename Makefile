# Every way to build, run and test Quipu. `make` alone lists them.
#
# Everything is built under one profile (release) into one target directory,
# because RocksDB takes twenty minutes to compile and is compiled once for each.
# The directory lies outside of the checkout, so that clones share it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CARGO_TARGET_DIR ?= $(HOME)/.cache/quipu/target

# An environment's RUSTFLAGS would replace those of .cargo/config.toml and,
# with them, make every crate compile again.
unexport RUSTFLAGS
unexport CARGO_ENCODED_RUSTFLAGS

MINUTES ?= 60
QUIPU := $(CARGO_TARGET_DIR)/release/quipu

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: demo
demo: build ## the whole story on real processes: agree, kill the leader, lose a disk, verify
	"$(QUIPU)" demo $(DEMO)

.PHONY: test
test: set-up ## run every test, those over real processes too
	cargo test --release --workspace

.PHONY: simulate
simulate: set-up ## run seeds that nobody has run, for MINUTES=60
	cargo run --release -p quipu-simulation -- run --fresh --minutes $(MINUTES) --keep-going

.PHONY: fuzz
fuzz: set-up ## put bytes that nobody has tried to every decoder, for MINUTES=60
	bash scripts/fuzz $$(($(MINUTES) * 60)) $(TARGETS)

.PHONY: ci
ci: ## what has to pass before a change lands
	bash .ci/run

.PHONY: build
build: set-up ## build the `quipu` binary
	cargo build --release --workspace --bin quipu

.PHONY: restart-bench
restart-bench: build ## time from SIGKILL and start to SERVING of a node with 2 GiB
	bash scripts/restart-bench "$(QUIPU)"

.PHONY: set-up
set-up:
	@bash scripts/set-up
