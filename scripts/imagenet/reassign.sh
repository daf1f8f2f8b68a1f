#!/usr/bin/env bash
# Labels filtered images anew with a better teacher, as the paper does between
# its iterations: the choice of images stays that of the first filter.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/imagenet/reassign.sh --checkpoint PATH --unlabel_data_dir DIR
           --output_dir DIR [--dry_run] [-- FLAGS]

  --checkpoint PATH     The teacher: a run, or a released .tar.gz.
  --unlabel_data_dir DIR
                        Filtered shards: <output_dir>/data of filter.sh.
  --output_dir DIR      The same images, newly labeled; started again, it
                        continues.
  --dry_run             Prints the command and runs nothing.
  -- FLAGS              Further flags of noisy_student.main (paths absolute),
                        such as --eval_batch_size=1024.
TEXT
}

checkpoint="" unlabel_data_dir="" output_dir=""
parse_arguments "checkpoint unlabel_data_dir output_dir --" "" "$@"
need checkpoint unlabel_data_dir output_dir
absolute checkpoint unlabel_data_dir output_dir

prepare plots
run_last noisy_student.main --mode=predict --reassign_label \
  --checkpoint="$checkpoint" --unlabel_data_dir="$unlabel_data_dir" \
  --file_prefix=train --output_dir="$output_dir"
