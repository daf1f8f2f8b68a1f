#!/usr/bin/env bash
# Figure 4: accuracy under FGSM by epsilon, and under PGD.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/robustness/adversarial.sh --checkpoint PATH --label_data_dir DIR
           --output_dir DIR [--dry_run] [-- FLAGS]

  --checkpoint PATH     A run, or a released .tar.gz.
  --label_data_dir DIR  ImageNet's validation images: shards, a folder of class
                        folders, or tfds:imagenet2012.
  --output_dir DIR      Where adversarial.json goes.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.robustness.adversarial
                        (paths absolute), such as --num_images=5000.
TEXT
}

checkpoint="" label_data_dir="" output_dir=""
parse_arguments "checkpoint label_data_dir output_dir --" "" "$@"
need checkpoint label_data_dir output_dir
absolute checkpoint label_data_dir output_dir

prepare plots
run_last noisy_student.robustness.adversarial --checkpoint="$checkpoint" \
  --label_data_dir="$label_data_dir" --output_dir="$output_dir"
