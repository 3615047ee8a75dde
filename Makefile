# make demo   sets everything up and trains a small LoRA on the demo checkpoint
# make test   sets everything up and runs lint, type check and all tests
# The work is done by tools/dev.py, which runs on Windows too: py -3.11 tools\dev.py demo
PYTHON ?= python3

.PHONY: demo test lint ui clean
demo test lint ui:
	$(PYTHON) tools/dev.py $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
