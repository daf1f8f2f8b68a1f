#!/usr/bin/env bash
# Creates a TPU VM: one machine, or all of a pod slice.
set -euo pipefail

# shellcheck source=scripts/tpu_vm/gcloud.sh
source "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"

usage() {
  cat <<TEXT
Usage: scripts/tpu_vm/create.sh --name NAME --zone ZONE [--project PROJECT]
           --accelerator_type TYPE --version VERSION [--spot] [--dry_run]

$(machine_usage)
  --spot             Cheaper, and taken away when others need it; see resume.sh.
$(common_usage)
TEXT
}

accelerator_type="" version="" spot=false
parse_arguments "$place $machine" "spot" "$@"
need name zone accelerator_type version

options=(--accelerator-type="$accelerator_type" --version="$version")
if $spot; then
  options+=(--spot)
fi
tpu_vm create "${options[@]}"
