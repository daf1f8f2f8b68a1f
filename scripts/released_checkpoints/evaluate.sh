#!/usr/bin/env bash
# Evaluates a released checkpoint on ImageNet's validation images, its averaged
# weights at its own resolution.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/released_checkpoints/evaluate.sh --model NAME
           --label_data_dir DIR [--checkpoint_dir DIR] [--dry_run] [-- FLAGS]

  --model NAME          b0 to b7, l2_475 or l2. Published top-1 accuracy in %:
                        78.8 81.5 82.4 84.1 85.3 86.1 86.4 86.9; 88.2; 88.4.
  --label_data_dir DIR  Shards of data_prep.imagenet, a folder of class folders,
                        or tfds:imagenet2012.
  --checkpoint_dir DIR  Where download.sh put it; default: checkpoints.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.main (paths absolute),
                        such as --eval_batch_size=64.
TEXT
}

model="" label_data_dir="" checkpoint_dir=checkpoints
parse_arguments "model label_data_dir checkpoint_dir --" "" "$@"
need model label_data_dir
choose model b0 b1 b2 b3 b4 b5 b6 b7 l2_475 l2
absolute label_data_dir checkpoint_dir

prepare plots
run_last noisy_student.main --mode=eval --model_name="efficientnet-$model" \
  --checkpoint="$checkpoint_dir/noisy_student_efficientnet-$model.tar.gz" \
  --label_data_dir="$label_data_dir"
