# Every command of this repository. Thin on purpose: what it calls can be called without `just`.

# What there is
default:
    @just --list

# Sets up, builds and starts everything on this machine, and classifies a sample photo
up *options:
    ./deploy/local/up {{ options }}

# Stops a detached stack; --wipe removes its data too
down *options:
    ./deploy/local/down {{ options }}

# What runs, where, and since when
status:
    ./deploy/local/status

# psql as the read-only operator of the local stack
psql *options:
    ./deploy/local/psql {{ options }}

# Every test, or those whose name contains a word
test *words:
    ./tests/run {{ words }}

# Real programs, everything failing, by a seed: --seed N --minutes M [--yesterday REVISION] [--keep] (docs/chaos.md)
chaos *options:
    ./tests/chaos/run {{ options }}

# Good and bad requests to every route of the OpenAPI document: --seed N --examples N
fuzz *options:
    ./tests/fuzz/run {{ options }}

# What every change has to pass
ci:
    ./.ci/run

fmt:
    cargo fmt --all

# The inner loop: type-checks with the one profile that there is (docs/adr/0001-one-build.md)
check *options:
    SQLX_OFFLINE=true cargo check --release --workspace --all-targets {{ options }}

lint:
    SQLX_OFFLINE=true cargo clippy --release --workspace --all-targets --locked -- -D warnings

# Rewrites .sqlx/ after a change to a query
sqlx:
    ./deploy/dev/prepare-sqlx
