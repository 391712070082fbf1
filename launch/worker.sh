#!/usr/bin/env bash
# What every TPU host runs, whoever starts it: TPU VM, GKE, SkyPilot, Docker.
#
#   launch/worker.sh --config=FILE.py --workdir=DIR [options of dreamgen_jax.main]
#
# Environment:
#   GENERATION  v4, v5e, v5p or v6e: chooses the compiler's flags (none if unset)
#   SLICES      how many slices the run has (1)
#   PREFLIGHT   1 (default) looks first whether anything would stop the run
#   TRIES       how often a run that failed by itself is begun again (3)
#
# A run goes on where it was, so that starting it again is always right. Mistakes
# (exit code 2) are not tried again.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
source launch/libtpu_flags.sh
if [ -n "${GENERATION:-}" ]; then
  libtpu_flags "$GENERATION" "${SLICES:-1}" || exit 2
fi
python="${PYTHON:-python3}"
if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ]; then
  python=.venv/bin/python
fi

# SIGTERM is a machine's notice: the run saves and ends, and so do we.
child="" stopped=""
trap 'stopped=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT

run() {  # in the background, so that the trap is heard at once
  "$python" -m "$@" &
  child=$!
  wait "$child"
  code=$?
  while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    code=$?
  done
  child=""
}

if [ "${PREFLIGHT:-1}" = 1 ]; then
  checked=()
  for option in "$@"; do  # preflight knows these only
    case "$option" in
      --config* | --workdir=*) checked+=("$option") ;;
    esac
  done
  run dreamgen_jax.preflight "${checked[@]}"
  [ "$code" = 0 ] || exit "$code"
fi
tries="${TRIES:-3}"
while :; do
  run dreamgen_jax.main "$@"
  [ "$code" != 0 ] && [ "$code" != 2 ] && [ -z "$stopped" ] \
    && [ "$tries" -gt 1 ] || exit "$code"
  tries=$((tries - 1))
  echo "The run ended with code $code; $tries tries are left." >&2
  sleep "${PAUSE:-10}"
done
