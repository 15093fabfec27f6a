# Needs Python 3.11 or newer, git and make; everything else is set up below .venv and .tools.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
BIN := .venv/bin
REPO ?= .

.PHONY: help setup test test-kernel lint demo bench torture mail-torture gateway-torture agents bench-gateway clean

help:
	@echo "make demo      a team of agents on a scratch clone of a repository (REPO=/path)"
	@echo "make test      all tests, on an embedded PostgreSQL or on BOUGH_TEST_DATABASE_URL"
	@echo "make lint      ruff, pyright, import rules"
	@echo "make bench     speed beside a floor or a peer"
	@echo "make torture   a million random calls about tokens; none may be lost (OPERATIONS=N)"
	@echo "make mail-torture   mail to receivers that are killed; none lost, done twice, reordered (MESSAGES=N)"
	@echo "make gateway-torture   model calls through a gateway that is killed; bills against the ledger (CALLS=N)"
	@echo "make bench-gateway   what the gateway adds to a call, beside LiteLLM's proxy"
	@echo "make agents    real coding agents, from the registries, against a scripted provider"

setup: .venv/.ready

.tools/bin/uv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .tools || { echo "install the venv module, on Debian: apt install python3-venv"; exit 1; }
	.tools/bin/pip install -q --disable-pip-version-check uv==0.13.9

.venv/.ready: pyproject.toml uv.lock | $(UV)
	$(UV) sync --locked -q --python "$(PYTHON)"
	@touch $@

test: setup
	UV="$(UV)" $(BIN)/pytest -q

test-kernel: setup
	$(BIN)/pytest -q -m kernel

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

demo: setup
	@REPO="$(REPO)" BOUGH="$(CURDIR)/$(BIN)/bough" sh demo/demo.sh

bench: setup
	$(BIN)/python -m bench

torture: setup
	OPERATIONS=$(or $(OPERATIONS),1000000) $(BIN)/python -m bench.torture

mail-torture: setup
	MESSAGES=$(or $(MESSAGES),100000) $(BIN)/python -m bench.mail_torture

gateway-torture: setup
	PYTHONPATH=tests CALLS=$(or $(CALLS),10000) $(BIN)/python -m bench.gateway_torture

.tools/litellm/.ready: | setup
	$(UV) venv -q --allow-existing --python "$(PYTHON)" .tools/litellm
	$(UV) pip install -q --python .tools/litellm "litellm[proxy]"
	@touch $@

bench-gateway: .tools/litellm/.ready
	PYTHONPATH=tests $(BIN)/python -m bench.gateway

.tools/agents/.ready: tests/agents/package.json tests/agents/requirements.txt | setup
	mkdir -p .tools/agents
	cp tests/agents/package.json .tools/agents/
	cd .tools/agents && npm install --no-audit --no-fund --loglevel=error
	$(UV) venv -q --allow-existing --python "$(PYTHON)" .tools/agents/python
	$(UV) pip install -q --python .tools/agents/python -r tests/agents/requirements.txt
	@touch $@

agents: .tools/agents/.ready
	$(BIN)/pytest -q tests/agents

clean:
	rm -rf .venv .tools .pytest_cache .ruff_cache .hypothesis
