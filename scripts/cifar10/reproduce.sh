#!/usr/bin/env bash
# The paper's findings on CIFAR-10, at a size for two processor cores: arms are
# trained, then evaluated once on the test images, then put into a table.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/cifar10/reproduce.sh [--data_dir DIR] [--work_dir DIR] [--all]
           [--report_path FILE] [--smoke] [--dry_run] [-- FLAGS]

Trains the supervised baseline and the noisy student with five seeds each, and
with --all every other arm. 2,500 training images are labeled, 2,500 are held
out to choose recipes on, the others unlabeled. Started again, it continues.

  --data_dir DIR      CIFAR-10 as files: train/<class>/*, test/<class>/*; without
                      it TensorFlow Datasets downloads CIFAR-10, once
                      (tfds:cifar10).
  --work_dir DIR      Where everything goes (default: runs/reproduce).
  --report_path FILE  The page of results (default: results.md in the former).
  --all               All arms of noisy_student/experiments/arms.py.
  --smoke             A few images and steps with two seeds, in the Python
                      environment at hand, to see that everything runs (default
                      DIR: runs/reproduce_smoke).
  --dry_run           Prints the commands and runs nothing.
  -- FLAGS            Further flags of noisy_student.experiments, such as
                      --dry_run, which lists all stages.
TEXT
}

data_dir="" work_dir="" report_path="" all=false smoke=false
parse_arguments "data_dir work_dir report_path --" "all smoke" "$@"
[[ -z $report_path || $report_path == *.md ]] ||
  fail "--report_path must end in .md. Received: '$report_path'."
options=()
name=reproduce
if $all; then
  options+=(--arms=all)
fi
if $smoke; then
  options+=(--smoke --seeds=2)
  name=reproduce_smoke
  NOISY_STUDENT_VENV=${NOISY_STUDENT_VENV:-none}
fi
work_dir=${work_dir:-$checkout/runs/$name}
report_path=${report_path:-$work_dir/results.md}
absolute data_dir work_dir report_path
if [[ -n $data_dir && $data_dir != tfds:* ]] && ! $dry_run; then
  [[ -d $data_dir/train && -d $data_dir/test ]] ||
    fail "--data_dir must have the folders train and test. Received: '$data_dir'."
fi
options+=(--data_dir="${data_dir:-tfds:cifar10}" --work_dir="$work_dir")

prepare quickstart
run noisy_student.experiments "${options[@]}"
run_last noisy_student.experiments "${options[@]}" --evaluate_test \
  --report_path="$report_path"
