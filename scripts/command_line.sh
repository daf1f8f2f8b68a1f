# shellcheck shell=bash
# Sourced by the scripts that run commands: arguments, --help, --dry_run.
#
#   source "$root/scripts/command_line.sh"     # and environment.sh with it
#   usage() { echo "Usage: ..."; }
#   data_dir="" model=b0 smoke=false           # arguments and their defaults
#   parse_arguments "data_dir model" "smoke" "$@"
#   need data_dir
#   choose model b0 b1
#   prepare quickstart                         # an extra of setup.py
#   run data_prep.digits --output_dir="$data_dir"
#   run_last noisy_student.main --mode=train --preset="imagenet/${model}_..."
#
# An argument is --name VALUE or --name=VALUE, a switch is --name. Variables of
# functions that set arguments begin with an underscore: no argument does.

# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

dry_run=false
# What follows `--`, for the command that the script runs.
flags=()

fail() {
  printf >&2 'error: %s\n' "$1"
  exit 1
}

# Whether $1 is one of the words of $2.
is_word_of() {
  [[ $1 && $1 != *" "* && " $2 " == *" $1 "* ]]
}

# Sets the variables named after arguments. $1: the names of those with values;
# `--` among them if the script takes flags after `--`, `*` if it takes whatever
# it does not know. $2: the names of switches, set to true. The rest: the
# arguments.
parse_arguments() {
  local _names=$1 _switches="dry_run $2" _argument _name
  shift 2
  while (($#)); do
    _argument=$1 _name=${1#--}
    shift
    if [[ $_argument == -h || $_argument == --help ]]; then
      usage
      exit
    elif [[ $_argument == -- ]] && is_word_of -- "$_names"; then
      flags+=("$@")
      return
    elif [[ $_argument == --*=* ]] && is_word_of "${_name%%=*}" "$_names"; then
      [[ ${_name#*=} ]] || fail "${_argument%=} needs a value; see $0 --help."
      printf -v "${_name%%=*}" '%s' "${_name#*=}"
    elif [[ $_argument == --* ]] && is_word_of "$_name" "$_switches"; then
      printf -v "$_name" true
    elif [[ $_argument == --* ]] && is_word_of "$_name" "$_names"; then
      [[ ${1-} ]] || fail "$_argument needs a value; see $0 --help."
      printf -v "$_name" '%s' "$1"
      shift
    elif is_word_of '*' "$_names"; then
      flags+=("$_argument")
    else
      fail "Unknown argument '$_argument'; see $0 --help."
    fi
  done
}

# Fails unless each of the arguments named was given.
need() {
  local _name
  for _name in "$@"; do
    [[ -n ${!_name} ]] || fail "--$_name is needed; see $0 --help."
  done
}

# Fails unless the value of argument $1 is one of the further words.
choose() {
  local _name=$1
  shift
  is_word_of "${!_name}" "$*" ||
    fail "--$_name must be one of: $*. Received: '${!_name}'."
}

# Makes the paths in the variables named absolute, from where the user is;
# several in one are separated by semicolons.
absolute() {
  local _name _part _parts _joined
  for _name in "$@"; do
    _joined=""
    IFS=';' read -ra _parts <<<"${!_name}"
    for _part in ${_parts[@]+"${_parts[@]}"}; do
      # Which the shell leaves alone behind a `=`.
      [[ $_part != \~/* ]] || _part=$HOME/${_part:2}
      [[ $_part == /* || $_part == *://* || $_part == tfds:* ]] ||
        _part=$PWD/$_part
      _joined+=${_joined:+;}$_part
    done
    printf -v "$_name" '%s' "$_joined"
  done
}

# Fails unless what the paths or patterns in the variables named are of is there,
# on this machine; for scripts whose first command takes long.
need_paths() {
  local _name _part _parts
  for _name in "$@"; do
    IFS=';' read -ra _parts <<<"${!_name}"
    for _part in ${_parts[@]+"${_parts[@]}"}; do
      $dry_run || [[ $_part == *://* || -e $_part ]] ||
        compgen -G "$_part" >/dev/null ||
        fail "--$_name: '$_part' is not there."
    done
  done
}

# Gets ready to `run`: finds the Python that has extra $1 ("": none), and goes
# to the checkout, whose modules Python finds there. A dry run installs nothing.
prepare() {
  if $dry_run; then
    PYTHON=python
  else
    use_environment "$1"
  fi
  cd "$checkout" || exit
}

# Runs module $1 with the further words and what followed `--`.
run() {
  execute "$PYTHON" -m "$@" ${flags[@]+"${flags[@]}"}
}

# The same in place of the script, so that signals reach the module.
run_last() {
  if $dry_run; then
    run "$@"
  else
    exec "$PYTHON" -m "$@" ${flags[@]+"${flags[@]}"}
  fi
}

# Runs a command, or prints it in a form that a shell takes.
execute() {
  local word
  if ! $dry_run; then
    "$@"
    return
  fi
  quote "$1"
  for word in "${@:2}"; do
    if [[ $word == --* ]]; then
      printf ' \\\n   '
    fi
    printf ' '
    quote "$word"
  done
  printf '\n'
}

# Prints a word so that a shell reads it as one.
quote() {
  local name="" value=$1
  if [[ $value =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
    printf '%s' "$value"
    return
  fi
  if [[ $value =~ ^(--[a-z_-]+=)(.*)$ ]]; then
    name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
  fi
  printf "%s'%s'" "$name" "${value//\'/\'\\\'\'}"
}
