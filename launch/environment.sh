# shellcheck shell=bash
# Sourced by the other scripts: a .venv with the locked packages, OpenGL that
# works without a screen, and the process settings that must precede Python.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

fail() { echo "error: $*" >&2; exit 1; }

# Where no screen is, MuJoCo draws through EGL.
export MUJOCO_GL="${MUJOCO_GL:-egl}"
if [[ "$MUJOCO_GL" == egl || "$MUJOCO_GL" == osmesa ]]; then
  export PYOPENGL_PLATFORM="${PYOPENGL_PLATFORM:-$MUJOCO_GL}"
fi
export LP_NUM_THREADS="${LP_NUM_THREADS:-0}"
# Keeps freed video buffers in the process: 3 to 4 times cheaper reads.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-2147483648}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-4294967296}"
export MALLOC_TOP_PAD_="${MALLOC_TOP_PAD_:-268435456}"

find_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11 python3.14; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        2>/dev/null; then
      echo "$name"
      return
    fi
  done
  fail "Python 3.11 or newer was not found; install it (for example" \
    "'apt-get install python3.11 python3.11-venv') and run this again."
}

install_packages() {
  if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
      2>/dev/null; then
    local python
    python="$(find_python)"
    "$python" -m venv --clear .venv \
      || fail "$python cannot make a virtual environment; on Debian and" \
        "Ubuntu: apt-get install python3-venv"
  fi
  local wanted
  # A checkout that was moved or copied needs its own install.
  wanted="$(.venv/bin/python -c 'import hashlib, os
lock = open("requirements.lock", "rb").read() + open("setup.py", "rb").read()
print(hashlib.sha256(lock + os.getcwd().encode()).hexdigest())')"
  if [[ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]]; then
    echo "Installing the packages of requirements.lock (about a minute) ..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      -r requirements.lock || fail "the packages could not be installed."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      --no-deps --no-build-isolation -e . \
      || fail "this checkout could not be installed."
    echo "$wanted" > .venv/installed
  fi
}

can_draw() {
  .venv/bin/python -c 'import mujoco; mujoco.GLContext(8, 8).make_current()' \
    >/dev/null 2>&1
}

install_opengl() {
  can_draw && return
  local packages="libegl1 libegl-mesa0 libgl1-mesa-dri libgl1"
  if [[ "$MUJOCO_GL" == egl && "$(id -u)" == 0 ]] \
      && command -v apt-get >/dev/null; then
    echo "Installing OpenGL for drawing without a screen ..."
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get update && apt-get install -y $packages; } >/dev/null 2>&1 \
      || true
    can_draw && return
  fi
  fail "MuJoCo cannot draw with MUJOCO_GL=$MUJOCO_GL; install OpenGL with:" \
    "sudo apt-get install -y $packages"
}

install_packages
install_opengl
