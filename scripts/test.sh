#!/usr/bin/env bash
# Builds the program and runs its tests; does its own set-up on a bare Debian 12 or Ubuntu 24.04.
#
#   scripts/test.sh [--full] [--label L] [--jobs N]
#     --full      also what takes long: nvcc's kernels and their PTX run on the CPU, kernels in other schedules of their threads, and
#                 the tests under the address, undefined-behaviour and thread sanitizers
#     --label L   only the tests with this label: gradient, golden, io, fuzz, features, engine, invariance, end_to_end, faults,
#                 cuda_on_cpu, cluster, cuda_schedules, cuda_mutants, cuda_compile, ptx, cuda (a regular expression)
#     --jobs N    compilers at a time (default: the cores, or what memory allows)
#
# Ends with ctest's closing lines. Exit status: 0 if every stage passed, 1 if one failed, 2 for a wrong option.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

full=no label='' jobs=$(build_jobs)
while (($# > 0)); do
  case $1 in
    --full) full=yes ;;
    --label | --jobs)
      (($# > 1)) || { warn "$1 needs a value; see scripts/test.sh --help" && exit 2; }
      if [[ $1 == --label ]]; then label=$2; else jobs=$2; fi
      shift
      ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) warn "unknown option $1; see scripts/test.sh --help" && exit 2 ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || { warn "--jobs $jobs is no positive number" && exit 2; }

cd "$ROOT"
exec </dev/null
# Two threads a test wherever it runs: results depend on the number of threads, and tests may share the machine.
export OMP_NUM_THREADS=2 OMP_DYNAMIC=false OMP_WAIT_POLICY=passive CTEST_OUTPUT_ON_FAILURE=1 GTEST_COLOR=no CLICOLOR=0

logs=$ROOT/build/test-logs
mkdir -p "$logs"
failed_stages=() stage_lines=()
passed=0 failed=0

# stage NAME COMMAND...: runs it, notes its time and whether it passed; a failure does not stop the stages after it.
stage() {
  local name=$1 start=$SECONDS status=0
  shift
  say "== $name"
  "$@" || status=$?
  local time
  time=$(duration $((SECONDS - start)))
  stage_lines+=("$(printf '%-28s %-7s %s' "$name" "$([[ $status == 0 ]] && echo passed || echo FAILED)" "$time")")
  if ((status != 0)); then
    failed_stages+=("$name")
    # A stage without a test count of its own (a build, say) counts as one failed test: the last line must not say 100 %.
    [[ $name == *': tests' ]] || failed=$((failed + 1))
  fi
  say "== $name: $time"
  return "$status"
}

# Build output is long and seldom wanted: it goes to a log, whose end is shown on failure.
quietly() {
  local log=$logs/$1.log
  shift
  "$@" >"$log" 2>&1 || { tail -n 60 "$log" && warn "the whole log is $log" && return 1; }
}

# ctest_stage PRESET REGULAR_EXPRESSION_OF_LABELS: empty for all.
ctest_stage() {
  local preset=$1 labels=$2 log=$logs/$1-ctest.log status=0
  local arguments=(--preset "$preset" --parallel "$(cores)" --timeout 900)
  [[ -z $labels ]] || arguments+=(--label-regex "$labels")
  [[ $selection == all ]] || arguments+=(--label-exclude '^(cuda|cuda_compile|cuda_schedules|ptx)$')
  ctest "${arguments[@]}" 2>&1 | tee "$log" || status=1
  local bad total
  read -r bad total < <(sed -n 's/^.*tests passed, \([0-9]*\) tests failed out of \([0-9]*\).*$/\1 \2/p' "$log") || true
  # No closing line: ctest itself did not get there.
  [[ -n ${total:-} ]] || bad=1 total=1 status=1
  failed=$((failed + bad)) passed=$((passed + total - bad))
  return "$status"
}

# suite PRESET LABELS: configure, build, run.
suite() {
  stage "$1: configure" quietly "$1-configure" configure "$1" &&
    stage "$1: build" quietly "$1-build" build "$1" "$jobs" "${targets[@]}" &&
    stage "$1: tests" ctest_stage "$1" "$2"
}

# Without --full, what nvcc compiles is neither built nor tested, unless a label asks for it.
selection=all targets=(all)
[[ $full == yes || -n $label ]] || selection=quick targets=(moleblend host_tests)
setup_arguments=()
[[ $full == no ]] || setup_arguments=(--full)
stage setup "$ROOT/scripts/setup.sh" "${setup_arguments[@]}" || exit 1
if [[ $full == yes ]]; then
  suite asan "$label" || true
  # Races can only be where threads are: operations, CUDA threads, loader, training loop and the program as a whole.
  suite tsan "${label:-gradient|io|engine|invariance|end_to_end|cuda_on_cpu}" || true
fi
suite release "$label" || true

say
printf '%s\n' "${stage_lines[@]}"
say
if ((${#failed_stages[@]} > 0)); then
  say "Stages that failed: $(printf '%s; ' "${failed_stages[@]}")"
fi
total=$((passed + failed))
# ctest's own closing lines, over all suites.
percent=$((total > 0 ? 100 * passed / total : 0))
say "$percent% tests passed, $failed tests failed out of $total"
say
say "Total Test time (real) = $SECONDS sec"
((${#failed_stages[@]} == 0 && total > 0 && failed == 0))
