#!/usr/bin/env bash
# A run on TPU VMs by queued resources: all hosts, spot or not, resumed.
#
#   launch/tpu_vm.sh run CONFIG.py WORKDIR [options of dreamgen_jax.main]
#   launch/tpu_vm.sh logs | stop | delete
#
# Environment (gcloud must be logged in):
#   PROJECT ZONE     of Google Cloud
#   NAME             of the queued resource and its nodes (dreamgen)
#   TYPE             accelerator, e.g. v5p-128 (64 chips), v6e-64, v5litepod-16
#   SLICES           of that type (1)
#   SPOT             1: cheaper, and taken away without warning (0)
#   DISK             shared disk for WORKDIR, mounted at /mnt/dreamgen:
#                    gs://BUCKET (gcsfuse), or HOST:/SHARE (NFS, Filestore)
#   VERSION          of the TPU VM's software (by TYPE)
#
# `run` makes the resource unless it is there, waits for it, copies this
# checkout to every host, and starts launch/worker.sh on all of them. If the
# hosts are taken away, it asks for new ones and starts again; the run goes on
# where it was. It ends when the run has finished or has made a mistake.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NAME="${NAME:-dreamgen}" SLICES="${SLICES:-1}" SPOT="${SPOT:-0}"
MOUNT=/mnt/dreamgen

fail() { echo "error: $*" >&2; exit 2; }

need() {
  local name
  for name in "$@"; do
    [ -n "${!name:-}" ] || fail "set $name; the head of this file tells what."
  done
}

generation() {
  case "$TYPE" in
    v5litepod-*) echo v5e ;;
    v[0-9]*-[0-9]*) echo "${TYPE%%-*}" ;;
    *) fail "TYPE=$TYPE is no TPU; for example v5p-128." ;;
  esac
}

version() {
  case "$(generation)" in
    v4) echo tpu-ubuntu2204-base ;;
    v5e) echo v2-alpha-tpuv5-lite ;;
    v5p) echo v2-alpha-tpuv5 ;;
    *) echo "v2-alpha-tpu$(generation)" ;;
  esac
}

tpus() { gcloud compute tpus "$@" --project="$PROJECT" --zone="$ZONE"; }

state() {
  tpus queued-resources describe "$NAME" --format='value(state.state)' \
    2>/dev/null || echo NONE
}

nodes() {
  if [ "$SLICES" = 1 ]; then
    echo "$NAME"
  else
    local i
    for ((i = 0; i < SLICES; i++)); do echo "$NAME-$i"; done
  fi
}

create() {
  local options=(--accelerator-type="$TYPE"
    --runtime-version="${VERSION:-$(version)}")
  if [ "$SLICES" = 1 ]; then
    options+=(--node-id="$NAME")
  else
    options+=(--node-count="$SLICES" --node-prefix="$NAME")
  fi
  if [ "$SPOT" = 1 ]; then options+=(--spot); fi
  tpus queued-resources create "$NAME" "${options[@]}"
}

delete() { tpus queued-resources delete "$NAME" --force --quiet; }

acquire() {  # until the hosts are there
  while :; do
    case "$(state)" in
      ACTIVE) return ;;
      NONE) create ;;
      SUSPENDED | FAILED) delete ;;
      *) sleep 30 ;;
    esac
  done
}

everywhere() {  # a command on all hosts of all slices, at the same time
  local node pids=() code=0 pid
  for node in $(nodes); do
    tpus tpu-vm ssh "$node" --worker=all --command="$1" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
  return "$code"
}

install() {
  local archive node
  archive="$(mktemp)"
  git ls-files -z | tar --null -czf "$archive" -T -
  for node in $(nodes); do
    tpus tpu-vm scp "$archive" "$node:dreamgen.tar.gz" --worker=all
  done
  rm "$archive"
  local mount="sudo mount -t nfs -o hard $DISK $MOUNT"
  case "$DISK" in
    gs://*) mount="gcsfuse --implicit-dirs --rename-dir-limit=200000 \
      ${DISK#gs://} $MOUNT" ;;
  esac
  everywhere "set -e
    mkdir -p dreamgen && tar -xzf dreamgen.tar.gz -C dreamgen && cd dreamgen
    sudo mkdir -p $MOUNT && sudo chown \$(id -u) $MOUNT
    mountpoint -q $MOUNT || $mount
    [ -d .venv ] || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet -r requirements.lock
    .venv/bin/python -m pip install --quiet -e '.[tpu]'"
}

run() {
  need PROJECT ZONE TYPE DISK
  [ "$#" -ge 2 ] || fail "run takes CONFIG.py and WORKDIR."
  local config="$1" workdir="$2" code
  shift 2
  case "$workdir" in
    "$MOUNT"/*) ;;
    *) fail "WORKDIR must lie on the shared disk: $MOUNT/..." ;;
  esac
  local command
  command="cd dreamgen && mkdir -p $workdir.logs && GENERATION=$(generation) \
    SLICES=$SLICES launch/worker.sh --config=$config --workdir=$workdir \
    $(printf '%q ' "$@") > $workdir.logs/\$(hostname).log 2>&1"
  while :; do
    acquire
    code=0
    { install && everywhere "$command"; } || code=$?
    [ "$code" = 0 ] && exit 0
    [ "$code" = 2 ] && fail "the run says what is wrong: $0 logs."
    # Lost hosts end an ssh in their own ways; ask whether they are still ours.
    if [ "$(state)" = ACTIVE ]; then sleep 60; fi
    echo "Interrupted (code $code); goes on." >&2
  done
}

need_where() { need PROJECT ZONE; }

case "${1:-}" in
  run) shift; run "$@" ;;
  logs)
    need_where
    tpus tpu-vm ssh "$(nodes | head -n 1)" --worker=0 \
      --command="tail -n 50 -f $MOUNT/*.logs/\$(hostname).log" ;;
  stop) need_where; everywhere "pkill -TERM -f dreamgen_jax.main" ;;
  delete) need_where; delete ;;
  *) fail "say run, logs, stop or delete; the head of this file tells more." ;;
esac
