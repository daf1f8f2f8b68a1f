#!/usr/bin/env bash
# Keeps the pseudo labels of ImageNet's classes that the paper kept: of
# confidence 0.3 and more, the 130,000 most confident images of a class, with
# copies where there are fewer.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/imagenet/filter.sh --unlabel_data_dir DIR --prediction_dir DIR
           --output_dir DIR [--file_prefix NAME] [--dry_run] [-- FLAGS]

  --unlabel_data_dir DIR
                        The shards that predict.sh labeled.
  --prediction_dir DIR  What it wrote.
  --output_dir DIR      Kept records (data/), and reports; started again, it
                        continues.
  --file_prefix NAME    Of the shards; default: train.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of data_prep.filter_unlabel (paths
                        absolute), such as --selection=binned for the original
                        code's rule.
TEXT
}

unlabel_data_dir="" prediction_dir="" output_dir="" file_prefix=train
parse_arguments "unlabel_data_dir prediction_dir output_dir file_prefix --" "" \
  "$@"
need unlabel_data_dir prediction_dir output_dir
absolute unlabel_data_dir prediction_dir output_dir

prepare plots
run_last data_prep.filter_unlabel --input_dir="$unlabel_data_dir" \
  --file_prefix="$file_prefix" --prediction_dir="$prediction_dir" \
  --output_dir="$output_dir" --num_label_classes=1000 --num_image=130000 \
  --min_threshold=0.3
