# repose: every command of the README, one line each. `make` alone lists them.
#
# The commands that need an environment depend on a stamp, so each of them works as the first command after a clone and costs
# nothing the second time. The stamp is named after the contents of requirements.lock and pyproject.toml (and the folder, because
# the package is installed in place); it is written last, so that a killed or failed set-up is taken up again by the next command.
# Written for GNU Make 3.81 (macOS) and later, and a POSIX shell.

.DEFAULT_GOAL := help
.SUFFIXES:
SHELL := /bin/sh

# What to run. Plain `=`: the command line sets these, a variable of the same name in somebody's shell does not.
# Without DATA each table takes the data that its rows name at that scale (synthetic people at mini).
PAPER = drpnet
SCALE = mini
DATA =
ARGS =

# Where to install. These may also be exported once: `export VENV=none TORCH=system`.
VENV ?= .venv
PYTHON ?=
PIPARGS ?=

# albumentations asks the network for a newer release of itself at import.
export NO_ALBUMENTATIONS_UPDATE = 1

PYTHON_IS_SUPPORTED = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
FIND_PYTHON = for p in $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	if $$p -c '$(PYTHON_IS_SUPPORTED)' >/dev/null 2>&1; then echo $$p; break; fi; done

LOCK_HASH := $(shell { echo '$(CURDIR)'; cat requirements.lock pyproject.toml; } | cksum | cut -d ' ' -f 1)
ifeq ($(VENV),none)
PY := $(shell $(FIND_PYTHON))
# A module's Python lies in a read-only prefix; pip then installs into the user's base, and so does the stamp.
STAMP_DIR := $(if $(PY),$(shell $(PY) -c 'import os, site, sys; print(sys.prefix if os.access(sys.prefix, os.W_OK) else site.getuserbase())'),.)
else
PY := $(VENV)/bin/python
STAMP_DIR := $(VENV)
endif
STAMP := $(STAMP_DIR)/.repose-$(LOCK_HASH)

# The choice made at set-up holds until it is changed: `make test` after `make setup TORCH=system` downloads no torch.
ifeq ($(origin TORCH),undefined)
TORCH := $(shell cat $(STAMP_DIR)/.repose-torch 2>/dev/null)
endif

REPOSE = $(PY) -m repose
# One process per core, a gigabyte each; a file's tests stay together, because they share what they trained.
PARALLEL = -n auto --maxprocesses 8 --dist loadfile
AT = $(strip scale=$(SCALE) $(if $(DATA),data=$(DATA)) $(ARGS))
RUN = --run $(AT)

# A lock entry is its first line and the indented hash lines below it; an entry is kept or dropped whole.
LOCK_WITHOUT_TORCH = awk '/^[A-Za-z0-9]/ { name = $$1; sub(/[=;\[].*/, "", name); \
	drop = name ~ /^(torch|torchvision|triton)$$/ || name ~ /^(nvidia|cuda)-/ } !drop' requirements.lock
LOCK_SETUPTOOLS = awk '/^[A-Za-z0-9]/ { keep = $$1 ~ /^setuptools==/ } keep' requirements.lock

##@ Tables and figures (PAPER=drpnet SCALE=mini DATA=coco-lite ARGS="seeds=3")

reproduce-table-%: $(STAMP) ## train what is missing, then print a table of PAPER: make reproduce-table-3
	@$(REPOSE) table $(PAPER)/$* $(RUN)

reproduce-figure-%: $(STAMP) ## the same for a figure with numbers
	@$(REPOSE) table $(PAPER)/fig-$* $(RUN)

reproduce: $(STAMP) ## the headline table of every paper, then one HTML page; stop it, and it goes on next time
	@$(REPOSE) reproduce $(AT)

reproduce-all: $(STAMP) ## every table and figure of every paper, likewise
	@$(REPOSE) reproduce --all $(AT)

report: $(STAMP) ## every table as one HTML page, from the runs that exist
	@$(REPOSE) report $(AT)

table-%: $(STAMP) ## print a table from the runs that exist, train nothing
	@$(REPOSE) table $(PAPER)/$* $(ARGS)

sweep-%: $(STAMP) ## run sweeps/%.yaml locally: make sweep-drpnet-roi-size
	@$(REPOSE) sweep sweeps/$*.yaml $(ARGS)

figures: $(STAMP) ## the pictures of the README, as PNG and PDF
	@$(REPOSE) figures $(ARGS)

data: $(STAMP) ## draw the synthetic people to disk
	@$(REPOSE) data synthesize $(ARGS)

demo: $(STAMP) ## a picture and a tiny table in a minute
	@$(REPOSE) demo $(ARGS)

##@ Set-up (TORCH=system keeps the torch that is there, VENV=none uses the active environment)

setup: $(STAMP) ## make .venv and install from requirements.lock; every other command does this when needed
	@:

doctor: $(STAMP) ## versions, hardware, and whether every part works
	@$(REPOSE) doctor $(ARGS)

lock: ## resolve requirements.lock again (ARGS=--upgrade for newer versions)
	@set -e; uv=$$(command -v uv || true); tmp=; \
	if [ -z "$$uv" ]; then \
		py=$$($(FIND_PYTHON)); [ -n "$$py" ] || { echo 'repose needs Python 3.11, 3.12 or 3.13'; exit 1; }; \
		tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
		$$py -m venv "$$tmp" && "$$tmp/bin/python" -m pip install -q $(PIPARGS) uv; uv=$$tmp/bin/uv; \
	fi; \
	"$$uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --no-annotate --extra dev $(ARGS) pyproject.toml -o requirements.lock; \
	echo "requirements.lock: $$(grep -c '^[A-Za-z0-9]' requirements.lock) packages"

$(STAMP):
	@set -e; \
	py=$$($(FIND_PYTHON)); \
	if [ -z "$$py" ]; then \
		echo 'set-up: repose needs Python 3.11, 3.12 or 3.13, and $(if $(PYTHON),$(PYTHON) is none,none is on PATH); name one with PYTHON=/path/to/python3.12'; \
		exit 1; \
	fi; \
	again=; quiet=; for old in $(STAMP_DIR)/.repose-[0-9]*; do if [ -e "$$old" ]; then again=yes; quiet=-q; rm -f "$$old"; fi; done; \
	if [ '$(VENV)' != none ]; then \
		if ! $(PY) -c '$(PYTHON_IS_SUPPORTED)' >/dev/null 2>&1 || ! $(PY) -m pip --version >/dev/null 2>&1; then \
			clear=; if [ -f $(VENV)/pyvenv.cfg ]; then clear=--clear; fi; again=; quiet=; \
			echo "set-up: making $(VENV) with $$($$py --version)"; \
			$$py -m venv $$clear $(if $(filter system,$(TORCH)),--system-site-packages) $(VENV) || { \
				echo "set-up: $$py cannot make a virtual environment (Debian and Ubuntu: install python3-venv), or use VENV=none"; exit 1; }; \
		fi; \
		py=$(PY); \
	fi; \
	lock=requirements.lock; flags=; \
	if [ '$(TORCH)' = system ]; then \
		$$py -c 'from importlib.metadata import version as v; print("set-up: keeping torch", v("torch"), "and torchvision", v("torchvision"), "(repose needs torch 2.11 or later)")' 2>/dev/null || { \
			echo 'set-up: TORCH=system, but this Python has no torch and torchvision: load their module, or activate their environment and add VENV=none'; exit 1; }; \
		lock=$(STAMP_DIR)/.repose-lock; flags=--no-deps; $(LOCK_WITHOUT_TORCH) > $$lock; \
	fi; \
	echo '$(TORCH)' > $(STAMP_DIR)/.repose-torch; \
	if [ -n "$$again" ]; then \
		echo 'set-up: requirements.lock or pyproject.toml changed; installing the difference'; \
	else case '$(TORCH)'-$$(uname -s) in \
		system-*) echo 'set-up: downloads about 0.3 GB (kept torch), 1.2 GB on disk';; \
		*-Linux) echo 'set-up: downloads about 3.3 GB (of that, torch and CUDA 3.0 GB), 6.8 GB on disk; TORCH=system keeps a torch that is there';; \
		*) echo 'set-up: downloads about 0.4 GB (torch without CUDA), 1.8 GB on disk';; \
	esac; fi; \
	$(LOCK_SETUPTOOLS) > $(STAMP_DIR)/.repose-build; \
	$$py -m pip install -q --disable-pip-version-check $(PIPARGS) --require-hashes --no-deps -r $(STAMP_DIR)/.repose-build; \
	$$py -m pip install $$quiet --disable-pip-version-check $(PIPARGS) --require-hashes --no-build-isolation --use-pep517 $$flags -r $$lock; \
	$$py -m pip install -q --disable-pip-version-check $(PIPARGS) --no-deps --no-build-isolation -e .; \
	touch $@; \
	echo 'set-up: done'

# For a test: what TORCH=system installs.
lock-without-torch:
	@$(LOCK_WITHOUT_TORCH)

##@ Development

check: $(STAMP) ## ruff, format, pyright, import-linter, nbstripout; under a minute
	@failed=; \
	step() { \
		name=$$1; shift; start=$$(date +%s); \
		if out=$$("$$@" 2>&1); then echo "$$name: ok ($$(($$(date +%s) - start)) s)"; \
		else echo "$$name: FAILED"; echo "$$out"; failed="$$failed $$name"; fi; \
	}; \
	step 'ruff check' $(PY) -m ruff check .; \
	step 'ruff format' $(PY) -m ruff format --check .; \
	step 'pyright' $(PY) -m pyright --pythonpath "$$($(PY) -c 'import sys; print(sys.executable)')"; \
	step 'import-linter' $(PY) -c 'from importlinter.cli import lint_imports_command as c; c()' --no-cache; \
	notebooks=$$(find notebooks -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*' 2>/dev/null || true); \
	if [ -n "$$notebooks" ]; then step 'nbstripout' $(PY) -m nbstripout --verify $$notebooks; fi; \
	if [ -n "$$failed" ]; then echo "make check:$$failed failed"; exit 1; fi

format: $(STAMP) ## let ruff repair what it can
	@$(PY) -m ruff check --fix -q . || true
	@$(PY) -m ruff format .

test: $(STAMP) ## the fast tests, under 8 minutes on 2 cores
	@$(PY) -m pytest -q $(PARALLEL) -m 'not slow' $(ARGS)

test-all: $(STAMP) ## every test
	@$(PY) -m pytest -q $(PARALLEL) $(ARGS)

clean: ## remove caches, build products and figures; runs/ and .venv stay
	@rm -rf build dist figures demo .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## clean, and remove .venv: the next command installs again; runs/ stays
	@if [ '$(VENV)' = none ]; then echo 'distclean: VENV=none, the active environment stays'; \
	elif [ -f $(VENV)/pyvenv.cfg ]; then echo 'distclean: removing $(VENV); the next command downloads and installs again'; rm -rf $(VENV); fi

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z%-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' Makefile

.PHONY: reproduce reproduce-all report figures data demo setup doctor lock lock-without-torch check format test test-all clean distclean help
