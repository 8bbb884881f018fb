# Isthmus. `make run` starts everything; `make test` tests everything.

GO       ?= go
TOOL     := $(GO) tool -modfile=$(CURDIR)/deploy/tools/tools.mod
RUN      ?=
BENCH    ?=
TESTARGS ?=
PACKAGES ?= ./...

export GOFLAGS := -buildvcs=false $(GOFLAGS)

.PHONY: run build test peers bench bench-media generate checkgenerate lint clean

# The all-in-one: both planes, a demo OAuth server, a simulated telco network and
# a softphone. RUN="--config my.yaml" passes flags on.
run:
	CGO_ENABLED=0 $(GO) build -o bin/isthmus ./deploy/cmd/isthmus
	bin/isthmus run $(RUN)

build:
	CGO_ENABLED=0 $(GO) build -o bin/ ./deploy/cmd/isthmus ./controlplane/cmd/controlplane ./mediaplane/cmd/mediaplane ./loadtest/cmd/loadtest

# Installs the peers that the tests talk to, then runs every test. Those with
# browsers and real peers come one package after the other: they are timed by
# what they talk to, not by the race detector.
test: peers
	$(GO) test -race -timeout 15m $(TESTARGS) $$($(GO) list ./... | grep -v -e /deploy/e2e -e /deploy/softphone -e /deploy/example)
	$(GO) test -p 1 -timeout 15m $(TESTARGS) ./deploy/softphone/... ./deploy/example/... ./deploy/e2e/...

peers:
	@deploy/peers.sh

# Where a benchmark reports many figures, each gets a line of its own.
bench: SHELL := /bin/bash
bench:
	@set -o pipefail; $(GO) test -run '^$$' -bench . -benchmem $(PACKAGES) | \
		sed -uE -e '/^(\?|ok|PASS|goos|goarch|cpu)/d' -e '/^Benchmark.*(_ms|\/s|\/call|\/device)/ s/\t */\n\t/g'

# Measures rtpengine in user space and the node's engines beside each other, as
# root, for about 15 minutes. BENCH=--short tries it; see bin/loadtest bench --help.
bench-media: peers
	CGO_ENABLED=0 $(GO) build -o bin/ ./loadtest/cmd/loadtest ./mediaplane/cmd/mediaplane
	bin/loadtest bench $(BENCH)

# Everything that is generated and committed. Without clang-19 the BPF object stays
# as it is.
generate:
	cd proto && $(TOOL) buf generate
	$(TOOL) sqlc generate -f sql/sqlc.yaml
	$(GO) generate ./...

checkgenerate: peers generate
	@changed=$$(git status --porcelain); if [ -n "$$changed" ]; then \
		echo "generated files differ from what is committed:"; echo "$$changed"; git diff | head -100; exit 1; fi

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	cd proto && $(TOOL) buf lint

clean:
	rm -rf bin .isthmus
