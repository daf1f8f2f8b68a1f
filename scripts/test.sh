#!/usr/bin/env bash
# Installs what the tests need (the first time) and runs them.
#
#   scripts/test.sh                        all but the minutes-long ones
#   scripts/test.sh --fast                 a first answer in a few minutes
#   scripts/test.sh tests/efficientnet -k survival    any pytest arguments
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

markers="not long"
if [[ ${1:-} == --fast ]]; then
  markers="not slow and not long"
  shift
fi
use_environment dev
cd "$checkout"
# Files stay whole, since their tests share what is slow to make.
exec "$PYTHON" -m pytest -m "$markers" -n 2 --dist loadfile "$@"
