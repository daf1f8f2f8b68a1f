#!/usr/bin/env bash
# Turns the photos of YFCC100M, the public substitute for JFT, into unlabeled
# shards without ImageNet's validation images.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/yfcc100m/prepare.sh --metadata PATTERN --images DIR
           --eval_dir DIR --work_dir DIR [--dry_run]

  --metadata PATTERN  Of the photos: yfcc100m_dataset-*.bz2, or SQLite.
  --images DIR        The tree of the photos, or its archives.
  --eval_dir DIR      Evaluation images, such as 'imagenet/validation-*'.
  --work_dir DIR      Where everything goes; the result is clean/data. Started
                      again, it continues.
  --dry_run           Prints the commands and runs nothing.

Next: scripts/imagenet/predict.sh, filter.sh and train_student.sh.
TEXT
}

metadata="" images="" eval_dir="" work_dir=""
parse_arguments "metadata images eval_dir work_dir" "" "$@"
need metadata images eval_dir work_dir
absolute metadata images eval_dir work_dir
need_paths metadata images eval_dir

prepare plots
run data_prep.yfcc100m --metadata="$metadata" --images="$images" \
  --output_dir="$work_dir/shards"
run_last data_prep.deduplicate --input_dir="$work_dir/shards" \
  --eval_dir="$eval_dir" --output_dir="$work_dir/clean"
