#!/usr/bin/env bash
# Whether a noisy student is more robust than its teacher, on CIFAR-10: the
# networks of scripts/cifar10/reproduce.sh on corrupted and attacked test images.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/robustness/cifar10.sh --data_dir DIR --work_dir DIR
           --output_dir DIR [--num_images N] [--seeds "0 1"] [--smoke]
           [--dry_run]

  --data_dir DIR     Folder with the image folder test.
  --work_dir DIR     That of scripts/cifar10/reproduce.sh, with what it trained.
  --output_dir DIR   Where the corrupted images and the reports go. A run that
                     was stopped goes on there.
  --num_images N     Test images to take, evenly spread; by default 1000.
  --seeds LIST       Seeds whose networks are looked at; by default "0 1 2 3 4".
  --smoke            Two corruptions and strengths, 10 images, one network, in
                     the Python environment at hand, to see that everything runs.
  --dry_run          Prints the commands and runs nothing.
TEXT
}

data_dir="" work_dir="" output_dir="" num_images=1000 seeds="0 1 2 3 4"
smoke=false
parse_arguments "data_dir work_dir output_dir num_images seeds" "smoke" "$@"
need data_dir work_dir output_dir
absolute data_dir work_dir output_dir
need_paths data_dir work_dir
arms="teacher noisy_student" corruptions=()
fgsm_epsilons=0,1,2,4,8,16 pgd_epsilons=1,2,4,8,16
if $smoke; then
  num_images=10 seeds=0 arms=noisy_student
  NOISY_STUDENT_VENV=${NOISY_STUDENT_VENV:-none}
  corruptions=("--corruptions=fog,contrast") fgsm_epsilons=0,2 pgd_epsilons=2
fi

for seed in $seeds; do
  for arm in $arms; do
    $dry_run || [[ -d $work_dir/seed_$seed/$arm/model ]] ||
      fail "--work_dir, --seeds: no network in '$work_dir/seed_$seed/$arm/model'."
  done
done

prepare corruptions
run noisy_student.robustness.corruptions --input="$data_dir/test" \
  --num_images="$num_images" --format=png --output_dir="$output_dir/corrupted" \
  ${corruptions[@]+"${corruptions[@]}"}
for seed in $seeds; do
  for arm in $arms; do
    model="$work_dir/seed_$seed/$arm/model"
    reports="$output_dir/seed_$seed/$arm"
    run noisy_student.robustness.imagenet_c --checkpoint="$model" \
      --label_data_dir="$output_dir/corrupted" --output_dir="$reports" \
      --eval_batch_size=250 ${corruptions[@]+"${corruptions[@]}"}
    run noisy_student.robustness.adversarial --checkpoint="$model" \
      --label_data_dir="$data_dir/test" --num_images="$num_images" \
      --fgsm_epsilons="$fgsm_epsilons" --pgd_epsilons="$pgd_epsilons" \
      --output_dir="$reports" --eval_batch_size=250
  done
done
