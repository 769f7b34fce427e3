# Rotpeter: `make` alone lists the targets.
#
# What is needed: Go (the version in go.mod or newer). `make race` and `make race-load` also need a
# C compiler; `make compat` also Python 3, Node.js, Java 17 with Maven, and kcat, and `make
# checker` Python 3: what they cannot install or find they report as not run (compat/doc.go).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go

# What `rotpeter version` says: the nearest tag and commit, or the content of a
# file VERSION where there is no git history (a source archive).
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || cat VERSION 2>/dev/null || echo unknown)

# Rooms with goroutines, locks or atomics: where a data race can be. The pure
# rooms (log/batch, coordinator/group, metadata, config) have none by rule.
RACE := ./broker/... ./cmd/... ./coordinator ./internal/... ./log ./protocol/...

# Tests that crash and damage thousands of disks side by side: `make test` runs them whole. Under the race detector
# they are slow, and its own runtime has ended with a failed check among so many short lives.
CRASHES := AtEveryChange$$|AtEveryCall$$|OfEveryFile$$|UnderABroker$$|OfABroker$$|RandomDamage$$

# Rooms whose cost per request or per byte is watched.
HOT := ./broker ./log/... ./protocol

# Time for each fuzz target of `make fuzz`, and flags for each run of tests.
FUZZTIME ?= 10s
TESTFLAGS ?=
COMPATFLAGS ?=

# How long `make race-load` goes on; it ends with the round that is running then.
RACETIME ?= 10m

# Flags of `make bench` and `make bench-quick`.
BENCHFLAGS ?=

# Suites of `make compat`, comma-separated; empty is all of them.
ONLY ?=

.PHONY: help
help: ## list the targets
	@echo 'Rotpeter $(VERSION)'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/rotpeter: one static file, no cgo
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/rotpeter ./cmd/rotpeter

.PHONY: run
run: build ## run a broker on localhost:9092 (metrics on localhost:9644), data in ./data
	exec bin/rotpeter --data ./data --listen localhost:9092 --http localhost:9644

.PHONY: test
test: ## run all tests of the Go packages, with the seeds of the fuzz targets
	$(GO) test $(TESTFLAGS) ./...

.PHONY: race
race: ## run the tests of the rooms that share memory under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -short -skip '$(CRASHES)' $(TESTFLAGS) $(RACE)

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (10s each unless told)
	@grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
	    echo "== $$target in $$(dirname "$$file"), $(FUZZTIME)"; \
	    $(GO) test "$$(dirname "$$file")" -run '^$$' -fuzz "^$$target$$" -fuzztime '$(FUZZTIME)'; \
	  done; \
	done

.PHONY: golden
golden: ## rewrite the expected results of the scripts in testdata from what the code does now: read the diff
	@$(GO) test $$(grep -rlE --include='*_test.go' 'flag\.Bool\("golden"' . | xargs -r -n1 dirname | sort -u) -golden
	@git status --short -- '*testdata*' docs

.PHONY: compat
compat: build ## run real clients and tools against the built broker (ONLY=swap or ONLY=clients,dump: these suites; COMPATFLAGS: see go run ./compat -help)
	$(GO) run ./compat $(if $(ONLY),-suite '$(ONLY)') $(COMPATFLAGS)

.PHONY: poison
poison: ## run the tests and the real clients against a build that overwrites what goes back to its pools (internal/poison)
	$(GO) test -tags poison -short -skip '$(CRASHES)' $(TESTFLAGS) ./internal/poison ./log ./protocol ./broker
	CGO_ENABLED=0 $(GO) build -tags poison -o bin/rotpeter-poison ./cmd/rotpeter
	$(GO) run ./compat -bin bin/rotpeter-poison -suite '$(or $(ONLY),clients,corpus,transactions)' $(COMPATFLAGS)

.PHONY: race-load
race-load: ## run every real client for RACETIME (10m) against a broker with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) build -race -o bin/rotpeter-race ./cmd/rotpeter
	$(GO) run ./compat -bin bin/rotpeter-race -race -for '$(RACETIME)' -lines 20000 -suite '$(or $(ONLY),clients,groups,transactions,corpus)' $(COMPATFLAGS)

.PHONY: mutants
mutants: ## show that the tests see each of the seeded bugs, and how fast (ONLY=stable: those whose name matches; CHECKER=40s: by the checker, too)
	$(GO) run ./internal/mutant/hunt -crashes '$(CRASHES)' $(if $(ONLY),-only '$(ONLY)') $(if $(CHECKER),-checker '$(CHECKER)')

# How long the workload checker runs, and the seed of its clients and faults; without one each run has another.
DURATION ?= 60s
SEED ?= $(shell date +%s)

.PHONY: checker
checker: build ## clients write and read while the broker is killed, paused and restarted: 60s, or DURATION=1h; SEED=N again (compat/README.md)
	$(GO) run ./compat -suite checker -duration '$(DURATION)' -seed '$(SEED)' $(COMPATFLAGS)

.PHONY: bench
bench: build ## measure the broker side by side with Apache Kafka, kfake and the null broker; report in bench/report (BENCHFLAGS: see go run ./bench -help)
	$(GO) build -o bin/bench ./bench
	bin/bench $(BENCHFLAGS)

.PHONY: bench-quick
bench-quick: build ## the same in about five minutes: fewer scenarios, short runs, without kfake
	$(GO) build -o bin/bench ./bench
	bin/bench -quick $(BENCHFLAGS)

.PHONY: bench-go
bench-go: ## run the Go benchmarks of the hot rooms
	$(GO) test -run '^$$' -bench . -benchmem $(TESTFLAGS) $(HOT)

.PHONY: lint
lint: ## check the formatting (gofmt), go vet, staticcheck
	@unformatted=$$(find . -name '*.go' -not -path './.*' -not -path '*/node_modules/*' -exec gofmt -l {} +); \
	  if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags mutants ./internal/mutant
	$(GO) vet -tags poison ./internal/poison ./log ./protocol ./broker
	$(GO) tool staticcheck ./...

.PHONY: docs
docs: ## write docs/CONFIG.md and docs/APIS.md again from the tables in the code
	$(GO) test ./config ./broker -run 'MarkdownIsCurrent$$' -golden

.PHONY: check
check: lint test race ## everything that must hold before a change lands: lint, test (with arch test and docs), race, 60s of checker
	$(GO) mod verify
	$(MAKE) checker DURATION=60s

.PHONY: clean
clean: ## remove what was built (bin); data is kept
	rm -rf bin
