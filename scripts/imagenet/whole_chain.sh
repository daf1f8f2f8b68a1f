#!/usr/bin/env bash
# The paper's whole self-training on ImageNet in one command: for L2 a B7, three
# students, then FixRes; for B0 to B7 a teacher and a student of the same size.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/imagenet/whole_chain.sh --chain NAME --label_data_dir DIR
           --unlabel_data_dir DIR --work_dir DIR [--dry_run] [-- FLAGS]

  --chain NAME          l2, or b0 to b7.
  --label_data_dir DIR  Shards of data_prep.imagenet, train and validation.
  --unlabel_data_dir DIR
                        Shards without evaluation images: <output_dir>/data of
                        scripts/yfcc100m/prepare.sh or scripts/jft/prepare.sh.
  --work_dir DIR        Where everything goes; started again, it continues.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.self_training (paths
                        absolute): --dry_run for the plan, with steps, storage
                        and device-hours; --filter_teacher=PATH to filter once,
                        with a B0, as the paper did.
TEXT
}

chain="" label_data_dir="" unlabel_data_dir="" work_dir=""
parse_arguments "chain label_data_dir unlabel_data_dir work_dir --" "" "$@"
need chain label_data_dir unlabel_data_dir work_dir
choose chain b0 b1 b2 b3 b4 b5 b6 b7 l2
absolute label_data_dir unlabel_data_dir work_dir

prepare plots
run_last noisy_student.self_training --chain="imagenet/$chain" \
  --work_dir="$work_dir" --label_data_dir="$label_data_dir" \
  --unlabel_data_dir="$unlabel_data_dir"
