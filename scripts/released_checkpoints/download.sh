#!/usr/bin/env bash
# Downloads a released checkpoint, and holds it to the size and the MD5 digest
# that the server publishes with it.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/../command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/released_checkpoints/download.sh --model NAME [--output_dir DIR]
           [--url URL] [--dry_run]

  --model NAME      b0 to b7, l2_475 or l2.
  --output_dir DIR  Default: checkpoints. A file that is there is kept.
  --url URL         Folder of the files; default: the authors'.
  --dry_run         Prints the command and runs nothing.
TEXT
}

model="" output_dir=checkpoints
url=https://storage.googleapis.com/cloud-tpu-checkpoints
url+=/efficientnet/noisystudent
parse_arguments "model output_dir url" "" "$@"
need model
absolute output_dir
choose model b0 b1 b2 b3 b4 b5 b6 b7 l2_475 l2

name=noisy_student_efficientnet-$model.tar.gz
file=$output_dir/$name
if ! $dry_run; then
  if [[ -e $file ]]; then
    printf '%s is there.\n' "$file"
    exit
  fi
  mkdir -p "$output_dir"
fi
execute curl --fail --location --show-error --retry 5 \
  --dump-header "$file.headers" --output "$file.part" "$url/$name"
if $dry_run; then
  exit
fi

# Prints the values of header $1, a line each: it may come several times, once
# for each redirection, and have several values.
header() {
  tr -d '\r' <"$file.headers" | sed -n "s/^$1: *//Ip" | tr ',' '\n' |
    sed 's/^ *//'
}

refuse() {
  rm "$file.part" "$file.headers"
  fail "$url/$name: $1 Start again."
}

size=$(header content-length | tail -n 1)
received=$(wc -c <"$file.part")
((size == received)) || refuse "received $received bytes of $size."
md5=$(header x-goog-hash | sed -n 's/^md5=//p' | tail -n 1)
if [[ -z $md5 ]]; then
  printf 'The server publishes no MD5 digest of %s; its size fits.\n' "$name"
elif [[ $md5 != $(openssl md5 -binary "$file.part" | openssl base64) ]]; then
  refuse "the MD5 digest does not fit."
fi
rm "$file.headers"
mv "$file.part" "$file"
printf '%s: %s bytes.\n' "$file" "$received"
