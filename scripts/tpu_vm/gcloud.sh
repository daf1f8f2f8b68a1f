# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: what they have in common.

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

name="" zone="" project=""
# The arguments that all of them take, and those that describe the machine.
place="name zone project"
machine="accelerator_type version"

common_usage() {
  cat <<TEXT
  --name NAME        Of the TPU VM.
  --zone ZONE        Such as europe-west4-a.
  --project PROJECT  Default: gcloud's own.
  --dry_run          Prints the commands and runs nothing.

It needs the Google Cloud CLI, logged in.
TEXT
}

machine_usage() {
  cat <<TEXT
  --accelerator_type TYPE
                     Such as v3-8, one machine, or v3-2048, a slice of 256.
  --version VERSION  Image of the machines: tpu-vm-tf-2.15.0-pod for slices of
                     v2 to v4, tpu-vm-tf-2.15.0-pod-pjrt for those of v5;
                     without -pod for one machine.
TEXT
}

# Runs gcloud compute tpus tpu-vm $1 on the TPU VM, with the further words.
tpu_vm() {
  execute gcloud compute tpus tpu-vm "$1" "$name" --zone="$zone" \
    ${project:+"--project=$project"} "${@:2}"
}

# The arguments that say which TPU VM, for the other scripts.
which_tpu_vm() {
  printf '%s\n' --name="$name" --zone="$zone"
  [[ -z $project ]] || printf '%s\n' --project="$project"
  ! $dry_run || printf '%s\n' --dry_run
}
