# make try    a photograph there and back, beside other formats
# make test   lint, types and the quick tests
# make train  train RECIPE from its newest checkpoint on
# make docs   the documentation site, build/docs/index.html
# make fuzz   hostile files, FUZZ_SECONDS for each of seven targets
PYTHON ?= python3
WORKERS ?= 2
FUZZ_SECONDS ?= 60
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Where make figures finds kodak/, photos768/, large1200/ and large12mp/, and make train the recipe's data.
DATA ?= ../shared/data
RECIPE ?= recipes/photo.toml
PLOTTED := softstair-photo-tcq512 jpeg-420 webp jxl-e7 avif-420 avif-444-psnr
PEERS := jpeg,jpeg2000,webp,avif,jxl-e7,heic
POSITIONS := 8,24,40,56,72,88,104,120,136,152,168,184

# make web    the decoder for browsers, and a viewer
# make packs  packs for screens, renders, documents and aerial pictures, from DATA/domains
.PHONY: try test test-all train lint core-tests sanitize fuzz figures packs docs web clean

$(VENV)/runtime: pyproject.toml CMakeLists.txt $(wildcard cpp/src/*)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/dev: $(VENV)/runtime constraints.txt
	$(PIP) torch==2.13.0 numpy
	$(PIP) --editable '.[learn,eval,judges,openvino,cluster,web,dev]'
	touch $@

$(VENV)/docs: $(VENV)/dev
	$(PIP) --editable '.[docs]'
	touch $@

try: $(VENV)/runtime
	$(BIN)/softstair try examples/casa-mila.jpg

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint core-tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

# The C++ core's own tests.
core-tests: $(VENV)/dev
	$(BIN)/cmake -S . -B build/core -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DSOFTSTAIR_CORE_TESTS=ON
	$(BIN)/cmake --build build/core
	$(BIN)/ctest --test-dir build/core --output-on-failure

test-all: lint sanitize docs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile -m 'long or not long'

# The C++ core's own tests under AddressSanitizer and UBSan.
sanitize: $(VENV)/dev
	$(BIN)/cmake -S . -B build/sanitize -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	  -DSOFTSTAIR_CORE_TESTS=ON -DSOFTSTAIR_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
	$(BIN)/cmake --build build/sanitize
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure

# libFuzzer on the C++ entry points (needs Clang), Atheris on the Python ones. What is found lies in build/fuzz.
FUZZED := -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=20 -print_final_stats=1
fuzz: $(VENV)/dev
	$(PIP) atheris
	CXX=clang++ $(BIN)/cmake -S . -B build/fuzz -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	  -DSOFTSTAIR_C_LIBRARY=ON -DSOFTSTAIR_FUZZ=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
	$(BIN)/cmake --build build/fuzz --target fuzz_stream fuzz_bundle fuzz_tile fuzz_exact
	for name in stream bundle tile exact; do \
	  mkdir -p build/fuzz/corpus/$$name && \
	  build/fuzz/fuzz_$$name $(FUZZED) -artifact_prefix=build/fuzz/$$name- build/fuzz/corpus/$$name tests/golden/v1 \
	    || exit 1; \
	done
	for name in stream bundle plugin; do \
	  mkdir -p build/fuzz/corpus/py-$$name && \
	  $(BIN)/python fuzz/$$name.py $(FUZZED) -artifact_prefix=build/fuzz/py-$$name- build/fuzz/corpus/py-$$name \
	    tests/golden/v1 || exit 1; \
	done

# Warnings are errors: a link or a name that leads nowhere, a page that is in no menu.
docs: $(VENV)/docs
	$(BIN)/sphinx-build -E -W --keep-going -q docs build/docs

# The decoder for browsers anew, js/*.wasm (kept in the repository: who installs has no such compiler), and
# build/web: stair-viewer.html, one page that opens pictures, and stair-service-worker.js for sites.
web: $(VENV)/dev
	$(PIP) --editable '.[wasm]'
	$(BIN)/python cpp/wasm/build.py build/wasm
	cp build/wasm/softstair.wasm build/wasm/softstair-relaxed.wasm src/softstair/js/
	mkdir -p build/web
	$(BIN)/softstair share --viewer --title 'Stair viewer' -o build/web/stair-viewer.html --force
	$(BIN)/python -c 'from softstair.share import service_worker; print(service_worker())' > src/softstair/js/stair-service-worker.js
	cp src/softstair/js/stair-service-worker.js src/softstair/js/*.wasm build/web/
	$(BIN)/python -c 'import pathlib, softstair.bundle as b, softstair.share as s; \
	  s.write_packages(pathlib.Path("build/web/packages"), b.installed())'

# Interrupt it whenever you like: the next one goes on from the last checkpoint, in runs/.
train: $(VENV)/dev
	$(BIN)/softstair train $(RECIPE) --data-root $(DATA)

# The shipped packs anew: after every change of the default bundle, because a pack is for one bundle alone.
# Minutes are at most; `make -k` goes on where a pack gains nothing and is not written.
PACK_MINUTES ?= 10
PACKS := screens rendered documents aerial
packs: $(PACKS:%=src/softstair/models/%.pack)
src/softstair/models/%.pack: src/softstair/models/photo.stairs | $(VENV)/dev
	$(BIN)/softstair adapt $(DATA)/domains/$*/adapt -o $@ --minutes $(PACK_MINUTES) --force \
	  --licence CC-BY-SA-4.0 --data 'domains/$*/adapt (docs/training-data.md)'

# Every figure of the README again, from files; hours on two cores, and resumed where it was stopped.
figures: $(VENV)/dev
	for set in kodak photos768 large1200; do \
	  $(BIN)/softstair eval $$set --data-root $(DATA) --rate-positions $(POSITIONS) --peers $(PEERS) --modes tcq512 \
	    -o results/$$set.json && \
	  $(BIN)/softstair eval $$set --data-root $(DATA) --model photo-psnr --rate-positions $(POSITIONS) --modes tcq512 \
	    -j 2 -o results/photo-psnr_$$set.json || exit 1; \
	done
	$(BIN)/softstair plot $(addprefix results/kodak.json::,$(PLOTTED)) --metric ssimulacra2 \
	  -o docs/images/kodak.svg --force
	$(BIN)/python benchmarks/path.py $(DATA)/kodak/kodim05.png $(DATA)/large12mp/big01_windmill.jpg \
	  --model photo-psnr > results/speed.md
	$(BIN)/python benchmarks/units.py $(DATA)/kodak/kodim05.png $(DATA)/large12mp/big01_windmill.jpg \
	  tests/golden/older/9fb62cbefb0d89dd.stairs photo photo-psnr > results/units.md
	$(BIN)/python benchmarks/large.py $(DATA)/large12mp/big01_windmill.jpg > results/large.md
	$(BIN)/python benchmarks/coder.py $(DATA)/kodak/kodim05.png $(DATA)/large1200/*01* > results/coder.md
	$(BIN)/python benchmarks/robustness.py $(addprefix $(DATA)/kodak/kodim,05.png 13.png 19.png 23.png) > results/robustness.md
	$(BIN)/python benchmarks/not_photographs.py $(DATA)/domains $(addprefix $(DATA)/kodak/kodim,05.png 20.png) \
	  > results/not_photographs.md
	$(BIN)/python docs/build/every_position.py kodak --data-root $(DATA) > results/every_position.md
	$(BIN)/python -m experiments.ladder.figure kodak docs/images/ladder.svg
	$(BIN)/python docs/build/comparison.py examples/casa-mila.jpg docs/images/comparison.png
	$(BIN)/python docs/build/look.py --data-root $(DATA)
	$(BIN)/python docs/build/figures.py

clean:
	rm -rf $(VENV) build
