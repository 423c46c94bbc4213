# The two commands of the README: make smoke, make test. Each sets up .venv by itself, once.
PYTHON ?= python3
ROOT ?= ACE-Step-1.5
py := .venv/bin/python
code := ACE-Step-1.5/acestep patches scripts tests
# With all plugins that are installed, pytest reads each of them, and all of hypothesis, anew in each process.
# LD_PRELOAD: on Linux, OpenBLAS in place of mlx's reference BLAS, where it is installed.
# no:logging: pytest looks through the loggers of all modules, thousands with PyTorch, six times a test.
# Byte code is kept, whatever the environment says: else each process compiles all sources and tests anew.
pytest = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 LD_PRELOAD="$$($(py) scripts/blas.py)" $(py) -m pytest --disable-plugin-autoload -p xdist -p hypothesispytest -p no:logging \
	-n 2 --dist worksteal

.PHONY: smoke test test-fast lint docs-check verify bench bench-decoder loop-table coverage setup clean
.DEFAULT_GOAL := smoke

setup:
	@PYTHON="$(PYTHON)" scripts/setup_venv.sh

smoke: setup
	@$(py) scripts/lego_smoke.py $(ARGS)

test: setup
	@$(pytest) $(ARGS)

# What takes seconds or starts processes is left out.
test-fast: setup
	@$(pytest) -m "not slow and not subprocess" $(ARGS)

lint: setup
	@$(py) -m ruff check $(code)
	@$(py) -m ruff format --check --quiet $(code) || { echo "lint: run '.venv/bin/ruff format' on the files above" >&2; exit 1; }
	@for platform in linux darwin; do $(py) -m mypy --platform $$platform --cache-dir .mypy_cache/$$platform $(code) || exit; done

# Every command of README and docs, run as a reader would paste it.
docs-check: setup
	@$(py) scripts/docs_check.py $(ARGS)

verify: setup
	@$(py) -m patches verify "$(ROOT)"

# Whole stems; of the decoder alone, from 5 s to 10 min: make bench-decoder.
bench: setup
	@$(py) scripts/bench_lego.py stem $(ARGS)

bench-decoder: setup
	@$(py) scripts/bench_lego.py decoder $(ARGS)

loop-table: setup
	@$(py) scripts/loop_table.py $(ARGS)

coverage: setup
	@$(py) -m pytest -n 2 --cov --cov-report=term-missing:skip-covered

clean:
	rm -rf .venv build *.egg-info
