#!/usr/bin/env bash
# Runs a verb of moleblend on several ranks of this machine, which share its cores.
#
#   scripts/launch_local.sh [--ranks N] [--tcp] [--dry-run] VERB [FLAGS…]
#     --ranks N   processes (default: the number of GPUs, or 2 without one)
#     --tcp       without MPI: starts them itself, and they find each other over TCP (the default where there is no mpirun)
#     --dry-run   print the command and end
#
#   scripts/launch_local.sh --ranks 4 pretrain --data DATA --output RUN --model base
#
# Each rank gets its share of the cores as --threads, unless the flags have it. Exit status: that of the run; 2 for a wrong option.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

gpus=$(if have nvidia-smi; then nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU' || true; else echo 0; fi)
ranks=$((gpus > 0 ? gpus : 2)) dry_run=no tcp=no
while (($# > 0)); do
  case $1 in
    --ranks)
      (($# > 1)) || { warn "--ranks needs a value; see scripts/launch_local.sh --help" && exit 2; }
      ranks=$2
      shift 2
      ;;
    --tcp) tcp=yes && shift ;;
    --dry-run) dry_run=yes && shift ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    -*) warn "unknown option $1; see scripts/launch_local.sh --help" && exit 2 ;;
    *) break ;;
  esac
done
[[ $ranks =~ ^[1-9][0-9]*$ ]] || { warn "--ranks $ranks is no positive number" && exit 2; }
(($# > 0)) || { warn "name a verb, as in scripts/launch_local.sh --ranks 2 pretrain --data DATA --output RUN" && exit 2; }

program=${MOLEBLEND:-$ROOT/build/release/moleblend}
threads=()
if [[ " $* " != *' --threads'* ]]; then
  share=$(($(cores) / ranks))
  threads=(--threads $((share > 0 ? share : 1)))
fi
have mpirun || tcp=yes
if [[ $tcp == yes ]]; then
  # One of some ports that systems don't give to outgoing connections.
  launcher=(env MASTER_ADDR=127.0.0.1 MASTER_PORT="${MASTER_PORT:-$((20000 + $$ % 10000))}" WORLD_SIZE="$ranks")
else
  # Not bound to cores: on few cores mpirun would put all ranks on the same one.
  launcher=(mpirun -n "$ranks" --oversubscribe --bind-to none)
  ((EUID != 0)) || launcher+=(--allow-run-as-root)
fi
command=("$program" "$@" "${threads[@]}")
if [[ $dry_run == yes ]]; then
  [[ $tcp == no ]] || printf 'for rank in {0..%d}; do RANK=$rank ' $((ranks - 1))
  printf '%q ' "${launcher[@]}" "${command[@]}"
  [[ $tcp == no ]] || printf '& done; wait'
  echo
  exit 0
fi
[[ -x $program ]] || fail "$program is missing; build it (cmake --preset release && cmake --build build/release), or name one in MOLEBLEND"
[[ $tcp == yes ]] || exec "${launcher[@]}" "${command[@]}"

declare -A running=()  # process: rank
for ((rank = 0; rank < ranks; ++rank)); do
  RANK=$rank "${launcher[@]}" "${command[@]}" &
  running[$!]=$rank
  ((rank > 0)) || first_process=$!
done
# One rank that hears of it is enough: all end together.
for signal in TERM INT USR1; do
  # shellcheck disable=SC2064
  trap "kill -$signal $first_process 2>/dev/null || true" "$signal"
done
# Ranks notice when one is gone, but those that wait for it to come do not: a while after a failure the others are told to end. The exit
# status is the first rank's where it has one of its own, or that of the first that failed.
result=0 failed_at=''
while ((${#running[@]} > 0)); do
  for process in "${!running[@]}"; do
    if kill -0 "$process" 2>/dev/null; then continue; fi
    wait "$process" && status=0 || status=$?
    if ((result == 0 || (running[$process] == 0 && status != 143))); then result=$status; fi
    unset "running[$process]"
    ((status == 0)) || failed_at=${failed_at:-$SECONDS}
  done
  if [[ -n $failed_at ]] && ((SECONDS - failed_at >= 10 && ${#running[@]} > 0)); then
    kill -TERM "${!running[@]}" 2>/dev/null || true
    failed_at=$SECONDS
  fi
  sleep 0.1
done
exit "$result"
