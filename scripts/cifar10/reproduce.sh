#!/usr/bin/env bash
# The paper's findings on CIFAR-10, at a size for two processor cores: arms are
# trained, then evaluated once on the test images, then put into a table.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"

usage() {
  cat <<TEXT
Usage: scripts/cifar10/reproduce.sh [--data_dir DIR] [--work_dir DIR] [--all]
           [--report_path FILE] [--dry_run] [--smoke]

Trains the supervised baseline and the noisy student with five seeds each, and
with --all every other arm. 2,500 training images are labeled, 2,500 are held
out to choose recipes on, the others unlabeled. Started again, it continues.

  --data_dir DIR      CIFAR-10 as files: train/<class>/*, test/<class>/*; without
                      it TensorFlow Datasets downloads CIFAR-10, once.
  --work_dir DIR      Where everything goes (default: runs/reproduce).
  --report_path FILE  The page of results (default: results.md in the former).
  --all               All arms of noisy_student/experiments/arms.py.
  --dry_run           Say what would be run, and run nothing.
  --smoke             A few images and steps with two seeds, in the Python
                      environment at hand, to see that everything runs (default
                      DIR: runs/reproduce_smoke).
TEXT
}

fail() {
  printf >&2 'error: %s\n' "$1"
  exit 1
}

data_dir="" work_dir="" report_path="" options=() smoke=false dry_run=false
while (($#)); do
  case $1 in
    --data_dir=* | --work_dir=* | --report_path=*)
      set -- "${1%%=*}" "${1#*=}" "${@:2}"
      ;;
    --data_dir | --work_dir | --report_path)
      (($# > 1)) || fail "$1 needs a value; see --help."
      printf -v "${1#--}" '%s' "$2"
      shift 2
      ;;
    --all) options+=(--arms=all) && shift ;;
    --dry_run) dry_run=true && shift ;;
    --smoke) smoke=true && shift ;;
    -h | --help) usage && exit ;;
    *) fail "Unknown argument '$1'; see scripts/cifar10/reproduce.sh --help." ;;
  esac
done
if [[ -n $data_dir ]]; then
  [[ -d $data_dir/train && -d $data_dir/test ]] ||
    fail "--data_dir must have the folders train and test. Received: '$data_dir'."
  data_dir=$(cd "$data_dir" && pwd)
fi
name=reproduce
if $smoke; then
  options+=(--smoke --seeds=2)
  name=reproduce_smoke
  NOISY_STUDENT_VENV=${NOISY_STUDENT_VENV:-none}
fi
work_dir=${work_dir:-$checkout/runs/$name}
[[ $work_dir == /* ]] || work_dir=$PWD/$work_dir
report_path=${report_path:-$work_dir/results.md}
[[ $report_path == /* ]] || report_path=$PWD/$report_path

use_environment quickstart
cd "$checkout"
options+=(--data_dir="${data_dir:-tfds:cifar10}" --work_dir="$work_dir")
if $dry_run; then
  exec "$PYTHON" -m noisy_student.experiments "${options[@]}" --dry_run
fi
if [[ -z $data_dir ]]; then
  "$PYTHON" -m tensorflow_datasets.scripts.cli.main build cifar10
fi
"$PYTHON" -m noisy_student.experiments "${options[@]}"
exec "$PYTHON" -m noisy_student.experiments "${options[@]}" \
  --evaluate_test --report_path="$report_path"
