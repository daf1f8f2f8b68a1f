#!/usr/bin/env bash
# Every step from a folder of images to a student, each a command of its own:
# records, evaluation images removed, teacher, labels, filter, student.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/cifar10/whole_chain.sh --image_dir DIR [--work_dir DIR]
           [--beam] [--smoke] [--dry_run]

A tenth of the images of DIR/train are labeled. The teacher learns from them and
labels all of DIR/train; a student learns from both, and is evaluated on
DIR/test. Started again, it continues.

  --image_dir DIR  CIFAR-10 as files: train/<class>/*.jpg, test/<class>/*.jpg.
  --work_dir DIR   Where everything goes (default: runs/cifar10).
  --beam           Removes, labels and filters on Apache Beam instead; the
                   shards are the same, byte for byte.
  --smoke          A few steps only, in the Python environment at hand, to see
                   that everything runs (default DIR: runs/cifar10_smoke).
  --dry_run        Prints the commands and runs nothing.
TEXT
}

image_dir="" work_dir="" beam=false smoke=false
parse_arguments "image_dir work_dir" "beam smoke" "$@"
need image_dir
absolute image_dir
$dry_run || [[ -d $image_dir/train && -d $image_dir/test ]] ||
  fail "--image_dir must have the folders train and test. Received: '$image_dir'."
name=cifar10
if $smoke; then
  name=cifar10_smoke
fi
work_dir=${work_dir:-$checkout/runs/$name}
absolute work_dir

teacher=(--preset=cifar10/teacher)
student=(--preset=cifar10/student)
rule=(--num_image=2250 --min_threshold=0.3)
if $smoke; then
  teacher+=(--train_steps=4 --warmup_epochs=0.01)
  student+=(--train_steps=4 --warmup_epochs=0.01)
  rule=(--num_image=20 --min_threshold=0)
  NOISY_STUDENT_VENV=${NOISY_STUDENT_VENV:-none}
fi
extra=quickstart
if $beam; then
  extra=beam,quickstart
fi
prepare "$extra"

# The tenth that keeps its labels is chosen by the hash of each image's path.
run data_prep.image_folder --input_dir="$image_dir/train" \
  --output_dir="$work_dir/data" --split=without_labels --num_shards=8 \
  --holdout_fraction=0.1 --holdout_split=train
run data_prep.image_folder --input_dir="$image_dir/test" \
  --output_dir="$work_dir/data" --split=test --num_shards=2
run data_prep.image_folder --input_dir="$image_dir/train" --unlabeled \
  --output_dir="$work_dir/data" --split=unlabeled --num_shards=8
run noisy_student.main --mode=train_and_eval "${teacher[@]}" \
  --label_data_dir="$work_dir/data" --model_dir="$work_dir/teacher"
if $beam; then
  run noisy_student.beam_pipeline --checkpoint="$work_dir/teacher" \
    --input_dir="$work_dir/data" --file_prefix=unlabeled \
    --eval_dir="$work_dir/data/test-*" --output_dir="$work_dir" \
    --eval_batch_size=256 --num_label_classes=10 "${rule[@]}"
else
  run data_prep.deduplicate --input_dir="$work_dir/data" \
    --split=unlabeled --eval_dir="$work_dir/data/test-*" \
    --output_dir="$work_dir/deduplicated"
  run noisy_student.main --mode=predict --checkpoint="$work_dir/teacher" \
    --task_name=cifar10 --unlabel_data_dir="$work_dir/deduplicated/data" \
    --file_prefix=unlabeled --output_dir="$work_dir/predictions" \
    --eval_batch_size=256
  run data_prep.filter_unlabel \
    --input_dir="$work_dir/deduplicated/data" --file_prefix=unlabeled \
    --prediction_dir="$work_dir/predictions" --output_dir="$work_dir/filtered" \
    --num_label_classes=10 "${rule[@]}"
fi
run noisy_student.main --mode=train_and_eval "${student[@]}" \
  --label_data_dir="$work_dir/data" \
  --unlabel_data_dir="$work_dir/filtered/data" --model_dir="$work_dir/student"
run data_prep.inspect --data_dir="$work_dir/deduplicated/data" \
  --split=unlabeled --prediction_dir="$work_dir/predictions" \
  --filter_dir="$work_dir/filtered" --output_dir="$work_dir/look"
