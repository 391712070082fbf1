#!/usr/bin/env bash
# Lint, types and tests; further options go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
failed=""
.venv/bin/ruff check --quiet . || failed="ruff"
.venv/bin/mypy --no-error-summary || failed="$failed mypy"
.venv/bin/python -m pytest -q -n "${WORKERS:-2}" "$@" || failed="$failed pytest"
[[ -z "$failed" ]] || fail "these found faults: $failed"
