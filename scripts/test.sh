#!/usr/bin/env bash
# Installs what the tests need (the first time) and runs them.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/test.sh [--fast] [--dry_run] [ARGUMENTS OF PYTEST]

  scripts/test.sh                        all but the minutes-long ones
  scripts/test.sh --fast                 a first answer in a few minutes
  scripts/test.sh tests/efficientnet -k survival    any pytest arguments
  scripts/test.sh --dry_run              prints the command, runs nothing
TEXT
}

fast=false
parse_arguments "*" "fast" "$@"
markers="not long"
if $fast; then
  markers="not slow and not long"
fi
prepare dev
cd "$checkout"
# Files stay whole, since their tests share what is slow to make.
run_last pytest -m "$markers" -n 2 --dist loadfile
