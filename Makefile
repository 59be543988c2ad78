# Every target makes its own virtual environment in .venv; only Python 3.11-3.13 is needed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test check slow bench docs clean

demo: $(STAMP)  ## build a small zoo on digits, scan it, write reports and a sanitized model
	$(BIN)/audit demo --out demo-out

test: $(STAMP)  ## the tests
	$(BIN)/python -m pytest

check: $(STAMP)  ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: $(STAMP)  ## studies that take minutes
	$(BIN)/python -m pytest -m slow

bench: $(STAMP)  ## speed of the twin and of native prediction against their plain forms
	$(BIN)/python -m benchmarks.twin

docs: $(STAMP)  ## renew the generated pages and build the site into site/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python -m scripts.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/python -m compileall -q auditor zoo cli.py  # an editable install is not compiled; a sandboxed child must not write
	touch $(STAMP)

clean:
	rm -rf .venv demo-out site
