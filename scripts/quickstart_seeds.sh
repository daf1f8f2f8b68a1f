#!/usr/bin/env bash
# The quickstart with seeds 0 to 4, and a table of what each student gained;
# --long for the long recipe. Finished seeds are not run again.
set -euo pipefail

# shellcheck source=scripts/command_line.sh
source "$(dirname "${BASH_SOURCE[0]}")/command_line.sh"

usage() {
  cat <<TEXT
Usage: scripts/quickstart_seeds.sh [--long] [--dry_run]

  --long     Takes the long recipe: about a quarter of an hour a seed.
  --dry_run  Prints the commands and runs nothing.
TEXT
}

long=false
parse_arguments "" "long" "$@"
seeds=(0 1 2 3 4)
recipe=seed
if $long; then
  recipe=long
fi
reports=()
for seed in "${seeds[@]}"; do
  "$checkout/scripts/quickstart.sh" --seed "$seed" "$@"
  reports+=("$checkout/runs/quickstart/${recipe}_$seed/report.json")
done
if $dry_run; then
  exit
fi
prepare quickstart
"$PYTHON" - "${reports[@]}" <<'PYTHON'
import json
import statistics
import sys

rows = []
for path in sys.argv[1:]:
    with open(path) as file:
        rows.append([100 * r["test_top_1"] for r in json.load(file)["rounds"]])
students = range(1, len(rows[0]))
names = ["teacher", *(f"student {n}" for n in students), "gain, points"]
print(f"| seed | {' | '.join(names)} |")
print("|---" * (len(names) + 1) + "|")
for seed, row in enumerate(rows):
    cells = [f"{value:.2f}" for value in row] + [f"{row[-1] - row[0]:+.2f}"]
    print(f"| {seed} | {' | '.join(cells)} |")
means = [statistics.mean(column) for column in zip(*rows)]
cells = [f"{value:.2f}" for value in means] + [f"{means[-1] - means[0]:+.2f}"]
print(f"| mean | {' | '.join(cells)} |")
PYTHON
