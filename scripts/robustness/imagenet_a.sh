#!/usr/bin/env bash
# Table 3: accuracy on ImageNet-A, among its 200 classes and all 1000.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/robustness/imagenet_a.sh --checkpoint PATH --label_data_dir DIR
           --output_dir DIR [--dry_run] [-- FLAGS]

  --checkpoint PATH     A run, or a released .tar.gz.
  --label_data_dir DIR  The released folder imagenet-a, shards, or
                        tfds:imagenet_a.
  --output_dir DIR      Where imagenet_a.json goes.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.robustness.imagenet_a
                        (paths absolute), such as
                        --model_name=efficientnet-l2 or --eval_batch_size=64.
TEXT
}

checkpoint="" label_data_dir="" output_dir=""
parse_arguments "checkpoint label_data_dir output_dir --" "" "$@"
need checkpoint label_data_dir output_dir
absolute checkpoint label_data_dir output_dir

prepare ""
run_last noisy_student.robustness.imagenet_a --checkpoint="$checkpoint" \
  --label_data_dir="$label_data_dir" --output_dir="$output_dir"
