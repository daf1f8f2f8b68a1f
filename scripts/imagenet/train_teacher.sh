#!/usr/bin/env bash
# Trains the first teacher of ImageNet: on labeled images alone.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/imagenet/train_teacher.sh --label_data_dir DIR --model_dir DIR
           [--model NAME] [--dry_run] [-- FLAGS]

  --label_data_dir DIR  Shards of data_prep.imagenet, train and validation.
  --model_dir DIR       The run; started again, it continues.
  --model NAME          b0 to b7, l2_475 or l2; default: b7.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.main (paths absolute),
                        such as --tpu=local or --train_batch_size=1024.
TEXT
}

label_data_dir="" model_dir="" model=b7
parse_arguments "label_data_dir model_dir model --" "" "$@"
need label_data_dir model_dir
choose model b0 b1 b2 b3 b4 b5 b6 b7 l2_475 l2
absolute label_data_dir model_dir

prepare plots
run_last noisy_student.main --mode=train_and_eval \
  --preset="imagenet/${model}_supervised" \
  --label_data_dir="$label_data_dir" --model_dir="$model_dir"
