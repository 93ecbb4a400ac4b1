# Two commands are enough: `make demo` and `make test`. Both make .venv when it is not there.
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DEMO_OUT ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help demo studio test check bench lowest lock audit clean

help:  ## Say what the targets do
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh
	@VENV="$(VENV)" scripts/setup.sh

demo: $(STAMP)  ## Set up, follow an object through a generated clip, say where the video is
	@$(VENV)/bin/vision-mem demo --out "$(DEMO_OUT)" --overwrite

studio: $(STAMP)  ## Set up and open the studio's page on the demo clip: click a thing, it is followed
	@$(VENV)/bin/vision-mem studio demo

test: $(STAMP)  ## Set up and run everything: format, lint, types, spelling, all tests
	@VENV="$(VENV)" scripts/check.sh all

check: $(STAMP)  ## The same with the quick tests only: run it before each commit
	@VENV="$(VENV)" scripts/check.sh

bench: $(STAMP)  ## Measure speed and memory of the tracking engine on this machine
	@$(PY) scripts/bench/tracking.py

lowest:  ## Try the lowest versions that pyproject.toml admits, in an environment of their own
	@scripts/lowest.sh

lock: $(STAMP)  ## Write requirements.lock anew: every version of constraints.txt with its hashes
	@VENV="$(VENV)" scripts/audit.sh lock

audit: $(STAMP)  ## Look for known weaknesses of the pinned versions, where a database is reached
	@VENV="$(VENV)" scripts/audit.sh

clean:  ## Remove the environment, caches and builds (results in runs/ stay)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
