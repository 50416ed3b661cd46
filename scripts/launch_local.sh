#!/usr/bin/env bash
# Runs a verb of moleblend on several ranks of this machine, which share its cores.
#
#   scripts/launch_local.sh [--ranks N] [--dry-run] VERB [FLAGS…]
#     --ranks N   processes (default: the number of GPUs, or 2 without one)
#     --dry-run   print the command and end
#
#   scripts/launch_local.sh --ranks 4 pretrain --data DATA --output RUN --model base
#
# Each rank gets its share of the cores as --threads, unless the flags have it. Exit status: that of the run; 2 for a wrong option.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

gpus=$(if have nvidia-smi; then nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU' || true; else echo 0; fi)
ranks=$((gpus > 0 ? gpus : 2)) dry_run=no
while (($# > 0)); do
  case $1 in
    --ranks)
      (($# > 1)) || { warn "--ranks needs a value; see scripts/launch_local.sh --help" && exit 2; }
      ranks=$2
      shift 2
      ;;
    --dry-run) dry_run=yes && shift ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
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
# Not bound to cores by mpirun: on few cores it would put all ranks on the same one.
command=(mpirun -n "$ranks" --oversubscribe --bind-to none)
((EUID != 0)) || command+=(--allow-run-as-root)
command+=("$program" "$@" "${threads[@]}")
if [[ $dry_run == yes ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
have mpirun || fail "mpirun is missing; install Open MPI (Debian: apt-get install openmpi-bin libopenmpi-dev) and build again"
[[ -x $program ]] || fail "$program is missing; build it (cmake --preset release && cmake --build build/release), or name one in MOLEBLEND"
exec "${command[@]}"
