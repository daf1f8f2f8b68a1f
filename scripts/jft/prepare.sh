#!/usr/bin/env bash
# Turns a corpus like JFT, TFRecord or tar files of images, into unlabeled
# shards without ImageNet's validation images.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/jft/prepare.sh --input PATTERN --eval_dir DIR --work_dir DIR
           [--dry_run]

  --input PATTERN  The TFRecord or .tar files.
  --eval_dir DIR   Evaluation images, such as 'imagenet/validation-*'.
  --work_dir DIR   Where everything goes; the result is clean/data. Started
                   again, it continues.
  --dry_run        Prints the commands and runs nothing.

Next: scripts/imagenet/predict.sh, filter.sh and train_student.sh. Where one
machine is too few, scripts/beam/dataflow.sh takes the shards.
TEXT
}

input="" eval_dir="" work_dir=""
parse_arguments "input eval_dir work_dir" "" "$@"
need input eval_dir work_dir
absolute input eval_dir work_dir
need_paths input eval_dir

prepare plots
run data_prep.jft --input="$input" --output_dir="$work_dir/shards"
run_last data_prep.deduplicate --input_dir="$work_dir/shards" \
  --eval_dir="$eval_dir" --output_dir="$work_dir/clean"
