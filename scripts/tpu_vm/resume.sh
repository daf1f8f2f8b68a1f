#!/usr/bin/env bash
# Goes on after a TPU VM was taken away or stopped: makes it anew, installs and
# runs the module again, which continues from its last checkpoint. Where it is
# still there and the module was started, it only says so. Call it every few
# minutes, from a machine that stays.
set -euo pipefail

# shellcheck source=scripts/tpu_vm/gcloud.sh
source "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"

usage() {
  cat <<TEXT
Usage: scripts/tpu_vm/resume.sh --name NAME --zone ZONE [--project PROJECT]
           --accelerator_type TYPE --version VERSION [--spot] [--worker N]
           [--dry_run] -- MODULE FLAGS

MODULE and FLAGS are those that run.sh was called with. A machine that was
stopped, by whomever, is deleted and made anew.

$(machine_usage)
  --spot             As create.sh.
  --worker N         As run.sh.
$(common_usage)
TEXT
}

accelerator_type="" version="" worker=0 spot=false
parse_arguments "$place $machine worker --" "spot" "$@"
need name zone accelerator_type version
((${#flags[@]})) || fail "Which module? It follows --; see $0 --help."

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
state=$(tpu_vm describe --format="value(state)" 2>"$errors") || state=ABSENT
if [[ $state == ABSENT ]] && ! grep -q NOT_FOUND "$errors"; then
  fail "$(<"$errors")"
fi

look_for_log() {
  tpu_vm ssh --worker="${worker/all/0}" \
    --command="ls noisy_student.log || echo none"
}

if $dry_run; then
  printf '%s\n' "$state"
  printf '# If that prints READY, whether the module was started:\n'
  look_for_log
  printf '# If it is PREEMPTED, TERMINATED or STOPPED:\n'
  state=PREEMPTED
fi
# A call before may have made it and got no further.
if [[ $state == READY ]]; then
  log=$(look_for_log)
  if [[ $log == none ]]; then
    state=UNUSED
  fi
fi
case $state in
  PREEMPTED | TERMINATED | STOPPED) tpu_vm delete --quiet ;;
  ABSENT | UNUSED) ;;
  *)
    printf '%s is %s: nothing to do.\n' "$name" "$state"
    exit
    ;;
esac
which=()
while IFS= read -r word; do
  which+=("$word")
done < <(which_tpu_vm)
scripts=$checkout/scripts/tpu_vm
options=(--accelerator_type="$accelerator_type" --version="$version")
if $spot; then
  options+=(--spot)
fi
if [[ $state != UNUSED ]]; then
  "$scripts/create.sh" "${which[@]}" "${options[@]}"
fi
"$scripts/setup.sh" "${which[@]}"
"$scripts/run.sh" "${which[@]}" --version="$version" --worker="$worker" -- \
  "${flags[@]}"
