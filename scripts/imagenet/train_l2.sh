#!/usr/bin/env bash
# Trains EfficientNet-L2 on ImageNet and pseudo-labeled images: one of the
# paper's three iterations, at 475 pixels. The teacher of the first is a B7.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/imagenet/train_l2.sh --round N --label_data_dir DIR
           --unlabel_data_dir DIR --model_dir DIR [--dry_run] [-- FLAGS]

  --round N             1 or 2: 14 unlabeled images for a labeled one; 3: 28.
  --label_data_dir DIR  Shards of data_prep.imagenet, train and validation.
  --unlabel_data_dir DIR
                        The filtered images with the labels of the last teacher:
                        what filter.sh (<output_dir>/data) or reassign.sh wrote.
  --model_dir DIR       The run; started again, it continues.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.main (paths absolute),
                        such as --tpu=local or --train_batch_size=1024.
TEXT
}

round="" label_data_dir="" unlabel_data_dir="" model_dir=""
parse_arguments "round label_data_dir unlabel_data_dir model_dir --" "" "$@"
need round label_data_dir unlabel_data_dir model_dir
choose round 1 2 3
absolute label_data_dir unlabel_data_dir model_dir

preset=imagenet/l2_noisy_student
if ((round == 3)); then
  preset=imagenet/l2_noisy_student_last
fi
prepare plots
run_last noisy_student.main --mode=train_and_eval --preset="$preset" \
  --label_data_dir="$label_data_dir" --unlabel_data_dir="$unlabel_data_dir" \
  --file_prefix=train --model_dir="$model_dir"
