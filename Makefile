# make try    a photograph there and back, beside other formats
# make test   lint, types and the quick tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: try test test-all lint sanitize clean

$(VENV)/runtime: pyproject.toml CMakeLists.txt $(wildcard cpp/src/*)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/dev: $(VENV)/runtime constraints.txt
	$(PIP) torch==2.13.0 numpy
	$(PIP) --editable '.[learn,eval,dev]'
	touch $@

try: $(VENV)/runtime
	$(BIN)/softstair try examples/casa-mila.jpg

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

test-all: lint sanitize
	$(BIN)/pytest -m 'long or not long'

# The C++ core's own tests under AddressSanitizer and UBSan.
sanitize:
	cmake -S . -B build/sanitize -DSOFTSTAIR_CORE_TESTS=ON -DSOFTSTAIR_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
	cmake --build build/sanitize
	ctest --test-dir build/sanitize --output-on-failure

clean:
	rm -rf $(VENV) build
