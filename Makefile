# Every target is one line: the work is in scripts/ and in the go tool.
GO ?= go
DESTDIR ?=
PREFIX ?= /usr/local

.PHONY: build test test-short test-full bench lint install clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o .build/dib ./cmd/dib

test:
	./scripts/test

test-short:
	./scripts/test -short

test-full:
	DIB_TEST_FULL=1 ./scripts/test
	./scripts/fuzz

bench:
	./scripts/install-test-deps
	$(GO) run ./bench

lint:
	./scripts/lint

install: build
	install -D -m 0755 .build/dib $(DESTDIR)$(PREFIX)/bin/dib
	for name in $(filter-out dib,$(notdir $(wildcard bin/*))); do ln -sf dib $(DESTDIR)$(PREFIX)/bin/$$name || exit 1; done

clean:
	rm -rf .build
