# `just` lists the recipes.

_default:
    @just --list

# Unit and integration tests
test:
    cargo test

# Formatting, lints and docs; a warning is an error
lint:
    cargo fmt --all --check
    cargo clippy --all-targets -- --deny warnings
    RUSTDOCFLAGS="--deny warnings" cargo doc --no-deps

# Rewrite the golden files after a change of the API; look at the difference before you commit it
bless:
    BLESS=1 cargo test --test integration openapi
    git diff --stat

# The agent side by side with what one could take instead; results in target/bench
bench:
    benches/run.sh

# What CI runs
ci:
    .ci/run

# The binary that ships: static, x86-64
dist:
    packaging/cross-build.sh x86_64-unknown-linux-musl
