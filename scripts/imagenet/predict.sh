#!/usr/bin/env bash
# Lets a teacher of ImageNet label a corpus, one prediction shard per image
# shard.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/imagenet/predict.sh --checkpoint PATH --unlabel_data_dir DIR
           --output_dir DIR [--file_prefix NAME] [--dry_run] [-- FLAGS]

  --checkpoint PATH     The teacher: a run, or a released .tar.gz.
  --unlabel_data_dir DIR
                        Shards without evaluation images: <output_dir>/data of
                        scripts/yfcc100m/prepare.sh or scripts/jft/prepare.sh.
  --output_dir DIR      The predictions; started again, it continues.
  --file_prefix NAME    Of the shards; default: train.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.main (paths absolute),
                        such as --eval_batch_size=1024 or
                        --prediction_storage=topk.
TEXT
}

checkpoint="" unlabel_data_dir="" output_dir="" file_prefix=train
parse_arguments "checkpoint unlabel_data_dir output_dir file_prefix --" "" "$@"
need checkpoint unlabel_data_dir output_dir
absolute checkpoint unlabel_data_dir output_dir

prepare plots
run_last noisy_student.main --mode=predict --checkpoint="$checkpoint" \
  --unlabel_data_dir="$unlabel_data_dir" --file_prefix="$file_prefix" \
  --output_dir="$output_dir"
