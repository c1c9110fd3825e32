# The commands of this repository. `make help` lists them, docs/BUILDING.md says which to use when.
#
# Every command builds with `--workspace`: cargo selects the features of dependencies for all packages of a
# command together, so that another selection (`-p muster-server`) would compile the dependencies again.
# Only programs for hosts are built by themselves, with the features that they need and no others.

.DEFAULT_GOAL := help
# How long `make fuzz` takes for each target.
SECONDS_EACH ?= 60

.PHONY: help build web demo demo-stop test fmt lint openapi fuzz bench soak soak-dashboard access-delays soak-networks soak-updates soak-authority bump images images-check packages release-programs release-build soak-contract

help: ## Show this list.
	@awk -F':.*## ' '/^[a-z -]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build every program, without optimisation.
	cargo build --workspace --bins --locked

web: ## Build the dashboard into web/dist, which the server embeds (needs Node 20.19).
	bash scripts/build-dashboard.sh

demo: ## Start a server and an agent in .demo/ and run a script through the REST API.
	@bash scripts/start-demo.sh

demo-stop: ## Stop what `make demo` started and remove .demo/.
	@bash scripts/stop-demo.sh

test: ## Install missing tools, check format, lints and dependencies, and run every test.
	bash scripts/install-test-tools.sh
	bash scripts/build-previous.sh
	bash scripts/build-dashboard.sh
	cd web && npm run --silent check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	bash scripts/check-licences.sh
	# The fuzzer has a lock file of its own: after a change of dependencies, copy Cargo.lock over it.
	cargo metadata --locked --format-version 1 --manifest-path fuzz/engine/Cargo.toml >/dev/null
	shellcheck deploy.sh packaging/*.sh packaging/deb/muster-server/*inst packaging/deb/muster-server/*rm tests/src/hosts/*.sh scripts/*.sh benches/*.sh fuzz/engine/*.sh
	cargo build --workspace --bins --tests --locked
	cargo test --workspace --doc --locked --quiet
	bash scripts/run-tests.sh

fmt: ## Format the code.
	cargo fmt --all

lint: ## Lint the code; a warning is an error.
	cargo clippy --workspace --all-targets --locked -- -D warnings

openapi: ## Write the descriptions of API and agent protocol from the code; a test compares them.
	bash scripts/write-openapi.sh

fuzz: ## Fuzz everything that reads bytes from outside, SECONDS_EACH (default 60) for each target.
	bash scripts/fuzz.sh $(SECONDS_EACH)

bump: ## Raise the version of everything and start its section of the changelog: PART=patch, minor or major.
	@bash scripts/bump-version.sh $(PART)

images: ## Build the container images of server and agent: ENGINE=docker.
	bash scripts/build-images.sh

images-check: ## Build the images without an engine, from Debian's packages, and test them (needs root).
	bash scripts/check-images.sh

packages: ## Build .deb and .rpm of server and command line, and an archive for hosts, in dist/packages-VERSION.
	bash scripts/build-dashboard.sh
	cargo build --release --locked -p muster-server -p muster-cli
	$(MAKE) release-programs
	bash scripts/build-packages.sh

release-programs: ## Build the programs for hosts, for this platform, as releases contain them.
	cargo build --profile host --locked -p muster-agent -p muster-supervisor

release-build: ## Put an unsigned release together in dist/: PROGRAMS="PLATFORM=FOLDER …" FLOOR=VERSION.
	bash scripts/build-release.sh $(PROGRAMS)

soak: ## Run the chaos suite for a long time, then soak-contract and soak-dashboard: MINUTES=20 HOSTS=4 SEED=1 (default: a new seed).
	cargo build --workspace --bins --locked
	-$${CARGO_TARGET_DIR:-target}/debug/soak-networks --bytes 250000
	$${CARGO_TARGET_DIR:-target}/debug/soak --minutes $(or $(MINUTES),20) --hosts $(or $(HOSTS),4) $(if $(SEED),--seed $(SEED))
	$(MAKE) soak-contract
	$(MAKE) soak-dashboard

soak-dashboard: web ## Use the dashboard over many simulated agents (needs Node 20.19 and Chromium): AGENTS=10000.
	cargo build --workspace --bins --locked
	AGENTS=$(or $(AGENTS),10000) MUSTER_PROGRAMS=$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug node web/scripts/soak.mjs

soak-contract: ## Compare the server's answers with its OpenAPI document, on both databases: CONTRACT_MINUTES=10.
	bash scripts/install-test-tools.sh
	cargo build --workspace --bins --locked
	$${CARGO_TARGET_DIR:-target}/debug/soak-contract --minutes $(or $(CONTRACT_MINUTES),10)

access-delays: ## Measure sign-ins with known and unknown addresses, and revocations until their effect.
	cargo build --workspace --bins --locked
	$${CARGO_TARGET_DIR:-target}/debug/access-delays

soak-networks: ## Measure agents over slow, lossy and broken networks and under floods (needs root): BYTES=1000000 RATE=64.
	cargo build --workspace --bins --locked
	$${CARGO_TARGET_DIR:-target}/debug/soak-networks --bytes $(or $(BYTES),1000000) $(if $(RATE),--rate $(RATE))

soak-authority: ## Replace the authority of a server with many simulated agents, some of them away: HOSTS=500 AWAY_OF=10.
	cargo build --workspace --bins --locked
	$${CARGO_TARGET_DIR:-target}/debug/soak-authority --hosts $(or $(HOSTS),500) --away-of $(or $(AWAY_OF),10)

soak-updates: ## Update a working fleet to another version and back: HOSTS=200 WAVE=20.
	cargo build --workspace --bins --locked
	$${CARGO_TARGET_DIR:-target}/debug/soak-updates --hosts $(or $(HOSTS),200) --wave $(or $(WAVE),20)

bench: ## Measure the performance targets, each figure beside its anchor.
	bash benches/install-anchors.sh
	cargo build --release --workspace --bins --locked
	cargo build --profile host --locked -p muster-agent -p muster-supervisor
	cargo build --profile host --locked -p muster-benches --bin bare-client --bin bare-sleep
	$${CARGO_TARGET_DIR:-target}/release/muster-benches
