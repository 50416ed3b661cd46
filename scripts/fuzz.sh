#!/usr/bin/env bash
# Fuzzes the parsers of files with libFuzzer (clang), under the address and undefined-behaviour sanitizers.
#
#   scripts/fuzz.sh [--seconds N] [--jobs N] [TARGET...]
#     --seconds N   how long each target is fuzzed (default 60)
#     --jobs N      compilers at a time (default: the cores, or what memory allows)
#     TARGET        shard, safetensors, csv, ... : tests/fuzz/fuzz_TARGET.cpp (default: all)
#
# Begins with tests/fuzz/corpus/TARGET. New inputs that reach new code are kept in build/fuzz/corpus/TARGET, and inputs that break a
# parser in build/fuzz/crashes: put one that is mended into the corpus, for test_fuzz replays it. Exit status: 0 if nothing broke, 1 if
# something did.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=60 jobs=$(build_jobs) targets=()
while (($# > 0)); do
  case $1 in
    --seconds | --jobs)
      (($# > 1)) || { warn "$1 needs a value; see scripts/fuzz.sh --help" && exit 2; }
      [[ $2 =~ ^[1-9][0-9]*$ ]] || { warn "$1 $2 is no positive number" && exit 2; }
      if [[ $1 == --seconds ]]; then seconds=$2; else jobs=$2; fi
      shift
      ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    -*) warn "unknown option $1; see scripts/fuzz.sh --help" && exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done

cd "$ROOT"
have clang++ || fail "clang++ is not there, and libFuzzer is part of it; install clang"
if ((${#targets[@]} == 0)); then
  for source in tests/fuzz/fuzz_*.cpp; do
    name=${source##*/fuzz_}
    targets+=("${name%.cpp}")
  done
fi
for target in "${targets[@]}"; do
  [[ -f tests/fuzz/fuzz_$target.cpp ]] || { warn "there is no target $target; see tests/fuzz" && exit 2; }
done

configure fuzz
cmake --build --preset fuzz --parallel "$jobs" --target "${targets[@]/#/fuzz_}"

crashes=build/fuzz/crashes broken=()
mkdir -p "$crashes"
# A text of 64 kB shows everything; a parser that needs 2 GB or 10 s for it is broken, too.
limits=(-max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 -timeout=10)
for target in "${targets[@]}"; do
  grown=build/fuzz/corpus/$target
  mkdir -p "$grown"
  say "== $target"
  build/fuzz/fuzz_"$target" "${limits[@]}" -print_final_stats=1 -verbosity=1 -artifact_prefix="$crashes/$target-" \
    "$grown" "tests/fuzz/corpus/$target" >"build/fuzz/$target.log" 2>&1 || broken+=("$target")
  grep -E '^stat::number_of_executed_units|^SUMMARY|terminating|what\(\)' "build/fuzz/$target.log" || true
done
((${#broken[@]} == 0)) || fail "broken: ${broken[*]}; inputs are in $crashes, what was said in build/fuzz/TARGET.log"
say "nothing broke in $seconds s for each of ${#targets[@]} targets"
