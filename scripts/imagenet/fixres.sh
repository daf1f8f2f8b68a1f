#!/usr/bin/env bash
# Tunes L2 at a larger resolution than it was trained at, 475 -> 800 pixels, on
# labeled images without augmentation (FixRes).
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/imagenet/fixres.sh --init_model_path PATH --label_data_dir DIR
           --model_dir DIR [--dry_run] [-- FLAGS]

  --init_model_path PATH
                        The network: the run of train_l2.sh --round 3.
  --label_data_dir DIR  Shards of data_prep.imagenet, train and validation.
  --model_dir DIR       The run; started again, it continues.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.main (paths absolute),
                        such as --tpu=local or --train_batch_size=1024.
TEXT
}

init_model_path="" label_data_dir="" model_dir=""
parse_arguments "init_model_path label_data_dir model_dir --" "" "$@"
need init_model_path label_data_dir model_dir
absolute init_model_path label_data_dir model_dir

prepare plots
run_last noisy_student.main --mode=fixres_finetune \
  --preset=imagenet/l2_fixres --init_model_path="$init_model_path" \
  --label_data_dir="$label_data_dir" --model_dir="$model_dir"
