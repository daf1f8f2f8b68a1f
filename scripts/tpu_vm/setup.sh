#!/usr/bin/env bash
# Installs this checkout, as it is committed, on every host of a TPU VM. The
# image's own TensorFlow is left alone.
set -euo pipefail

# shellcheck source=scripts/tpu_vm/gcloud.sh
source "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"

usage() {
  cat <<TEXT
Usage: scripts/tpu_vm/setup.sh --name NAME --zone ZONE [--project PROJECT]
           [--dry_run]

$(common_usage)
TEXT
}

parse_arguments "$place" "" "$@"
need name zone

package=noisy-student.tar.gz
folder=$checkout/build
$dry_run || mkdir -p "$folder"
execute git -C "$checkout" archive --format=tar.gz --prefix=noisy-student/ \
  --output="$folder/$package" HEAD
execute gcloud compute tpus tpu-vm scp "$folder/$package" "$name:" \
  --zone="$zone" ${project:+"--project=$project"} --worker=all
tpu_vm ssh --worker=all \
  --command="python3 -m pip install --upgrade './${package}[tpu,plots]'"
