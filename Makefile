# `make` lists what there is. `make check` is what CI demands.

CARGO ?= cargo
# make test NAME=filter runs the tests whose names contain it.
NAME ?=
# make fuzz TARGET=name runs it for LIMIT seconds.
TARGET ?=
LIMIT ?= 60
# How many blobs the large store of make bench-scale has; 1000000 needs 5 GB of memory.
LARGE ?= 100000
# make bench BENCH="..." says what is measured, and how: see benches/peers.rs.
BENCH ?=
# make image BINARY=path and make deb BINARY=path pack another program than make static makes.
BINARY ?=
MUSL := $(shell uname -m)-unknown-linux-musl
STATIC := target/$(MUSL)/dist/larder
# What an image may weigh, in bytes.
IMAGE_LIMIT := 20000000

.DEFAULT_GOAL := help
.PHONY: help run check format-check lint otel doc test packages bench bench-pull bench-scale bench-pure callgrind fuzz deny static image deb clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run larder on port 5000, with its data in ./larder-data
	$(CARGO) run --release

check: format-check lint otel doc test ## Everything that CI demands

format-check: ## Is the code formatted? (cargo fmt mends it)
	$(CARGO) fmt --check

lint: ## The compiler's and clippy's complaints, none of which is let through
	$(CARGO) clippy --locked --all-targets -- -D warnings

otel: ## Are traces told where it is built with them? (the feature is off by default)
	$(CARGO) test --locked --features otel --test it traces

doc: ## Build the documentation of the code
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

test: packages ## Run the tests; NAME=filter runs those whose names contain it
	$(CARGO) test --locked $(NAME)

packages: ## Install the Debian packages that the tests use, where they are missing (as root)
	tests/install-packages

bench: packages ## Measure beside nginx and docker-registry, into docs/performance.md; BENCH="--quick blob" for less
	$(CARGO) bench --locked --profile dist --bench peers -- $(or $(BENCH),--write docs/performance.md)

bench-pull: packages ## Measure a cold pull by many clients through a slow link, the start, and the memory
	$(CARGO) bench --locked --profile dist --bench pull

bench-scale: ## Measure large stores and crowds: make bench-scale [LARGE=100000]
	LARGE=$(LARGE) $(CARGO) bench --locked --profile dist --bench scale

bench-pure: ## Measure what waits for nothing: routes, manifests, ranges, challenges, the hash
	$(CARGO) bench --locked --bench pure

callgrind: ## Count the instructions of a manifest hit and of a small blob hit
	$(CARGO) build --locked --profile dist
	benches/instructions.sh target/dist/larder

fuzz: ## Fuzz one target: make fuzz TARGET=name [LIMIT=600]
	@command -v cargo-fuzz >/dev/null || { \
		echo "cargo-fuzz is missing. Install it with:"; \
		echo "  cargo install --locked cargo-fuzz"; exit 1; }
	@test -n "$(TARGET)" || { echo "say which: make fuzz TARGET=name"; ls fuzz/fuzz_targets; exit 1; }
	$(CARGO) fuzz run --sanitizer none $(TARGET) -- -max_total_time=$(LIMIT)

deny: ## Check licences, advisories and duplicates of the dependencies
	@command -v cargo-deny >/dev/null || { \
		echo "cargo-deny is missing. Install it with:"; \
		echo "  cargo install --locked cargo-deny"; exit 1; }
	$(CARGO) deny --locked check

static: ## Build the program that needs no libraries, for the image and the package
	@rustup target list --installed 2>/dev/null | grep -qx $(MUSL) || { \
		echo "Rust's library for $(MUSL) is missing. Install it with:"; \
		echo "  rustup target add $(MUSL)"; exit 1; }
	@command -v musl-gcc >/dev/null || { echo "musl-gcc is missing: install musl-tools"; exit 1; }
	$(CARGO) build --locked --profile dist --target $(MUSL) --config 'profile.dist.strip="symbols"'

image: $(if $(BINARY),,static) ## Make the container image, target/image/larder.tar
	$(if $(BINARY),,LIMIT=$(IMAGE_LIMIT)) packaging/image/build $(or $(BINARY),$(STATIC)) target/image/larder.tar

deb: $(if $(BINARY),,static) ## Make the Debian package, target/debian/larder.deb
	packaging/debian/build $(or $(BINARY),$(STATIC)) target/debian/larder.deb

clean: ## Remove what was built; the data in ./larder-data stays
	$(CARGO) clean
