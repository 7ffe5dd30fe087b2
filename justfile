# Every command of this repository. Each calls a script or one cargo command, so `just` is not needed.

# Lists the commands
default:
    @just --list

# Sets up, builds and starts everything on this machine, and classifies a sample photo
up *options:
    ./deploy/local/up {{ options }}

# Stops a detached stack; --wipe removes its data too
down *options:
    ./deploy/local/down {{ options }}

# Shows what runs, where, and since when
status:
    ./deploy/local/status

# Opens psql as the read-only operator of the local stack
psql *options:
    ./deploy/local/psql {{ options }}

# Runs every test, or the tests whose name contains a word
test *words:
    ./tests/run {{ words }}

# Runs every test on the programs that ship, and on PostgreSQL 15 if it is installed; fuzzes every parser
nightly:
    ./tests/nightly

# Runs the real programs while faults are injected: --seed N --minutes M [--yesterday REVISION] [--keep] (docs/chaos.md)
chaos *options:
    ./tests/chaos/run {{ options }}

# Sends good and bad requests to every route of the OpenAPI document: --seed N --examples N
fuzz-rest *options:
    ./tests/fuzz-rest/run {{ options }}

# Fuzzes every parser of untrusted bytes with libFuzzer, a minute each: --seconds N, names of targets
fuzz-parsers *options:
    ./fuzz/run {{ options }}

# Runs every check that a change must pass
ci:
    ./.ci/run

# Formats all Rust code
fmt:
    cargo fmt --all

# Type-checks everything, in the profile of the tests (docs/adr/0001-one-build.md)
check *options:
    SQLX_OFFLINE=true cargo check --profile ci --workspace --all-targets --features tests/bench {{ options }}

# Runs clippy as CI does
lint:
    SQLX_OFFLINE=true cargo clippy --profile ci --workspace --all-targets --features tests/bench --locked -- -D warnings

# Checks licenses, sources and copies of all dependencies, and finds unused ones; --advisories also looks for known holes
dependencies *options:
    ./deploy/dev/check-dependencies {{ options }}

# Rewrites .sqlx/ after a change to a query or a migration
sqlx:
    ./deploy/dev/prepare-sqlx
