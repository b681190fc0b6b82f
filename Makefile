# Each target sets up what it needs. `make` alone lists the targets.
# The make of macOS is 3.81: it exports no variable in the line that overrides it, and knows no .SHELLFLAGS.
override SHELL := /bin/bash
export SHELL
.SHELLFLAGS := -p -eu -o pipefail -c  # -p: read neither BASH_ENV nor functions from the environment
.DEFAULT_GOAL := help
.NOTPARALLEL:

override VENV := .venv
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.chaos $(VENV)/.remote $(VENV)/.sweep $(VENV)/.team
LONG := $(addprefix tests/,core/test_environment.py promotion/test_base_model.py promotion/test_slice_tests.py \
	serving/test_container.py serving/test_elsewhere.py test_adopt.py test_explore.py test_label.py test_pipeline.py \
	test_predict.py test_retrain.py test_score.py test_sweep.py test_team.py test_ui.py test_validate.py test_wheel.py \
	tracking/test_runs.py training/test_fit.py)  # have long tests
PEERS := $(VENV)/peers/.ready
override PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PATH

# Options count only on the command line of make: CI services and hosts set variables of the same names. Values are not expanded.
FLAGS := ACCEPT CHECK DRY FIRST RESUME TAG TWICE
VALUES := ALIAS ALERT BASE DATA NAME ONLY PORT PYTHON REQUIRE RESULT SEED SIZE SOURCE URL
given = $(if $(filter command,$(origin $1)),$$(value $1))
$(foreach name,$(VALUES),$(eval override $(name) := $(call given,$(name))))
$(foreach name,$(FLAGS),$(eval override $(name) := $$(filter-out 0 no false,$(call given,$(name)))))
export $(FLAGS) $(VALUES)

# Packages go only into .venv, and only its Python runs. Settings that say where packages come from are kept.
KEPT := UV_CACHE_DIR UV_CONCURRENT_% UV_CONFIG_FILE UV_CREDENTIALS_DIR UV_DEFAULT_INDEX UV_EXTRA_INDEX_URL UV_FIND_LINKS \
	UV_HTTP_% UV_INDEX UV_INDEX_% UV_INSECURE_HOST UV_KEYRING_PROVIDER UV_LINK_MODE UV_NATIVE_TLS UV_NO_CACHE UV_NO_INDEX \
	UV_NO_PROGRESS UV_OFFLINE UV_PYTHON_DOWNLOADS% UV_PYTHON_INSTALL_% UV_REQUEST_TIMEOUT UV_SYSTEM_CERTS PIP_CACHE_DIR PIP_CERT \
	PIP_CLIENT_CERT PIP_CONFIG_FILE PIP_DEFAULT_TIMEOUT PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_INDEX_URL PIP_KEYRING_PROVIDER \
	PIP_NO_CACHE_DIR PIP_NO_INDEX PIP_PROXY PIP_RETRIES PIP_TIMEOUT PIP_TRUSTED_HOST PIP_USE_FEATURE PYTHON
REDIRECTING := $(filter UV_% PIP_% PYTHON% CONDA_% VIRTUAL_ENV% BASH_ENV ENV CDPATH,$(.VARIABLES))
unexport $(filter-out $(KEPT),$(REDIRECTING))

# User ids without a name, as containers have, for DVC, and homes without write permission, for uv.
ifeq (,$(shell id -un 2>/dev/null))
export HOME ?= /nonexistent
export USERNAME ?= uid$(shell id -u)
endif
ifeq (,$(shell [ -w ~ ] && echo writable))
export UV_CACHE_DIR ?= $(CURDIR)/$(VENV)/cache
endif

.PHONY: help
help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(lastword $(MAKEFILE_LIST))

.PHONY: repro
repro: .git $(READY)  ## Run the stages that changed, from data to registered model
	@python -m dvc repro || { python -m pipeline.check --lock && python -m dvc repro; }
	@python -m pipeline.summary

.PHONY: test
test: $(READY) $(EXTRAS)  ## Run the tests
	@python -m pytest -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true  # a test that hangs fails, with its stack

.PHONY: chaos
chaos: $(READY) $(EXTRAS)  ## Cause every fault many times and write docs/reliability.md (2 hours; ONLY=tests/chaos/test_kills.py)
	@CHAOS=1 python -m pytest $(if $(ONLY),"$$ONLY",tests/chaos $(LONG))

.PHONY: lint
lint: $(READY)  ## Check style and types
	@python -m ruff check .
	@python -m ruff format --check .
	@python -m mypy
	@found=$$(python -m deptry --no-ansi . 2>&1) || { echo "$$found" >&2; exit 1; }  # it has no quiet mode

.PHONY: ui
ui: $(READY)  ## Browse the runs and models (PORT=5000)
	@python -m pipeline.ui $(if $(PORT),--port "$$PORT")

.PHONY: explore
explore: $(READY)  ## Open the page that shows how the network computes
	@python -m pipeline.explore

.PHONY: serve
serve: $(READY)  ## Serve the champion over HTTP (PORT=5001, ALIAS=challenger)
	@python -m pipeline.serve $(if $(PORT),--port "$$PORT") $(if $(ALIAS),--alias "$$ALIAS")

.PHONY: adopt
adopt: $(READY)  ## Take your own images: write params.yaml for them (DATA=..., NAME=, SIZE=28x28, ACCEPT=1, DRY=1)
	@python -m pipeline.adopt "$${DATA:?set DATA= to a folder, a file or an archive of labelled images}" $(if $(NAME),--name "$$NAME") \
		$(if $(SIZE),--size "$$SIZE") $(if $(ACCEPT),--accept) $(if $(DRY),--dry-run)

.PHONY: register
register: .git $(READY)  ## Rebuild the current run in an MLflow store that lost it
	@python -m dvc repro --force --single-item register

.PHONY: promote
promote: $(READY)  ## Compare challenger and champion, then promote or refuse (FIRST=1: no champion yet, TAG=1: git tag)
	@python -m pipeline.promote $(if $(FIRST),--first) $(if $(TAG),--tag)

.PHONY: compare
compare: .git $(READY)  ## Say what this tree changes about the model, as Markdown (BASE=main; run make repro first)
	@python -m pipeline.compare "$${BASE:?set BASE= to a branch, a tag or a commit}"

.PHONY: rollback
rollback: $(READY)  ## Make the previous champion champion again (TAG=1: git tag)
	@python -m pipeline.rollback $(if $(TAG),--tag)

.PHONY: retrain
retrain: .git $(READY)  ## Run one retraining cycle: fetch, rebuild, promote, publish (SEED=n, REQUIRE=superior, FIRST=1)
	@python -m pipeline.retrain $(if $(SEED),--seed "$$SEED") $(if $(REQUIRE),--require "$$REQUIRE") $(if $(FIRST),--first)

.PHONY: sweep
sweep: .git $(READY) $(VENV)/.sweep  ## Search for better parameters with Ray (RESUME=1: continue; RAY_ADDRESS: use that cluster)
	@python -m pipeline.sweep $(if $(RESUME),--resume)

.PHONY: drift
drift: $(READY)  ## Compare images without labels with the training data (SOURCE=..., CHECK=1: fail on drift)
	@python -m pipeline.drift "$${SOURCE:?set SOURCE= to an npy, npz or IDX file, or to a folder of them}" $(if $(CHECK),--check)

.PHONY: select
select: $(READY)  ## Choose served images to label (SOURCE=...)
	@python -m pipeline.select "$${SOURCE:?set SOURCE= to what serve --capture keeps, or to files of images}"

.PHONY: label
label: $(READY)  ## Label the selected images on a page, and make a data set of them (PORT=5003, SOURCE=...: labelled files)
	@python -m pipeline.label $(if $(PORT),--port "$$PORT") $(if $(SOURCE),--from "$$SOURCE")

.PHONY: verify
verify: $(READY)  ## Check that alias, record, run, file and git tag of the champion agree
	@python -m pipeline.promote --verify

.PHONY: remote
remote: .git $(READY) $(VENV)/.remote  ## Record in .dvc/config where the outputs are kept (URL=...: a folder, ssh:// or s3://)
	@python -m pipeline.remote "$${URL:-}"

.PHONY: check
check: .git $(READY)  ## Hash the DVC cache and the outputs again, and remove damaged files
	@python -m pipeline.check

.PHONY: stale
stale: $(READY)  ## Fail if the last retraining cycle is too long ago
	@python -m pipeline.retrain --stale

.PHONY: alert
alert:  ## Keep one GitHub issue while retraining needs attention (in CI: ALERT=cycle or stale, RESULT=failure, TWICE=1)
	@python3 .ci/alert.py "$$ALERT" "$$RESULT" $(if $(TWICE),--refused-twice)

.PHONY: bench
bench: $(READY) $(PEERS)  ## Measure speed and memory against limits and other libraries (20 minutes)
	@python -m bench

.PHONY: record
record: $(READY)  ## Train the same network for three minutes, with five seeds (20 minutes)
	@python -m bench.record

.PHONY: simulate
simulate: $(READY)  ## Half a year in use: serve, drift, select, label, retrain (11 minutes; writes to bench/results.md)
	@python -m bench.loop

.PHONY: setup
setup: $(READY)  ## Create the virtual environment .venv

.PHONY: lock
lock: $(READY)  ## Resolve pyproject.toml into requirements.txt and requirements/, with versions and hashes
	@$(COMPILE) --upgrade --extra train --extra dev --output-file requirements.txt pyproject.toml
	@$(COMPILE) --upgrade --constraint requirements.txt --output-file requirements/serve.txt pyproject.toml
	@for extra in remote sweep; do \
		$(COMPILE) --upgrade --constraint requirements.txt --output-file requirements/$$extra.txt --extra $$extra pyproject.toml || exit 1; \
	done
	@for group in chaos team; do \
		$(COMPILE) --upgrade --constraint requirements.txt --constraint requirements/remote.txt \
			--output-file requirements/$$group.txt --group $$group || exit 1; \
	done
	@python requirements/write_versions.py > requirements/versions.yaml

.PHONY: schema
schema: $(READY)  ## Write docs/params.schema.json, by which editors complete and check params.yaml
	@python -c 'import json; from pipeline.core.params import Params; print(json.dumps(Params.model_json_schema(), indent=2))' \
		> docs/params.schema.json

.PHONY: clean
clean:  ## Remove .venv and caches; keep data and runs
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

# An archive that GitHub offers has no repository, and DVC works in one.
.git:
	@git rev-parse --git-dir > /dev/null 2>&1 || { \
		echo "error: expected a git repository, found none; a downloaded archive has none." >&2; \
		echo "Nothing was run. Run \`git init\` and rerun. To publish what you retrain, clone the repository instead." >&2; \
		exit 1; \
	}  # the project may be a folder of a larger repository

# The stamp file names the folder of the checkout. It is removed before set-up and created after it, so an interrupted set-up
# starts again. It is also removed if the interpreter does not start, or if the checkout was moved: scripts contain its path.
ifneq (works,$(shell { [ "$$(pwd -P)" = "$$(<$(READY))" ] && $(VENV)/bin/python -I -c 'print("works")'; } 2>/dev/null))
$(shell rm -f $(READY))
endif

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock'

# `--python` wins over all settings of uv, and these options over pip.conf, which may also send packages elsewhere.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-user --target= --root=/

SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
CHECK_FOLDER := import sys; from pipeline.core.paths import Paths; sys.exit((found := Paths().refusal()) and f"error: {found}")
INTERPRETERS := $(PYTHON) python3 python3.13 python3.12 python3.11
BROUGHT := 3.13
FIND := uv python find --managed-python --system $(BROUGHT) 2> /dev/null

$(READY): requirements.txt
	@set -eu; if [ ! -e $(READY) ]; then \
		PATH="$${PATH#*:}"; \
		for python in $(INTERPRETERS) none; do $$python -c '$(SUPPORTED)' 2>/dev/null && break; done || true; \
		if [ "$$python" = none ] && command -v uv > /dev/null; then \
			echo "setup     Python $(BROUGHT) by uv, because there is none from 3.11 to 3.13"; \
			python=$$($(FIND)) || { uv python install $(BROUGHT) && python=$$($(FIND)); } || python=none; \
		fi; \
		if [ "$$python" = none ]; then \
			echo "error: expected Python 3.11, 3.12 or 3.13 with venv and pip, found none among: $(INTERPRETERS), nor by uv." >&2; \
			echo "Nothing was installed. Install uv, or Python (Debian: apt install python3-venv), or name it: make PYTHON=/path" >&2; \
			exit 1; \
		fi; \
		"$$python" -Bc '$(CHECK_FOLDER)'; \
		echo "setup     $$("$$python" --version) in $(VENV); the first time some minutes of download"; \
		rm -rf $(VENV); \
		"$$python" -m venv $(VENV); \
		sed -n '/^uv==/,/# via/p' requirements.txt > $(VENV)/uv.txt; \
		$(VENV)/bin/python $(PIP_INSTALL) --prefix="$$PWD/$(VENV)" --require-hashes --requirement $(VENV)/uv.txt; \
	fi
	@rm -f $(READY) $(EXTRAS)
	@$(VENV)/bin/uv pip sync --python $(VENV)/bin/python --quiet --compile-bytecode --require-hashes requirements.txt
	@pwd -P > $(READY)

# Extra packages, installed by the targets that need them.
$(EXTRAS): $(VENV)/.%: requirements/%.txt $(READY)
	@$(VENV)/bin/uv pip install --python $(VENV)/bin/python --quiet --require-hashes --requirement $<
	@touch $@

# PyTorch and JAX, for measurements only.
$(PEERS): bench/requirements.txt | $(READY)
	@python -m venv $(VENV)/peers
	@$(VENV)/peers/bin/python $(PIP_INSTALL) --prefix="$$PWD/$(VENV)/peers" --requirement bench/requirements.txt
	@touch $(PEERS)
