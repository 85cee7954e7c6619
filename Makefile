# make try    a photograph there and back, beside other formats
# make test   lint, types and the quick tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: try test test-all lint core-tests sanitize clean

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

test: lint core-tests
	$(BIN)/pytest

# The C++ core's own tests.
core-tests: $(VENV)/dev
	$(BIN)/cmake -S . -B build/core -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DSOFTSTAIR_CORE_TESTS=ON
	$(BIN)/cmake --build build/core
	$(BIN)/ctest --test-dir build/core --output-on-failure

test-all: lint sanitize
	$(BIN)/pytest -m 'long or not long'

# The C++ core's own tests under AddressSanitizer and UBSan.
sanitize: $(VENV)/dev
	$(BIN)/cmake -S . -B build/sanitize -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	  -DSOFTSTAIR_CORE_TESTS=ON -DSOFTSTAIR_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
	$(BIN)/cmake --build build/sanitize
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure

clean:
	rm -rf $(VENV) build
