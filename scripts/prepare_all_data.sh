#!/usr/bin/env bash
# Prepares every molecule file below a folder, each on its own, and prints what became of its records. Fails if a run breaks down or if
# its account does not add up: every record is a molecule of the data set or a row of rejected.csv.
#
#   scripts/prepare_all_data.sh DATA_FOLDER [MOLEBLEND] [more flags of prepare, as --timeout 5]
set -uo pipefail

if [[ $# -lt 1 || ! -d "$1" ]]; then
  echo "usage: $0 DATA_FOLDER [MOLEBLEND] [flags of prepare]" >&2
  exit 2
fi
data=$1
moleblend=${2:-"$(cd "$(dirname "$0")/.." && pwd)/build/release/moleblend"}
shift $(($# < 2 ? $# : 2))
if [[ ! -x "$moleblend" ]]; then
  echo "no program at $moleblend; build it first, or name it as the second argument" >&2
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 files=0 records=0 kept=0 rejected=0 without=0 seconds=0

# One number of a summary that prepare printed as JSON.
number() { sed -n "s/^  \"$1\": \([0-9.e+-]*\),\{0,1\}$/\1/p" "$work/summary.json"; }

printf '%9s %9s %9s %9s  %s\n' records kept rejected seconds file
while IFS= read -r file; do
  name=$(basename "$file")
  flags=()
  case ${name%.gz} in
    *.tar | *.md | *.tsv | *_energies.csv | database.txt) continue ;;
    *PCS_validate.csv) flags=(--format smi) ;; # a table without a header row
    *.*) ;;
    *) continue ;;
  esac
  files=$((files + 1))
  rm -rf "$work/out"
  "$moleblend" prepare --input "$file" --output "$work/out" --json --quiet "${flags[@]}" "$@" >"$work/summary.json" 2>"$work/errors"
  status=$?
  if [[ $status -eq 1 || $status -eq 2 ]] && [[ $(wc -l <"$work/errors") -eq 1 && ! -e "$work/out" ]]; then
    # Refused as a whole in one clear line, with nothing left behind: a file without molecules, or of another kind.
    printf '%9s %9s %9s %9s  %s: %s\n' - - - - "${file#"$data"/}" "$(cut -c1-160 "$work/errors")"
    without=$((without + 1))
    continue
  fi
  if [[ $status -ne 0 ]]; then
    echo "FAILED with status $status: $file: $(head -c 300 "$work/errors")"
    failed=$((failed + 1))
    continue
  fi
  r=$(number records) k=$(number kept) x=$(number rejected) s=$(number seconds)
  # The counts by reason are those of the rows in rejected.csv.
  rows=$(awk '/"rejected_by_reason": {$/ { inside = 1; next } inside && /^  }/ { exit }
              inside { sub(/,$/, ""); n += $NF } END { print n + 0 }' "$work/summary.json")
  printf '%9d %9d %9d %9.2f  %s\n' "$r" "$k" "$x" "$s" "${file#"$data"/}"
  if [[ $((k + x)) -ne $r || $rows -ne $x ]]; then
    echo "FAILED: $file: $k kept and $x rejected ($rows rows in rejected.csv) are not $r records"
    failed=$((failed + 1))
  fi
  records=$((records + r)) kept=$((kept + k)) rejected=$((rejected + x))
  seconds=$(awk "BEGIN { print $seconds + $s }")
done < <(find -L "$data" -type f | LC_ALL=C sort)

printf '%9d %9d %9d %9.2f  %d files, %d of them refused as a whole\n' "$records" "$kept" "$rejected" "$seconds" "$files" "$without"
if [[ $failed -gt 0 ]]; then
  echo "$failed runs failed"
  exit 1
fi
