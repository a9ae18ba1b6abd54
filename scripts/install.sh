# Sourced by the other scripts from the repository's root: gives .venv/bin/tierlb, installing only when needed.
#
#   install_tierlb STAMP REQUIREMENT
#
# STAMP names what was installed; it is made again when pyproject.toml is newer than its file in .venv. What
# `dev` installs is enough for everything but `bench`.

find_python() {
  for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$name"
      return
    fi
  done
  echo "tierlb needs Python 3.11 or newer: install it, or set PYTHON to its path" >&2
  exit 1
}

make_venv() {
  echo "making .venv (first run only)" >&2
  if ! "$(find_python)" -m venv .venv; then
    rm -rf .venv
    echo "cannot make a virtual environment: on Debian, apt-get install python3-venv" >&2
    exit 1
  fi
}

is_fresh() {
  [ -x .venv/bin/tierlb ] && [ -n "$(find "$1" -newer pyproject.toml 2>/dev/null)" ]
}

install_tierlb() {
  stamp=.venv/.installed-$1
  if is_fresh "$stamp" || { [ "$1" != bench ] && is_fresh .venv/.installed-dev; }; then
    return
  fi
  [ -x .venv/bin/python ] || make_venv
  echo "installing tierlb and what it needs into .venv" >&2
  if ! .venv/bin/python -m pip install -q --disable-pip-version-check -e "$2"; then
    echo "the installation failed: see pip's message above; it needs a way to PyPI once" >&2
    exit 1
  fi
  touch "$stamp"
}
