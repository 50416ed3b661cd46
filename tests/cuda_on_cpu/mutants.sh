#!/usr/bin/env bash
# Seeds each fault of tests/cuda_on_cpu/mutants into its sample kernel and tells which detectors notice. Fails if a detector that is
# known to notice a fault does not, or if the kernels without a fault fail.
#
#   mutants.sh PLAIN ASAN TSAN    the program mutants, without a sanitizer, with AddressSanitizer and UndefinedBehaviorSanitizer, and
#                                 with ThreadSanitizer
set -uo pipefail
plain=$1 asan=$2 tsan=$3
orders=(fwd rev rand:1 rand:2)
# What AddressSanitizer says of device memory that is never freed is of no interest here.
export ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1
failed=0 mutations=0

complain() {
  echo "mutants: $*" >&2
  failed=1
}

# caught DETECTOR MUTATION: whether it notices. A program that can't run at all must not pass for one that noticed.
caught() {
  local order output status
  case $1 in
    order)
      for order in "${orders[@]}"; do
        CUDA_ON_CPU_ORDER=$order "$plain" "$2" >/dev/null 2>&1
        status=$?
        [[ $status == 0 ]] || return 0
      done
      return 1
      ;;
    asan)
      output=$("$asan" "$2" 2>&1)
      [[ $output == *AddressSanitizer* || $output == *"runtime error"* ]]
      ;;
    tsan)
      output=$("$tsan" "$2" 2>&1)
      [[ $output == *"data race"* ]]
      ;;
  esac
}

for order in "${orders[@]}"; do
  for program in "$plain" "$asan"; do
    output=$(CUDA_ON_CPU_ORDER=$order "$program" none 2>&1) || complain "no fault, and $program fails in order $order: $output"
  done
done
output=$("$tsan" none 2>&1) || complain "no fault, and $tsan fails: $output"

printf '%-34s %-7s %-7s %-7s\n' fault order asan tsan
while read -r mutation expected; do
  row=''
  for detector in order asan tsan; do
    if caught "$detector" "$mutation"; then
      mark=caught
    else
      mark=-
      [[ ,$expected, != *,$detector,* ]] || complain "$detector no longer notices $mutation"
    fi
    row+=$(printf ' %-7s' "$mark")
  done
  printf '%-34s%s\n' "$mutation" "$row"
  [[ $row == *caught* ]] || complain "$mutation survives"
  ((++mutations))
done < <("$plain" --list)
((mutations > 0)) || complain "no list of mutations"
exit $failed
