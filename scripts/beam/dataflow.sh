#!/usr/bin/env bash
# Prepares data on Google Cloud Dataflow, with the numbers of the paper: removes
# evaluation images, labels with a teacher, keeps 130,000 images a class.
# docs/beam.md has the rest. Started again, it goes on where it stopped.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: PROJECT=... BUCKET=gs://... scripts/beam/dataflow.sh
           [--dry_run] FLAGS

FLAGS are those of \`python -m noisy_student.beam_pipeline\`; needed are
--input_dir, --eval_dir, --output_dir and --checkpoint, all on gs://. --dry_run
prints the command and runs nothing.

  PROJECT       Google Cloud project.
  BUCKET        Where Dataflow keeps its own files: gs://bucket/folder.
  REGION        Default: us-central1.
  MACHINE_TYPE  Of the workers; default: n1-standard-8.
  MAX_WORKERS   Default: 100.
  IMAGE         Container that the workers run, with this project installed.
                Without one each worker installs it, which takes minutes.
  ACCELERATOR   Of each worker, such as nvidia-tesla-t4; needs IMAGE.
TEXT
}

parse_arguments "*" "" "$@"
[[ -n ${PROJECT:-} ]] || fail "PROJECT must be set; see --help."
[[ ${BUCKET:-} == gs://* ]] ||
  fail "BUCKET must be a folder on gs://. Received: '${BUCKET:-}'."
[[ -z ${ACCELERATOR:-} || -n ${IMAGE:-} ]] ||
  fail "ACCELERATOR needs IMAGE, a container with the libraries for it."

beam=(
  --runner=DataflowRunner
  --project="$PROJECT"
  --region="${REGION:-us-central1}"
  --temp_location="$BUCKET/temp"
  --staging_location="$BUCKET/staging"
  --machine_type="${MACHINE_TYPE:-n1-standard-8}"
  --max_num_workers="${MAX_WORKERS:-100}"
  # The names of many shards make pipelines larger than a request may be.
  --experiments=upload_graph
)
if [[ -n ${IMAGE:-} ]]; then
  beam+=(--sdk_container_image="$IMAGE")
else
  beam+=(--setup_file="$checkout/setup.py")
fi
if [[ -n ${ACCELERATOR:-} ]]; then
  accelerator="type:$ACCELERATOR;count:1;install-nvidia-driver"
  beam+=(
    --dataflow_service_options="worker_accelerator=$accelerator"
    # One process, so that one network is on the accelerator.
    --experiments=no_use_multiple_sdk_containers
  )
fi

prepare dataflow
given=(${flags[@]+"${flags[@]}"}) flags=()
run_last noisy_student.beam_pipeline --num_image=130000 --min_threshold=0.3 \
  ${given[@]+"${given[@]}"} -- "${beam[@]}"
