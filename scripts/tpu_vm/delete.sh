#!/usr/bin/env bash
# Deletes a TPU VM with its disks. What lies on gs:// stays.
set -euo pipefail

# shellcheck source=scripts/tpu_vm/gcloud.sh
source "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"

usage() {
  cat <<TEXT
Usage: scripts/tpu_vm/delete.sh --name NAME --zone ZONE [--project PROJECT]
           [--dry_run]

$(common_usage)
TEXT
}

parse_arguments "$place" "" "$@"
need name zone

tpu_vm delete --quiet
