#!/usr/bin/env bash
# The form of the files in git: clang-format for C++, and nothing that holds on one machine only.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"
status=0

# One line a file: clang-format itself would print every place.
while IFS= read -r source; do
  if ! clang-format --dry-run -Werror "$source" 2>/dev/null; then
    warn "$source: clang-format would change it; run clang-format -i $source"
    status=1
  fi
done < <(git ls-files "*.cpp" "*.h" "*.cu" "*.cuh")

# Home directories, scratch folders and work folders of somebody's machine. /tmp is everybody's.
if git grep -nIE '(^|[^A-Za-z0-9_.$}/-])/(home|root|work|Users|mnt|scratch)/[A-Za-z0-9_.-]+' -- . ':!scripts/check_form.sh'; then
  warn "the lines above name paths of one machine; make them relative or a setting"
  status=1
fi
exit $status
