#!/usr/bin/env bash
# The whole road on this machine; further options go to dreamgen_jax.main.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec .venv/bin/python -m dreamgen_jax.main --config=configs/quickstart.py \
  --workdir="${WORKDIR:-runs/quickstart}" "$@"
