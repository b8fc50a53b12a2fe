# callmask. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

GOLANGCI_LINT_VERSION := v2.15.0
HELM_VERSION := v3.22.0
NATSCLI_VERSION := v0.5.0
DATA ?= data
ARGS ?=
PACKAGES ?= ./...
BENCH ?= .
BENCHTIME ?= 1x
OUT ?= bench/out
FUZZTIME ?= 10s
# `make test` vets once, before the tests.
TESTFLAGS ?= -timeout 8m -vet=off

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

.PHONY: run
run: deps build ## install what is missing, build, start everything with a demo pool (DATA=data, ARGS=flags of `callmask all`)
	@exec bin/callmask all --demo --data-dir $(DATA) --log-format console $(ARGS)

.PHONY: demo
demo: deps build ## play the whole story of a masked call in the terminal
	@exec bin/callmask demo $(ARGS)

.PHONY: cluster
cluster: deps build ## a 3+3 Redis Cluster, 3 NATS servers and two of each role, to play with (ARGS=flags, see --help)
	@go build -o bin/cluster ./internal/tools/cluster && exec bin/cluster $(ARGS)

.PHONY: cluster-live
cluster-live: deps ## change a Redis Cluster under load: failovers, 50,000 keys moved, nodes come and go; restart every role (3 minutes)
	CALLMASK_E2E_LIVE=1 go test -count=1 -tags faults -v -run 'TestLiveChanges|TestRollingRestart' ./internal/e2e

.PHONY: chaos
chaos: deps ## kill, freeze, empty, fill and cut off everything under load, then count (CHAOS_TIME=3m, CHAOS_SEED, CHAOS_FAULTS=regexp)
	CHAOS_TIME=$${CHAOS_TIME:-3m} go test -count=1 -tags faults -v -timeout 0 -run TestChaos ./internal/chaos

.PHONY: test
test: deps-test warm build vet lint verify rules alloc browser race ## everything but `make faults`: build, vet, lint, generated files, all tests; installs what it needs
	@echo "test: everything passed"

.PHONY: race
race: deps-test ## all tests (fuzz seeds included) with the race detector, in random order (PACKAGES=./...)
	go test -race -shuffle=on $(TESTFLAGS) $(PACKAGES)

.PHONY: alloc
alloc: deps ## the tests that run without the race detector: allocations, the largest numbers, and Redis lost or answering badly
	@files=$$(git grep -l '^//go:build !race' -- '*_test.go'); \
	names=$$(sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/\1/p' $$files | paste -sd '|' -); \
	echo "go test -run '^($$names)\$$'"; \
	go test -count=1 -run "^($$names)\$$" $$(dirname $$files | sort -u | sed 's|^|./|')

# Their deadlines are real ones, so they have the machine for themselves.
.PHONY: faults
faults: deps ## tests on clusters whose servers are killed, frozen and moved, one after the other
	@files=$$(git grep -l '^//go:build faults' -- '*_test.go'); \
	names=$$(sed -n 's/^func \(Test[A-Z][A-Za-z0-9_]*\)(.*/\1/p' $$files | paste -sd '|' -); \
	dirs=$$(dirname $$files | sort -u | sed 's|^|./|'); \
	echo "go test -tags faults -p 1 -parallel 1 -run '^($$names)\$$'"; \
	go test -count=1 -tags faults -p 1 -parallel 1 -timeout 6m -vet=off -run "^($$names)\$$" $$dirs

.PHONY: browser
browser: deps-test ## the tests of the console in a real Chromium; screenshots in bin/screenshots
	go test -count=1 -tags browser ./internal/browser

.PHONY: assets
assets: ## fetch uPlot and axe-core again and check them against their hashes
	console/assets/fetch

.PHONY: fuzz
fuzz: ## fuzz every fuzz target for FUZZTIME=10s each (the tests only run their seeds)
	@git grep -n '^func Fuzz' -- '*_test.go' | sed -E 's|^(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9_]*).*|\1 \2|' | \
	while read -r dir name; do go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) ./$$dir; done

# The long builds at once: none keeps two cores busy by itself.
.PHONY: warm
warm: deps-test
	@{ .ci/tools $(GOLANGCI_LINT_VERSION) && .ci/tools helm $(HELM_VERSION) && .ci/tools nats $(NATSCLI_VERSION); } >/dev/null & tools=$$!; go build -race ./...; wait $$tools

.PHONY: vet
vet:
	go vet ./...
	go vet -tags faults,browser,failpoints ./...

.PHONY: lint
lint: deps-test ## golangci-lint (import rules included) and luacheck
	@linter=$$(.ci/tools $(GOLANGCI_LINT_VERSION)); echo "golangci-lint run"; "$$linter" run
	luacheck --quiet scripts

.PHONY: fmt
fmt: ## format the Go files as the linter wants them
	@linter=$$(.ci/tools $(GOLANGCI_LINT_VERSION)); "$$linter" fmt

.PHONY: generate
generate: ## write all generated files anew, golden files of the scripts included
	go generate ./...
	CALLMASK_GENERATE=1 go test -count=1 ./scripts
	CALLMASK_GENERATE=1 go test -count=1 -run ARunningSystemSpeaks ./cmd/callmask/app

.PHONY: rules
rules: deps-test ## the alert rules against their own tests
	promtool check rules deploy/prometheus/callmask.rules.yml
	cd deploy/prometheus && promtool test rules callmask.rules_test.yml

.PHONY: verify
verify: ## generated files, go.mod and go.sum are up to date
	.ci/verify

.PHONY: bench
bench: deps ## measure callmask against its peers, in about six minutes; goals and what was reached (ARGS=flags of `bench run`, OUT=dir)
	@go build -trimpath -o bin/bench ./bench && exec bin/bench run --out $(OUT) $(ARGS)

.PHONY: bench-full
bench-full: deps ## the same with everything that takes long: every figure of docs/performance.md (about an hour)
	@go build -trimpath -o bin/bench ./bench && exec bin/bench run --full --out $(OUT) $(ARGS)

.PHONY: bench-short
bench-short: deps ## a moment of every scenario: shows that the harness works, and nothing else
	@go build -trimpath -o bin/bench ./bench && exec bin/bench run --full --short --out $(OUT) $(ARGS)

.PHONY: microbench
microbench: ## run the Go benchmarks (BENCH=regexp, BENCHTIME=1x)
	go test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) $(PACKAGES)

.PHONY: ci
ci: ## what CI runs
	.ci/run

.PHONY: build
build: ## build bin/callmask
	go build -o bin/callmask ./cmd/callmask

.PHONY: release
release: ## static binaries for linux and darwin with what is in them and checksums, in dist/ (PLATFORMS="linux/amd64 …", OUT=dist)
	.ci/release

.PHONY: deps
deps: ## install redis-server if it is missing
	@command -v go >/dev/null || { echo "callmask needs Go: https://go.dev/dl" >&2; exit 1; }
	@.ci/install redis-server

.PHONY: deps-test
deps-test: ## install what the tests and linters need: redis-server, compilers, and the programs that our files are for
	@command -v go >/dev/null || { echo "callmask needs Go: https://go.dev/dl" >&2; exit 1; }
	@.ci/install redis-server luacheck gcc promtool systemd-analyze node npm python3 kamailio chromium

.PHONY: tools
tools: ## build the pinned linter, helm and nats, once
	@.ci/tools $(GOLANGCI_LINT_VERSION)
	@.ci/tools helm $(HELM_VERSION)
	@.ci/tools nats $(NATSCLI_VERSION)
