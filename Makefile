# Reeve. A bare `make` lists the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
GO ?= go
IMAGE ?= reeve-scanner:dev
VERSION ?= 0.1.0
REGISTRY ?=
TOOL := $(GO) tool -modfile=tools/go.mod
# As released; and what is built once serves build, tests and checks.
export CGO_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help docs test-docs build image images release manifests demo test test-unit test-e2e check lint generate soak bench bench-forward bench-scale bench-queue parity deps cluster fuzz tidy

help: ## list the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

build: ## build ./reeve
	$(GO) build -trimpath -ldflags="-s -w" -o reeve ./cmd/reeve
	@install reeve reeve.tmp && mv reeve.tmp reeve # as from an archive: what a linker wrote, Linux may keep in memory by 2 MiB

image: ## build reeve-scanner.tar, the image of ephemeral containers and sidecars, for linux/amd64 and arm64
	$(GO) run ./deploy/image -o reeve-scanner.tar -name $(IMAGE) -arch amd64,arm64

images: ## build the images of hub, agent and scanner for linux/amd64 and arm64, VERSION, REGISTRY/: reeve*.tar
	for p in reeve reeve-agent reeve-scanner; do \
	  $(GO) run ./deploy/image -program $$p -version $(VERSION) -name $(REGISTRY)$$p:$(VERSION) -arch amd64,arm64 -level 9 -o $$p.tar; done

release: ## build everything that a release of VERSION consists of, in dist/; KEY names a file that signs it, URL where it will be found
	$(GO) run ./internal/ci/release -version $(VERSION) -registry "$(REGISTRY)" $(if $(KEY),-key $(KEY)) $(if $(URL),-url $(URL))

manifests: ## write deploy/reeve-hub.yaml and reeve-agent.yaml from the charts
	cd e2e && $(GO) run ./cmd/manifests

demo: build ## see Reeve do its job on this machine, with nothing installed
	@./reeve demo # go run would end with an error on Ctrl-C

test: deps ## every test: unit, integration, end to end; installs what they need when it is root
	./internal/ci/with-cluster ./internal/ci/test

test-unit: ## the tests of the main module alone
	$(GO) test ./...

test-e2e: deps ## the tests against a real Kubernetes alone
	cd e2e && $(GO) test -count=1 -timeout 20m ./...

test-docs: deps ## every command, file, link and name in the documents alone
	./internal/ci/with-cluster $(GO) test -count=1 ./internal/docs
	$(GO) test ./cmd/reeve -run TestReference

docs: ## write docs/reference again, which is made of the code
	$(GO) test ./internal/docs -run TestReference -update
	$(GO) test ./cmd/reeve -run TestReference -update-reference

deps: ## install the Debian packages that the tests need (as root; else it only says what is missing)
	@./internal/ci/deps

check: lint ## formatting, vet, staticcheck, errorlint, known vulnerabilities, fresh generated code
	./internal/ci/vulncheck
	./internal/ci/fresh

lint: ## gofumpt, vet, staticcheck, errorlint
	./internal/ci/lint

generate: ## write generated code again
	./internal/ci/generate

soak: ## 100,000 alerts to a sink that fails, hangs and is killed, while the hub is killed 20 times; on SQLite and PostgreSQL
	$(GO) test ./cmd/reeve -run TestOutbox_losesNothing -full -count=1 -timeout 30m -v

bench: ## speed and memory, beside the floor or the peer that each row names
	$(GO) run ./internal/bench

bench-forward: ## forwarding alone: requests beside two proxies in a row, one stream on a far path, 10 GiB bodies
	$(GO) run ./internal/bench -only forward
	$(GO) run ./internal/bench -only stream

bench-scale: ## 10,000 idle agents on one hub: memory, and the time to join and to come back
	$(GO) run ./internal/bench -only scale

bench-queue: ## the queue of scans: 1,000 at once, then 500 agents at 100 a second, and what it takes of the hub's memory
	$(GO) run ./internal/bench -only queue

parity: ## hold the profile engine against the real InSpec's verdicts (as root; the first run makes the targets)
	$(GO) run ./internal/parity

fuzz: ## fuzz every parser of foreign bytes, FUZZTIME each (default 30s)
	./internal/ci/fuzz

cluster: deps ## keep the tests' Kubernetes running, to try things by hand
	cd e2e && $(GO) run ./cmd/cluster

tidy: ## go mod tidy in each module
	$(GO) mod tidy -e # one test of a dependency needs a module that may not be served
	cd e2e && $(GO) mod tidy
