# make build    bin/hither and bin/hither-lab (no C compiler needed)
# make demo     see an app move between two hosts on this machine
# make test     everything, as you; started by root, also as an ordinary user
# make help     all of them

GO      ?= go
PREFIX  ?= $(HOME)/.local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)

LDFLAGS  := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
PROGRAMS := $(filter-out hither-gui,$(notdir $(wildcard cmd/*)))

# The tools of `make lint`, pinned.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4

.PHONY: build gui deps demo test bench lint install uninstall clean help

build:
	@mkdir -p bin
	@for p in $(PROGRAMS); do \
	  echo "build bin/$$p"; \
	  CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/$$p ./cmd/$$p || exit 1; \
	done

# The same flags everywhere, also in .ci/test: with others, Fyne is compiled once more, for minutes.
gui:
	@.ci/deps gui
	@mkdir -p bin
	@echo "build bin/hither-gui"
	@CGO_ENABLED=1 $(GO) build -trimpath -tags gui,migrated_fynedo -ldflags "$(LDFLAGS)" -o bin/hither-gui ./cmd/hither-gui

# Debian packages that demo and tests use; only the missing ones are installed, and only by root.
deps:
	@.ci/deps

demo: build
	@.ci/deps demo
	@bin/hither-lab demo --transcript demo-out/demo.txt --pictures demo-out

test: build
	@.ci/test

bench: build
	@.ci/bench

lint:
	@test -z "$$(gofmt -l cmd engine transport discovery gui 2>/dev/null)" || { gofmt -l cmd engine transport; echo "these files want gofmt"; exit 1; }
	$(GO) vet ./...
	@.ci/tool $(STATICCHECK) ./...
	@.ci/tool $(GOVULNCHECK) ./...

install: build
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 $(addprefix bin/,$(PROGRAMS)) "$(DESTDIR)$(PREFIX)/bin"
	@case ":$$PATH:" in *:"$(PREFIX)/bin":*) ;; *) echo "note: $(PREFIX)/bin is not in your PATH" ;; esac

uninstall:
	rm -f $(addprefix "$(DESTDIR)$(PREFIX)/bin"/,$(PROGRAMS))

clean:
	rm -rf bin demo-out

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
	@echo "make gui      bin/hither-gui, the desktop program (needs a C compiler)"
	@echo "make deps     install the Debian packages that demo and tests need, if they are missing"
	@echo "make bench    measure moves, with the machine named"
	@echo "make lint     gofmt, go vet, staticcheck, govulncheck"
	@echo "make install  into PREFIX, by default ~/.local"
