# The commands of this repository. `make help` lists them.

.DEFAULT_GOAL := help
# How long `make fuzz` takes for each target.
SECONDS_EACH ?= 60

.PHONY: help build demo demo-stop test fmt lint openapi fuzz bench soak soak-updates bump images images-check release-programs release-build

help: ## Show this list.
	@awk -F':.*## ' '/^[a-z -]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build every program, without optimisation.
	cargo build --workspace --bins --locked

demo: ## Start a server and a supervised agent under .demo/ and run a script through REST.
	@bash scripts/start-demo.sh

demo-stop: ## End what `make demo` started and remove .demo/.
	@bash scripts/stop-demo.sh

test: ## Install what is missing, then check format, lints and dependencies and run every test.
	bash scripts/install-test-tools.sh
	bash scripts/build-previous.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	bash scripts/check-licences.sh
	shellcheck deploy.sh tests/src/hosts/*.sh scripts/*.sh benches/*.sh fuzz/engine/*.sh
	cargo build --workspace --bins --tests --locked
	cargo test --workspace --doc --locked --quiet
	cargo nextest run --workspace --bins --tests --locked

fmt: ## Format the code.
	cargo fmt --all

lint: ## Lint the code; a warning is an error.
	cargo clippy --workspace --all-targets --locked -- -D warnings

openapi: ## Write server/openapi.json anew; the tests hold it against the code.
	cargo run --quiet --locked -p muster-server -- openapi >server/openapi.json.new
	mv server/openapi.json.new server/openapi.json

fuzz: ## Fuzz whatever reads bytes from outside, SECONDS_EACH (60) for each target.
	bash scripts/fuzz.sh $(SECONDS_EACH)

bump: ## Raise the version of everything, and start its part of the changelog: PART=patch, minor or major.
	@bash scripts/bump-version.sh $(PART)
	$(MAKE) openapi

images: ## Build the container images of server and agent: ENGINE=docker.
	bash scripts/build-images.sh

images-check: ## Build the images without an engine, from Debian's packages, and run the tests on what comes of it (root).
	bash scripts/check-images.sh

release-programs: ## Build what lives on hosts, for this platform, as releases have it.
	cargo build --profile host --locked -p muster-agent -p muster-supervisor

release-build: ## Put an unsigned release together in dist/: PROGRAMS="PLATFORM=FOLDER …" FLOOR=VERSION.
	bash scripts/build-release.sh $(PROGRAMS)

soak: ## Run the chaos suite for long: MINUTES=20 HOSTS=4 SEED=1 (a new one unless given).
	cargo build --workspace --bins --locked
	$${CARGO_TARGET_DIR:-target}/debug/soak --minutes $(or $(MINUTES),20) --hosts $(or $(HOSTS),4) $(if $(SEED),--seed $(SEED))

soak-updates: ## Send a working fleet to another version and back: HOSTS=200 WAVE=20.
	cargo build --workspace --bins --locked
	$${CARGO_TARGET_DIR:-target}/debug/soak-updates --hosts $(or $(HOSTS),200) --wave $(or $(WAVE),20)

bench: ## Measure the performance targets, each figure beside its anchor.
	bash benches/install-anchors.sh
	cargo build --release --locked -p muster-server -p muster-benches
	cargo build --profile host --locked -p muster-agent -p muster-supervisor
	cargo build --profile host --locked -p muster-benches --bin bare-client --bin bare-sleep
	$${CARGO_TARGET_DIR:-target}/release/muster-benches
