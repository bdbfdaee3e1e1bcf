# Two commands matter: `make demo` shows Ringway at work, `make test` says whether it is right.

WASM := wasm32-unknown-unknown

# Where the driver matrix keeps what it installs.
DRIVER_TOOLS := $(abspath $(or $(CARGO_TARGET_DIR),target))/drivers
# What `make test` installs from PyPI.
TEST_TOOLS := $(abspath $(or $(CARGO_TARGET_DIR),target))/tools

.PHONY: demo test test-drivers test-differential docker-test soak fuzz bench fmt deps

demo: deps
	cargo build --release --bin ringway
	cargo run --quiet --release --bin ringway -- demo

test:
	@scripts/install-deps --test "$(TEST_TOOLS)"
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	@# The planner is pure: it builds where there is no operating system.
	@if [ -d "$$(rustc --print sysroot)/lib/rustlib/$(WASM)" ]; then \
		cargo check -p planner --target $(WASM); \
	else \
		echo "skipped: planner on $(WASM) (rustup target add $(WASM))"; \
	fi
	@# Advisories come from GitHub.
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny check bans licenses sources && \
		if cargo deny fetch db >/dev/null 2>&1; then cargo deny check advisories; else \
			echo "skipped: cargo deny check advisories (their database is not in reach)"; \
		fi \
	else \
		echo "skipped: cargo deny check (cargo install cargo-deny)"; \
	fi
	@# What a failed test says is not to be buried.
	PATH="$$PATH:$(TEST_TOOLS)/bin" RUST_BACKTRACE=0 cargo test --workspace

# Real drivers of eight languages; ARGS="--drivers psql,pgx --targets pooled" for some of it.
test-drivers: deps
	@scripts/install-drivers "$(DRIVER_TOOLS)"
	cargo test --quiet --test drivers -- --tools "$(DRIVER_TOOLS)" $(ARGS)

# The same SQL on one plain server and over 2 and 4 shards; RINGWAY_STATEMENTS and RINGWAY_SEED say
# how many statements are generated and from where.
test-differential: deps
	cargo test --test integration -- --include-ignored --nocapture differential:: \
		--skip differential::generated::generated

# The cluster of docker/compose.yaml: checked, broken under load, checked again, removed (docs/docker.md).
docker-test:
	docker/test

# Long forms of what `make test` does shortly: `make soak SECONDS=600`, `make fuzz SECONDS=3600`.
SECONDS := 60

soak: deps
	@# The burst needs ten thousand open files.
	ulimit -n "$$(ulimit -Hn)" && RINGWAY_SOAK_SECONDS=$(SECONDS) cargo test --test integration -- \
		--ignored --nocapture --test-threads=1 soak

fuzz:
	scripts/fuzz $(SECONDS) $(TARGETS)

bench:
	scripts/install-deps --bench
	cargo bench --bench proxy

fmt:
	cargo fmt --all

deps:
	@scripts/install-deps
