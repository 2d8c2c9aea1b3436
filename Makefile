# make demo   set everything up, run the whole chain on faces that need no download, end with results/report.html
# make demo-hour   the same, and the same for an hour of training
# make demo-seeds   the demo's numbers with two other seeds
# make docs   the numbers and pictures of README and docs/, from the results of the three above
# make site   the documentation with a reference from the docstrings, as HTML in site/
# make test   set everything up, run the tests
# make gpu-check   what an NVIDIA GPU makes of all this, in 8 minutes; DRY=1 tries the check itself, on a CPU too
# make lint   check style, formatting and types
# make test-slurm   the chain on a Slurm cluster of virtual nodes, and its faults; needs root on Debian or Ubuntu
# make help   list these
# All install into .venv, once; nothing outside this directory is touched.

# The first Python on the path that is new enough, or the one you name: make demo PYTHON=/opt/python3.12
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $$python && break; done)
endif

VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

DEMO := faces32
SNAKEMAKE := snakemake --cores all --quiet host reason rules

.PHONY: demo demo-hour demo-seeds docs site test gpu-check lint test-slurm setup help

demo: setup
	@$(SNAKEMAKE)
	@$(MAKE) --no-print-directory results/report.html

demo-hour: setup
	@$(SNAKEMAKE) --config 'run=[$(DEMO),$(DEMO)-hour]' --
	@snakemake --report results/report.html --config 'run=[$(DEMO),$(DEMO)-hour]' --
	@echo "The report of both, the demo and its hour: results/report.html"

demo-seeds: setup
	@$(SNAKEMAKE) -- $(foreach seed,1 2,$(foreach table,fd_lite0 metrics,results/$(DEMO)-seed$(seed)_$(table).csv))

docs: setup
	@python -m docs.make

site: setup
	@python -m pip install --quiet --disable-pip-version-check --constraint envs/constraints.txt --editable '.[docs]'
	@mkdocs build --strict --quiet

test: setup
	@python -m pytest

gpu-check: setup
	@python -m benchmarks.gpu_check $(if $(DRY),--dry)

lint: setup
	@ruff check .
	@ruff format --check --quiet .
	@snakefmt --check Snakefile workflow
	@mypy --no-error-summary

test-slurm: setup
	@python -m pytest tests/slurm/chain.py

help:
	@sed -n 's/^# //p' Makefile | sed '/^All install/q'

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml envs/constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none is on the PATH; name one with PYTHON=…" >&2; exit 1; }
	@echo "Installing into $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@python -m pip install --quiet --disable-pip-version-check --constraint envs/constraints.txt --editable '.[demo,workflow,test]'
	@touch $@

# What the report shows is known only after a run, so `demo` asks for it in a second make.
results/report.html: $(wildcard results/*.csv results/*_overview.html results/*/*.png results/*/*.svg results/*/play.html results/*/*/*.png results/*/*/*.gif)
	@snakemake --report $@
	@echo "The report: $@"
