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

.PHONY: build gui deps demo test bench lint install install-files uninstall deb clean help

build:
	@mkdir -p bin
	@for p in $(PROGRAMS); do \
	  echo "build bin/$$p"; \
	  CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/$$p ./cmd/$$p || exit 1; \
	done

# The same flags everywhere, also in .ci/test: with others, Fyne is compiled once more, for minutes.
# No animations: a blinking cursor alone takes a seventh of a core where there is no GPU.
gui:
	@.ci/deps gui
	@mkdir -p bin
	@echo "build bin/hither-gui"
	@CGO_ENABLED=1 $(GO) build -trimpath -tags gui,migrated_fynedo,no_animations -ldflags "$(LDFLAGS)" -o bin/hither-gui ./cmd/hither-gui

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
	@test -z "$$(gofmt -l assets cmd discovery engine gui transport)" || { gofmt -l assets cmd discovery engine gui transport; echo "these files want gofmt"; exit 1; }
	$(GO) vet ./...
	@.ci/tool $(STATICCHECK) ./...
	@.ci/tool $(GOVULNCHECK) ./...

# For you alone by default; for all with PREFIX=/usr/local, as root. It starts nothing and enables nothing.
install: build install-files
	@case ":$$PATH:" in *:"$(PREFIX)/bin":*) ;; *) echo "note: $(PREFIX)/bin is not in your PATH" ;; esac
	@[ -e bin/hither-gui ] || echo "note: without the window; \`make gui\` makes it"
	@[ -n "$(DESTDIR)" ] || echo "To have the daemon at work from login on:  systemctl --user daemon-reload && systemctl --user enable --now hither"
	@[ -n "$(DESTDIR)" ] || echo "What works on this machine, and what does not:  hither doctor"

BIN     ?= bin
UNITDIR ?= $(PREFIX)/share/systemd/user
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions
SHARE    = $(DESTDIR)$(PREFIX)/share

install-files:
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(BIN)/hither" "$(DESTDIR)$(PREFIX)/bin/.hither.new"
	mv -f "$(DESTDIR)$(PREFIX)/bin/.hither.new" "$(DESTDIR)$(PREFIX)/bin/hither"
	install -d "$(DESTDIR)$(UNITDIR)" "$(SHARE)/bash-completion/completions" "$(DESTDIR)$(ZSHDIR)" "$(SHARE)/fish/vendor_completions.d" "$(SHARE)/man/man1"
	sed 's|@BINDIR@|$(PREFIX)/bin|' assets/hither.service >"$(DESTDIR)$(UNITDIR)/hither.service"
	"$(BIN)/hither" completion bash >"$(SHARE)/bash-completion/completions/hither"
	"$(BIN)/hither" completion zsh >"$(DESTDIR)$(ZSHDIR)/_hither"
	"$(BIN)/hither" completion fish >"$(SHARE)/fish/vendor_completions.d/hither.fish"
	gzip -9nc assets/hither.1 >"$(SHARE)/man/man1/hither.1.gz"
	@if [ -e "$(BIN)/hither-gui" ]; then set -ex; \
	  install -m 755 "$(BIN)/hither-gui" "$(DESTDIR)$(PREFIX)/bin/.hither-gui.new"; \
	  mv -f "$(DESTDIR)$(PREFIX)/bin/.hither-gui.new" "$(DESTDIR)$(PREFIX)/bin/hither-gui"; \
	  install -d "$(SHARE)/applications" "$(SHARE)/icons"; \
	  install -m 644 assets/hither-gui.desktop "$(SHARE)/applications"; \
	  gzip -9nc assets/hither-gui.1 >"$(SHARE)/man/man1/hither-gui.1.gz"; \
	  cd assets/icons; find hicolor -type f -exec install -D -m 644 {} "$(SHARE)/icons/{}" \;; \
	fi

uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/bin/hither" "$(DESTDIR)$(PREFIX)/bin/hither-gui" "$(DESTDIR)$(UNITDIR)/hither.service" \
	  "$(SHARE)/bash-completion/completions/hither" "$(DESTDIR)$(ZSHDIR)/_hither" "$(SHARE)/fish/vendor_completions.d/hither.fish" \
	  "$(SHARE)/man/man1/hither.1.gz" "$(SHARE)/man/man1/hither-gui.1.gz" "$(SHARE)/applications/hither-gui.desktop"
	cd assets/icons && find hicolor -type f -exec rm -f "$(SHARE)/icons/{}" \;

# Debian packages in dist/: of the window too, if `make gui` has made it.
deb: build
	@assets/debian/make-deb "$(VERSION)" dist

clean:
	rm -rf bin dist demo-out

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
	@echo "make gui      bin/hither-gui, the desktop program (needs a C compiler)"
	@echo "make deps     install the Debian packages that demo and tests need, if they are missing"
	@echo "make bench    measure moves, with the machine named"
	@echo "make lint     gofmt, go vet, staticcheck, govulncheck"
	@echo "make install  into PREFIX, by default ~/.local"
	@echo "make deb      Debian packages, in dist/"
