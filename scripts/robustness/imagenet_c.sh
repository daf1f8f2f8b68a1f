#!/usr/bin/env bash
# Table 4: errors on ImageNet-C, mCE.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/robustness/imagenet_c.sh --checkpoint PATH --label_data_dir DIR
           --output_dir DIR [--dry_run] [-- FLAGS]

  --checkpoint PATH     A run, or a released .tar.gz.
  --label_data_dir DIR  The released folder imagenet-c, of 224x224 or 299x299
                        pixels, or tfds:imagenet2012_corrupted.
  --output_dir DIR      Where imagenet_c.json goes.
                        A run that was stopped goes on there.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.robustness.imagenet_c
                        (paths absolute), such as
                        --model_name=efficientnet-l2 or --eval_batch_size=64.
TEXT
}

checkpoint="" label_data_dir="" output_dir=""
parse_arguments "checkpoint label_data_dir output_dir --" "" "$@"
need checkpoint label_data_dir output_dir
absolute checkpoint label_data_dir output_dir

prepare ""
run_last noisy_student.robustness.imagenet_c --checkpoint="$checkpoint" \
  --label_data_dir="$label_data_dir" --output_dir="$output_dir"
