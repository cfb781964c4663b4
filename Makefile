# make             environment in .venv, then the main job: train AGCN on the built-in data; a table and a picture
# make test        everything that CI checks
# make lab         the book in JupyterLab
# make lab-check   "Run all" on nbs/train.ipynb in a real browser (needs Chromium and Node)
# make soak        kill trainings at random moments, for half an hour, and compare their bits
# make benchmark   start-up, data generation, demo time and memory; heatmaps and NTU files beside loops of a textbook
# make export      after editing notebooks: write skelbook/ from nbs/, clean the notebooks
# make hooks       merge notebooks cell by cell in this clone
# make clean       remove the environment and all caches (never outputs/)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
DEMO   := outputs/runs/agcn_synthetic_joint_s0

export JUPYTER_PREFER_ENV_PATH = 1
export PYDEVD_DISABLE_FILE_VALIDATION = 1

.PHONY: demo test lab lab-check soak benchmark export hooks clean

demo: $(READY)
	@echo "== Train AGCN on the built-in data (a few minutes on two cores)"
	$(BIN)/papermill nbs/train.ipynb -p model agcn
	@echo "accuracy table   $(DEMO)/accuracy.md"
	@echo "heatmap          $(DEMO)/learned_graph.png"

test: $(READY)
	@echo "== 1/4  Style: ruff on notebooks, package and tests"
	$(BIN)/ruff check --output-format concise .
	@echo "== 2/4  The book itself: exports in step, notebooks clean, layers, links"
	$(BIN)/pytest -q tests/book
	@echo "== 3/4  Every chapter, run from top to bottom, shows what is stored with it"
	$(BIN)/pytest -q -n 2 tests/chapters
	@echo "== 4/4  Corner cases, golden numbers, properties, the commands end to end"
	$(BIN)/pytest -n 2 --dist loadgroup tests/unit tests/golden tests/property tests/end_to_end
	@echo "== All checks passed"

lab: $(READY)
	$(BIN)/jupyter-lab nbs/index.ipynb

lab-check: $(READY)
	$(BIN)/pytest -q -s tests/end_to_end/test_lab.py

soak: $(READY)
	PYTHONPATH=tests/end_to_end $(BIN)/python tests/end_to_end/soak.py

benchmark: $(READY)
	$(BIN)/python tests/benchmarks/bench_heatmaps.py
	$(BIN)/python tests/benchmarks/bench_ntu.py
	$(BIN)/python tests/benchmarks/bench.py

export: $(READY)
	$(BIN)/nbdev-export
	$(BIN)/nbdev-clean

hooks: $(READY)
	git config --local include.path ../.gitconfig

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and from its pin, and the package is built without an isolated environment: otherwise a second
# torch might be resolved. The pin fits the CUDA build and the CPU build; a machine gets what its package index offers.
$(READY): settings.ini setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "skelbook needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)"; \
	  echo "Name another one, for example: make PYTHON=python3.12"; exit 1; }
	@echo "== Environment in $(VENV), once: PyTorch first, then about 120 packages (a minute or two)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt torch setuptools wheel
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev,cluster]'
	@touch $@
