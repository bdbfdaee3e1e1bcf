# Two commands matter: `make demo` shows Ringway at work, `make test` says whether it is right.

WASM := wasm32-unknown-unknown

.PHONY: demo test bench fmt deps

demo: deps
	cargo build --release --bin ringway
	cargo run --quiet --release --bin ringway -- demo

test: deps
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	@# The planner is pure: it builds where there is no operating system.
	@if [ -d "$$(rustc --print sysroot)/lib/rustlib/$(WASM)" ]; then \
		cargo check -p planner --target $(WASM); \
	else \
		echo "skipped: planner on $(WASM) (rustup target add $(WASM))"; \
	fi
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny check; \
	else \
		echo "skipped: cargo deny check (cargo install cargo-deny)"; \
	fi
	cargo test --workspace

bench:
	scripts/install-deps --bench
	cargo bench --bench proxy

fmt:
	cargo fmt --all

deps:
	@scripts/install-deps
