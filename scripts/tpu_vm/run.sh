#!/usr/bin/env bash
# Runs a module of this project on a TPU VM, in the background: on its first
# host, from which TensorFlow drives a slice, or on every host.
set -euo pipefail

# shellcheck source=scripts/tpu_vm/gcloud.sh
source "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"

usage() {
  cat <<TEXT
Usage: scripts/tpu_vm/run.sh --name NAME --zone ZONE [--project PROJECT]
           --version VERSION [--worker N] [--dry_run] -- MODULE FLAGS

For example, with data and runs on gs://, which all hosts see:

  scripts/tpu_vm/run.sh --name my-pod --zone europe-west4-a --project mine \\
      --version tpu-vm-tf-2.15.0-pod -- noisy_student.main --mode=train \\
      --preset=imagenet/b7_supervised --tpu=my-pod --tpu_zone=europe-west4-a \\
      --gcp_project=mine --label_data_dir=gs://mine/imagenet \\
      --model_dir=gs://mine/runs/b7

One machine takes --tpu=local. Output goes to noisy_student.log on the host.

  --version VERSION  Image of the machines, as create.sh was told.
  --worker N         The host: a number, or all (default: 0).
$(common_usage)
TEXT
}

version="" worker=0
parse_arguments "$place version worker --" "" "$@"
need name zone version
((${#flags[@]})) || fail "Which module? It follows --; see $0 --help."

# What the images need before TensorFlow finds the TPU.
case $version in
  *-pod*) variables="TPU_LOAD_LIBRARY=0" ;;
  *-pjrt) variables="NEXT_PLUGGABLE_DEVICE_USE_C_API=true"
    variables+=" TF_PLUGGABLE_DEVICE_LIBRARY_PATH=/lib/libtpu.so" ;;
  *) variables="" ;;
esac
words=""
for word in "${flags[@]}"; do
  words+=" $(quote "$word")"
done
tpu_vm ssh --worker="$worker" --command="nohup env $variables python3 -m$words \
>>noisy_student.log 2>&1 </dev/null &"
