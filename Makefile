# Every target makes its own set-up: scripts/setup.sh says what. Nothing has to be installed by hand but Python and git.

.DEFAULT_GOAL := help
.PHONY: help setup servers demo test test-all lint airflow serve sql-server mlflow audit

# The user's Spark, Python path and environment have no say in this project's.
unexport SPARK_HOME PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON PYTHONPATH PYTHONHOME VIRTUAL_ENV
# Where it is set, as in many containers, each process would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

# The set-up leaves a link where the Java that Spark would take by itself does not fit.
JAVA = [ ! -e .tools/java ] || export JAVA_HOME="$$PWD/.tools/java";

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: ## what the others need: uv, Java, the environment in .venv, Delta's jars; each target does it by itself
	@sh scripts/setup.sh

demo: setup ## one whole night on a catalog that it draws itself, then where its report is
	@$(JAVA) .venv/bin/vitrine demo $(ARGS)

servers: ## Redis, PostgreSQL and Chromium for the tests, by apt-get where that is allowed; without them their tests skip
	@sh scripts/test_servers.sh

test: lint servers ## lint, then the tests; make test ARGS="-k gate" hands pytest its arguments
	@$(JAVA) .venv/bin/python -m pytest -n 2 --dist worksteal $(ARGS)

test-all: lint servers ## the tests, and those that take minutes and gigabytes each
	@$(JAVA) .venv/bin/python -m pytest -n 2 --dist worksteal -m "" $(ARGS)

lint: setup ## format, rules, types, which package may import which, shell scripts and the Dockerfile
	@.venv/bin/ruff format --check
	@.venv/bin/ruff check
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/shellcheck scripts/*.sh deploy/*.sh examples/*.sh
	@.venv/bin/hadolint deploy/Dockerfile

airflow: setup ## Airflow's server and UI with the DAGs, until Ctrl-C
	@$(JAVA) .venv/bin/python -m vitrine.cli.airflow

serve: setup ## Feast's feature server with the products nearest to one, until Ctrl-C
	@.venv/bin/vitrine serve

sql-server: setup ## the tables, read-only, by Spark Connect, until Ctrl-C
	@$(JAVA) .venv/bin/vitrine sql-server

mlflow: setup ## MLflow's pages on what runs did and cost, until Ctrl-C
	@.venv/bin/python -m vitrine.tracking

audit: setup ## known faults of the locked packages, by pip-audit; asks PyPI
	@PATH="$$PATH:$$PWD/.tools/uv/bin"; \
		uv export --frozen --no-emit-project --format requirements-txt >.tools/requirements.txt && \
		uvx pip-audit --strict --disable-pip --require-hashes -r .tools/requirements.txt
