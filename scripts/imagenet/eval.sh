#!/usr/bin/env bash
# Evaluates a network on ImageNet's 50,000 validation images.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/imagenet/eval.sh --checkpoint PATH --label_data_dir DIR
           [--dry_run] [-- FLAGS]

  --checkpoint PATH     A run, or a released .tar.gz.
  --label_data_dir DIR  Shards of data_prep.imagenet, a folder of class folders,
                        or tfds:imagenet2012.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.main (paths absolute),
                        such as --eval_batch_size=64 or --input_image_size=600.
TEXT
}

checkpoint="" label_data_dir=""
parse_arguments "checkpoint label_data_dir --" "" "$@"
need checkpoint label_data_dir
absolute checkpoint label_data_dir

prepare plots
run_last noisy_student.main --mode=eval --checkpoint="$checkpoint" \
  --label_data_dir="$label_data_dir"
