#!/usr/bin/env bash
# The original code's chain for SVHN, with its recipe: a supervised teacher, its
# labels, the filter, a student. docs/original_scripts.md maps it line by line.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/svhn/whole_chain.sh --raw_dir DIR [--work_dir DIR]
           [--teacher PATH] [--online] [--smoke] [--dry_run]

Trains a teacher on 69,257 digits, and a student on 531,131 more that the
teacher labels; both are evaluated on 26,032. At last the student labels the
kept digits anew, as the next round would need. Started again, it continues.

  --raw_dir DIR   Has train_32x32.mat, test_32x32.mat and extra_32x32.mat, from
                  http://ufldl.stanford.edu/housenumbers.
  --work_dir DIR  Where everything goes (default: runs/svhn).
  --teacher PATH  Takes the teacher of this run or checkpoint, and trains none.
  --online        Lets the teacher label inside the student's steps instead, and
                  filters nothing (run_svhn.sh of the original).
  --smoke         A few steps only, in the Python environment at hand, to see
                  that everything runs (default DIR: runs/svhn_smoke).
  --dry_run       Prints the commands and runs nothing.
TEXT
}

raw_dir="" work_dir="" teacher="" online=false smoke=false
parse_arguments "raw_dir work_dir teacher" "online smoke" "$@"
need raw_dir
name=svhn
if $smoke; then
  name=svhn_smoke
fi
work_dir=${work_dir:-$checkout/runs/$name}
absolute raw_dir work_dir teacher
need_paths raw_dir
# A checkpoint may be named without the endings of its files.
[[ -e $teacher.index ]] || need_paths teacher

data=(--num_shards=128)
# The filter of the original code: counts in bins of 0.01.
rule=(--selection=binned --num_image=53113 --min_threshold=0.3)
size=()
if $smoke; then
  data=(--num_shards=2 --dev_size=20)
  rule=(--selection=binned --num_image=20 --min_threshold=0)
  size=(--train_steps=2 --train_batch_size=16 --width_coefficient=0.1
    --depth_coefficient=0.1 --warmup_epochs=0)
  NOISY_STUDENT_VENV=${NOISY_STUDENT_VENV:-none}
fi
prepare svhn

# Trains the student named $1 with the further flags, and evaluates it.
train_student() {
  run noisy_student.main --mode=train --preset=svhn/b0_noisy_student \
    --label_data_dir="$work_dir/proc" --model_dir="$work_dir/$1" \
    "${@:2}" ${size[@]+"${size[@]}"}
  evaluate "$work_dir/$1"
}

evaluate() {
  run noisy_student.main --mode=eval --task_name=svhn --eval_batch_size=256 \
    --label_data_dir="$work_dir/proc" --checkpoint="$1"
}

run data_prep.svhn --input_dir="$raw_dir" --output_dir="$work_dir/proc" \
  "${data[@]}"
if [[ -z $teacher ]]; then
  teacher=$work_dir/teacher
  run noisy_student.main --mode=train --preset=svhn/b0_supervised \
    --label_data_dir="$work_dir/proc" --model_dir="$teacher" \
    ${size[@]+"${size[@]}"}
fi
evaluate "$teacher"
if $online; then
  train_student online_student --teacher_model_name=efficientnet-b0 \
    --teacher_model_path="$teacher" \
    --unlabel_data_dir="$work_dir/proc/unlabeled" --file_prefix=extra
  exit
fi
run noisy_student.main --mode=predict --task_name=svhn --eval_batch_size=256 \
  --checkpoint="$teacher" --unlabel_data_dir="$work_dir/proc/unlabeled" \
  --file_prefix=extra --output_dir="$work_dir/predictions"
run data_prep.filter_unlabel --input_dir="$work_dir/proc/unlabeled" \
  --file_prefix=extra --prediction_dir="$work_dir/predictions" \
  --output_dir="$work_dir/filtered" --num_label_classes=10 "${rule[@]}"
train_student student --unlabel_data_dir="$work_dir/filtered/data" \
  --file_prefix=train
run noisy_student.main --mode=predict --task_name=svhn --eval_batch_size=256 \
  --reassign_label --checkpoint="$work_dir/student" \
  --unlabel_data_dir="$work_dir/filtered/data" --file_prefix=train \
  --output_dir="$work_dir/reassigned"
