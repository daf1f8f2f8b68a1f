# shellcheck shell=bash
# Sourced by the other scripts. Finds a supported Python and keeps a virtual
# environment with the project's dependencies:
#
#   source "$root/scripts/environment.sh"
#   use_environment quickstart       # an extra of setup.py, or ""
#   "$PYTHON" -m noisy_student.main ...
#
# What the caller or the user may set:
#   PYTHON               The Python to build on. Else the one of the active
#                        virtual environment, else the best one found.
#   NOISY_STUDENT_VENV   Where the environment lies; default: .venv in the
#                        checkout. `none`: installs nothing and takes PYTHON,
#                        the active environment's, .venv's, or the best one.

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Prints "3.11.7" if command $1 runs and is a Python this project can build on,
# else fails after printing why not. Commands are run, not just looked up: the
# shims of version managers exist even where they lead nowhere.
check_python() {
  "$1" -c '
import sys
version = "%d.%d.%d" % sys.version_info[:3]
if not (3, 9) <= sys.version_info < (3, 14):
    sys.exit(print(version) or 1)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(print(version + " without the venv module") or 1)
print(version)' 2>/dev/null
}

# Prints the first Python that works: $PYTHON alone if set, else by the names
# after $1, on PATH and under pyenv. $1 says what is needed if there is none.
find_python() {
  local needed=$1 candidates=() found="" name python version
  for name in "${@:2}"; do
    candidates+=("$name")
    if [[ $name != */* ]]; then
      candidates+=("${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/*/bin/"$name")
    fi
  done
  if [[ -n ${PYTHON:-} ]]; then
    candidates=("$PYTHON")
  fi
  for python in "${candidates[@]}"; do
    if version=$(check_python "$python"); then
      printf '%s\n' "$python"
      return
    elif [[ -n $version ]]; then
      found+="${found:+, }$python ($version)"
    fi
  done
  found=${found:-none${PYTHON:+ that runs as $PYTHON}}
  printf >&2 'error: Noisy Student needs %s; found: %s.\n' "$needed" "$found"
  return 1
}

# Prints the Python to build on: of the active virtual environment, or the best.
default_python() {
  find_python "Python 3.9 to 3.13 with its venv module" \
    ${VIRTUAL_ENV:+"$VIRTUAL_ENV/bin/python"} \
    python3.11 python3.10 python3.12 python3.13 python3.9 python3
}

# Sets and exports PYTHON to a Python that has everything extra $1 needs; "" is
# none, and what the project itself needs suffices.
use_environment() {
  local extra=$1 venv=${NOISY_STUDENT_VENV:-.venv}
  if [[ ${PYTHON:-} == */* && $PYTHON != /* ]]; then
    PYTHON=$PWD/$PYTHON
  fi
  if [[ $venv == none ]]; then
    PYTHON=$(VIRTUAL_ENV=${VIRTUAL_ENV:-$checkout/.venv} default_python) ||
      return
    if ! "$PYTHON" -c 'import importlib.util, sys
sys.exit(importlib.util.find_spec("tensorflow") is None)'; then
      printf >&2 'error: %s has no TensorFlow; %s.\n' "$PYTHON" \
        "set PYTHON to one that has, or NOISY_STUDENT_VENV=.venv to install it"
      return 1
    fi
  else
    [[ $venv == /* ]] || venv=$checkout/$venv
    is_current "$venv" "$extra" || install "$venv" "$extra" || return
    PYTHON=$venv/bin/python
  fi
  export PYTHON
}

# What an installation of extra $2 into environment $1 depends on.
stamp() {
  printf '%s %s %s\n' "$checkout" "$2" "$(check_python "$1/bin/python")"
  printf '%s\n' "$(<"$checkout/setup.py")"
}

# Whether environment $1 has extra $2, for the present setup.py and $PYTHON.
is_current() {
  [[ -e $1/installed-$2 && ! -e $1.installing ]] &&
    [[ -z ${PYTHON:-} ||
      $(check_python "$PYTHON") == "$(check_python "$1/bin/python")" ]] &&
    [[ $(<"$1/installed-$2") == "$(stamp "$1" "$2")" ]]
}

# Whether all that lies at $1 may be deleted: nothing, or an environment, if
# only the beginnings or the remains of one.
may_replace() {
  [[ ! -e $1 || -f $1/pyvenv.cfg || -e $1.installing ]] ||
    [[ -d $1 && -z $(ls -A "$1" 2>&1) ]]
}

# Installs extra $2 into environment $1, which is made or repaired as needed.
# While that lasts a file `<environment>.installing` holds this process's id:
# where a run was killed, the next one finds it and starts afresh.
install() {
  local venv=$1 extra=$2 marker=$1.installing python version status=0
  if [[ -e $marker ]] && kill -0 "$(<"$marker")" 2>/dev/null; then
    printf >&2 'error: Process %s is installing into %s; %s.\n' \
      "$(<"$marker")" "$venv" "wait for it, or end it and delete $marker"
    return 1
  fi
  if ! may_replace "$venv"; then
    printf >&2 'error: NOISY_STUDENT_VENV=%s %s; %s.\n' "$venv" \
      "is not empty and no virtual environment" "name another folder"
    return 1
  fi
  python=$(default_python) || return
  version=$(check_python "$python") || return
  printf >&2 'Installing TensorFlow%s for Python %s into %s: %s.\n' \
    "${extra:+ and [$extra]}" "$version" "$venv" \
    "about two minutes and 3 GB, once"
  if [[ -e $marker || $(check_python "$venv/bin/python") != "$version" ]]; then
    mkdir -p "$venv" || return
    printf '%s\n' "$$" >"$marker"
    "$python" -m venv --clear "$venv" || return
  fi
  printf '%s\n' "$$" >"$marker"
  rm -f "$venv/installed-$extra"
  # The pip that an older Python brings may search for hours where an index
  # does not say which Pythons its files are for.
  "$venv/bin/python" -m pip install -qq --upgrade "pip>=24" || status=$?
  if ((status == 0)); then
    "$venv/bin/python" -m pip install -qq -e "$checkout${extra:+[$extra]}" ||
      status=$?
  fi
  ((status)) || stamp "$venv" "$extra" >"$venv/installed-$extra"
  # Only now: pip leaves a usable environment behind when it fails by itself.
  rm "$marker"
  return "$status"
}
