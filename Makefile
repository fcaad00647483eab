# Everything here only calls programs: cargo, and coord-e2e, which does the work. `make help` lists the targets.

# cargo's profile for the binaries and images: release, or dev for quick rebuilds
PROFILE ?= release
# which local Kubernetes: each name is one of its own
INSTANCE ?= coord

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
E2E := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/coord-e2e --instance $(INSTANCE)
# Always the three together: another selection would have other features, and build everything again.
BUILD := cargo build --profile $(PROFILE) --package coord-server --package coord-operator --package coord-e2e
# The benchmarks beside them, for the same reason.
BENCHES := cargo build --release --package coord-server --package coord-operator --package coord-e2e --package coord-bench

# For what any build of it can do, the one that is there; which profile made it does not matter.
BUILT := $(firstword $(wildcard $(TARGET)/release/coord-e2e $(TARGET)/debug/coord-e2e))
ANY_E2E := $(if $(BUILT),$(BUILT) --instance $(INSTANCE),$(E2E))

# One build of the simulation for all: with the bugs that COORD_FAILPOINT can choose, and does not.
SIMULATION := --profile sim --package coord-simulation --features failpoints

.DEFAULT_GOAL := help
.PHONY: help build up down status kubernetes image crds test test-faults test-robust test-unit robust failpoints damage hostile clients fuzz turns small lint verify differential bench snapshot sim test-sim

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

build: ## Build server, operator and coord-e2e
	$(BUILD)

up: build ## A three-node Kubernetes with the operator and a three-member cluster; needs root
	$(E2E) demo --profile $(PROFILE)

down: $(if $(BUILT),,build) ## Take it down; leaves nothing behind
	$(ANY_E2E) down

status: $(if $(BUILT),,build) ## Say what runs
	$(ANY_E2E) status

kubernetes: build ## Only the Kubernetes, without Coord
	$(E2E) up

image: build ## Container images of server and operator, as archives in target/images
	$(E2E) image --profile $(PROFILE)

crds: ## Write the CustomResourceDefinitions from the operator's types
	UPDATE=1 cargo test --package coord-operator --test crds

# The programs that tests start, as they ship: the simulation would give the server the disks that it simulates. Tests that find
# none of these features build their own, silently.
SHIPPED := --workspace --exclude coord-simulation
BINS := cargo build $(SHIPPED) --bins

# The server with bugs to plant, which fault runs find or hand a disk's faults to. They would build it themselves, silently.
FAILPOINTS_SERVER := cargo build $(SHIPPED) --bin coord-server-failpoints --features coord-server/failpoints

# Power cuts of a whole member are left to `make damage`: docs/damage.md says why.
test: ## All tests; the operator's run on a Kubernetes of their own, which needs root
	$(BINS)
	$(FAILPOINTS_SERVER)
	$(TARGET)/debug/coord-e2e programs
	COORD_SIMULATED_HOURS=0.1 cargo test --workspace --no-fail-fast -- --skip node::tests::power_cut; result=$$?; $(TARGET)/debug/coord-e2e --instance e2e down; exit $$result

# The operator that fault tests end after any of its writes; they would build it themselves, silently.
FAILPOINTS_OPERATOR := cargo build $(SHIPPED) --bin coord-operator-failpoints --features coord-operator/failpoints

test-faults: ## Nodes, disks, the API server and the operator fail under load; needs root, not part of test
	$(BINS)
	$(FAILPOINTS_OPERATOR)
	$(TARGET)/debug/coord-e2e programs
	cargo test --workspace --no-fail-fast --test operator_nodes --test operator_crashes --test operator_obstacles --test operator_disks --test operator_copies --test operator_growth --test operator_versions; result=$$?; $(TARGET)/debug/coord-e2e --instance e2e down; exit $$result

test-unit: ## The tests that need neither root nor Kubernetes
	cargo test --package coord-proto --package coord-server --package coord-operator --lib --tests

damage: ## Every byte of a small data directory damaged, a power cut at every write: half an hour; needs strace
	COORD_DAMAGE=every cargo test --package coord-server --lib node::tests -- --nocapture

test-robust: ## One fault run of each scenario, and some that must find planted bugs; needs root, part of test
	$(BINS)
	$(FAILPOINTS_SERVER)
	cargo test --workspace --no-fail-fast --test robust --test robust_failpoints

# How long `make robust` goes on
MINUTES ?= 10

robust: ## Fault runs for MINUTES=10, one scenario after the other; ROBUST='--only pause --seed 7'; needs root
	$(BINS)
	$(FAILPOINTS_SERVER)
	$(TARGET)/debug/coord-e2e robust --minutes $(MINUTES) $(ROBUST)

failpoints: ## Find each bug planted in a server of its own; FAILPOINTS='--only stale-read'; needs root
	$(BINS)
	$(FAILPOINTS_SERVER)
	$(TARGET)/debug/coord-e2e failpoints $(FAILPOINTS)

hostile: ## Ten thousand connections, floods, readers that stall, other people's clients at top speed; ten minutes
	COORD_SPEED_SECONDS=60 cargo test --workspace --no-fail-fast --test 'hostile_*' -- --test-threads=1

clients: ## Libraries of Python, Rust, Node and Java against a real etcd and Coord; needs npm and Maven, which make test does not
	$(BINS)
	COORD_CLIENTS=all cargo test --workspace --test client_libraries

turns: ## How long the state is held, and what others notice: KEYS=1000000 MEMBERS=3, server of a release build
	$(BUILD)
	COORD_SERVER=$(TARGET)/release/coord-server COORD_TURN_KEYS=$(or $(KEYS),1000000) COORD_TURN_MEMBERS=$(or $(MEMBERS),3) cargo test --workspace --test turns -- --nocapture

small: ## Three members of MIB=256 with KEYS=1000000, and all that the door accepts; server of a release build, needs root
	$(BUILD)
	COORD_SERVER=$(TARGET)/release/coord-server COORD_SMALL_KEYS=$(or $(KEYS),1000000) COORD_SMALL_MIB=$(or $(MIB),256) cargo test --workspace --test small_machines -- --nocapture

lint: ## Formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# Versions that `verify` installs into cargo's own folder, if they are not there.
DENY := cargo-deny@0.20.2
MACHETE := cargo-machete@0.9.2

# In the order of what fails fastest. Nothing here changes a file of the project.
verify: ## Formatting, unused dependencies, licences and who may depend on what, documents, charts, lints, rustdoc
	cargo fmt --all --check
	cargo install --locked --quiet $(MACHETE) $(DENY)
	cargo machete
	cargo deny --log-level error check bans licenses sources
	cargo test --workspace --quiet --test documents --test charts
	cargo clippy --workspace --all-targets --test '*' -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --document-private-items --quiet

# one seed with its members' log, or many seeds for HOURS
SEED ?= 1
SIM := --seed $(SEED) $(if $(HOURS),--hours $(HOURS) --jobs $(shell nproc),--log info)

sim: ## Simulate a cluster: SEED=7 runs that seed again, HOURS=100 many seeds from SEED on
	cargo run $(SIMULATION) -- $(SIM)

test-sim: ## Some hours of simulation, that it repeats, and that it finds planted bugs
	cargo test $(SIMULATION) -- --nocapture --test-threads=1

# Inputs for each of six targets: some four minutes for the slowest
INPUTS ?= 100000

fuzz: ## INPUTS=100000 of any bytes at the door, in the log and in snapshots, with a seed of its own that is printed
	COORD_FUZZ_INPUTS=$(INPUTS) cargo test --package coord-server --lib -- fuzz:: --nocapture

# How many operations `make differential` compares
OPERATIONS ?= 1000000

differential: ## OPERATIONS=1000000 random operations from SEED=1 on to a real etcd and to Coord, every reply compared
	$(BINS)
	COORD_DIFFERENTIAL_OPERATIONS=$(OPERATIONS) COORD_DIFFERENTIAL_SEED=$(SEED) cargo test --workspace --test differential -- --nocapture coord_answers

bench: ## Measure Coord beside a real etcd and write docs/benchmarks.md; BENCH='--only put-64' only prints
	$(BENCHES)
	go build -C e2e/kubernetes/etcd -o $(abspath $(TARGET))/release/etcd go.etcd.io/etcd/server/v3
	$(TARGET)/release/coord-bench $(if $(BENCH),$(BENCH),--write docs)

snapshot: ## Send a snapshot of 1 GB to a new and to a lagging member; prints memory and the time of puts meanwhile
	$(BENCHES)
	$(TARGET)/release/coord-bench --snapshot 1000
