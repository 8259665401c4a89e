# `make demo` builds, serves, validates and measures the sample project; `make test` passes all tests.
# Both set up .venv by themselves; they need python3 (3.10 to 3.12) and make.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: demo test check bench fuzz onnx-cases clean

demo: .venv/.demo
	$(PY) scripts/demo.py

test: .venv/.test
	$(PY) -m pytest --numprocesses 3 --dist loadfile

check: .venv/.test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: .venv/.test
	set -e; for file in benchmarks/*.py; do echo "== $$file"; $(PY) $$file; done

# nothing that can lie in a repository makes `trtkit lint` raise: 100,000 inputs, some ten minutes
fuzz: .venv/.test
	$(PY) tests/test_lint_fuzz.py 100000

# each of ONNX's backend cases that ONNX Runtime can run, through the real server: a table, some ten minutes
onnx-cases: .venv/.test
	$(PY) tests/onnx_backend_cases.py

.venv/.demo: pyproject.toml .ci/setup
	@PYTHON=$(PYTHON) sh .ci/setup cpu,server,sklearn,text
	@touch $@

.venv/.test: pyproject.toml .ci/setup .ci/tools
	@PYTHON=$(PYTHON) sh .ci/setup cpu,server,sklearn,text,torch,huggingface,modelopt,rtx,dev
	@touch $@ .venv/.demo

clean:
	rm -rf .venv .trtkit demo
