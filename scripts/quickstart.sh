#!/usr/bin/env bash
# Noisy Student Training, whole, on scikit-learn's handwritten digits:
# environment, data, a teacher, its pseudo labels, students, a report.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/quickstart.sh [--seed N] [--work_dir DIR] [--long] [--smoke]
           [--dry_run]

Trains a teacher on 60 labeled digits and students on 1,287 more without labels,
then prints a table and the path of the report. Started again, it continues.

  --seed N        Chooses the labeled digits and all random draws (default: 0).
  --work_dir DIR  Where everything goes (default: runs/quickstart/seed_N).
  --long          Trains the teacher until more steps do not help, and students
                  longer: about a quarter of an hour (default DIR:
                  runs/quickstart/long_N).
  --smoke         A few steps only, in the Python environment at hand, to see
                  that everything runs (default DIR: runs/quickstart/smoke_N).
  --dry_run       Prints the commands and runs nothing.
TEXT
}

seed=0 work_dir="" long=false smoke=false
parse_arguments "seed work_dir" "long smoke" "$@"
[[ $seed =~ ^[0-9]+$ ]] ||
  fail "--seed must be a whole number, 0 or more. Received: '$seed'."

size=()
name=seed_$seed recipe=""
if $long; then
  name=long_$seed recipe=_long
fi
if $smoke; then
  size=(--rounds=1 --train_steps=4 --warmup_epochs=1)
  size+=(--min_threshold=0 --num_image=20)
  name=smoke_$seed
  NOISY_STUDENT_VENV=${NOISY_STUDENT_VENV:-none}
fi
work_dir=${work_dir:-$checkout/runs/quickstart/$name}
absolute work_dir

prepare quickstart
run data_prep.digits --output_dir="$work_dir/data" --seed="$seed"
# Its batches are too small for the cores of a TPU.
run_last noisy_student.self_training --chain="digits$recipe" --use_tpu=false \
  --work_dir="$work_dir" --seed="$seed" \
  --label_data_dir="$work_dir/data" --unlabel_data_dir="$work_dir/data" \
  --file_prefix=unlabeled --num_image=130 \
  --unlabel_truth="$work_dir/data/unlabeled_truth.json" \
  --deterministic ${size[@]+"${size[@]}"}
