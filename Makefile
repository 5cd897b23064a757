# CI calls only these. `make test` is everything, and installs what it needs on a fresh Debian machine.
.PHONY: check fmt lint deny cargo-deny test test-rust test-doc test-client test-browser simulate fuzz load bench bench-postgres demo tools

SHELL := /bin/bash
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CARGO ?= cargo
BUILT = $(abspath $(or $(CARGO_TARGET_DIR),target))/debug
# One PostgreSQL server for the whole run.
WITH_POSTGRES = $(BUILT)/rollcall-with-postgres
BROWSER_TESTS := $(wildcard tests/browser/*.test.mjs)

# The quick look while writing.
check:
	$(CARGO) check --workspace --all-targets --all-features

fmt:
	$(CARGO) fmt --all

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && set -o pipefail && \
		tar -cf - --exclude=node_modules --exclude=target $$(sed -n 's/^!//p' .dockerignore) | tar -xf - -C "$$copy" && \
		echo "cargo metadata, of what .dockerignore lets into the image" && \
		$(CARGO) metadata --no-deps --format-version 1 --manifest-path "$$copy/Cargo.toml" >/dev/null

# What may come into the tree. The list of known flaws is on GitHub: where that cannot be reached the rest is checked all the same.
deny: cargo-deny
	$(CARGO) deny check bans licenses sources
	@if git ls-remote --exit-code https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then \
		set -ex; $(CARGO) deny check advisories; \
	else \
		echo "WARNING: github.com cannot be reached: advisories were NOT checked"; \
	fi

# Unoptimised: it is built in half the time and runs for a second.
cargo-deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || (set -x; CARGO_PROFILE_DEV_DEBUG=false $(CARGO) install cargo-deny --locked --debug)

test: lint deny test-rust test-doc test-client test-browser

test-rust: tools
	$(CARGO) build --workspace --all-features
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -ex; \
		$(WITH_POSTGRES) $(CARGO) nextest run --workspace --all-features; \
		$(CARGO) test --doc --workspace --all-features; \
	else \
		set -ex; \
		$(WITH_POSTGRES) $(CARGO) test --workspace --all-features; \
	fi

test-doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace

# Thousands of seeded lives of a node, with faults; `make simulate SEED=7` replays one, to the last event: for that
# tokio must be told to, and has a build of its own.
SEEDS ?= $(if $(SEED),$(SEED),0..5000)
STORE ?= Memory
simulate:
	RUSTFLAGS="--cfg tokio_unstable" ROLLCALL_SEEDS=$(SEEDS) ROLLCALL_STORE=$(STORE) \
		$(CARGO) test --release --target-dir target/simulate --test simulation -- --include-ignored --nocapture simulate a_seed_replays

# What is read of strangers, fed with anything at all, for so long each; `make fuzz TARGETS=connection FUZZ_SECONDS=60` for one.
# Without a sanitizer, so that the stable compiler will do: none of this is unsafe code. What is new and interesting stays in
# target/fuzz, what panics in target/fuzz-findings. fuzz/README.md has more.
FUZZ_SECONDS ?= 1800
TARGETS ?= message merge_patch query access_token connection
fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	@set -e; for target in $(TARGETS); do \
		mkdir -p target/fuzz/$$target target/fuzz-findings; \
		(set -x; CARGO_PROFILE_RELEASE_LTO=off $(CARGO) fuzz run --sanitizer none $$target \
			$(CURDIR)/target/fuzz/$$target $(CURDIR)/fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=30 -print_final_stats=1 -artifact_prefix=$(CURDIR)/target/fuzz-findings/$$target-); \
	done

# The browser client by itself: its types, its size, and its state machine against a scripted server.
test-client: tools
	cd clients/js && npm ci --no-audit --no-fund && npm run check && npm test

test-browser: tools test-client
	$(CARGO) build --bin rollcall
	cd tests/browser && npm ci --no-audit --no-fund
	ROLLCALL_BIN=$(BUILT)/rollcall \
		CHROMIUM=$${CHROMIUM:-$$(command -v chromium || command -v chromium-browser || command -v google-chrome)} \
		node --test --test-concurrency=1 $(BROWSER_TESTS)

# What is done most often, and what a connection costs, without a database or a network: some two minutes.
# `cargo bench --bench million -- --connections 1000000` holds a million.
bench:
	$(CARGO) bench --bench hot_paths
	$(CARGO) bench --bench million

# Flushing, reaping and joining on a PostgreSQL of its own, beside what one would write by hand: some 20 minutes, 4 GB of
# memory, 10 GB of disk. For a first look: `cargo bench --bench postgres -- flush --quick`.
bench-postgres:
	$(CARGO) bench --bench postgres

# What the tests need, only where it is missing.
tools:
	@missing=""; \
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing="$$missing chromium"; \
	command -v node >/dev/null || missing="$$missing nodejs"; \
	command -v npm >/dev/null || missing="$$missing npm"; \
	ls "$$(pg_config --bindir 2>/dev/null)/postgres" /usr/lib/postgresql/*/bin/postgres 2>/dev/null | grep -q . || missing="$$missing postgresql"; \
	command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || missing="$$missing pgbouncer"; \
	if [ -n "$$missing" ]; then \
		set -ex; \
		$(SUDO) apt-get update; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $$missing; \
	fi

# What a crowd does to a server: `make load EVENT="drop --connections 15000"`; drop, resume, crowd or stuck. Besides:
# `soak --duration 1h` (does anything stay behind?) and `deploy` (the server replaced under everybody, then killed). Or a scenario,
# of which `scenarios` lists those that come with it: `make load EVENT="run churn"`.
EVENT ?= drop
load:
	$(CARGO) build --release --package rollcall --bin rollcall
	$(CARGO) run --release --package rollcall-load -- $(EVENT)

# A server on loopback in dev mode with a database of its own.
demo:
	@echo "open http://127.0.0.1:8080/, and its links in two browsers or with ?guest=2 at the end"
	$(CARGO) run --release -- --database-url sqlite://$(CURDIR)/target/demo.db
