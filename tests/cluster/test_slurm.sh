#!/usr/bin/env bash
# The batch scripts under a real SLURM of two nodes: a run that is signalled, put back in the queue, and loses a node ends with the bytes of one
# that was left alone; an array of prepare jobs makes the data set of one.
#
#   test_slurm.sh PROJECT PROGRAM     exit status: 0 passed, 1 failed, 77 can't be run here

set -uo pipefail
project=$1
export MOLEBLEND=$2 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
source "$(dirname "${BASH_SOURCE[0]}")/slurm_sandbox.sh"

lacks=$(sandbox_lacks)
[[ -z $lacks ]] || { echo "not run: $lacks" && exit 77; }
work=$(mktemp -d /tmp/moleblend-slurm-XXXXXX)
trap 'sandbox_down "$work/sandbox"; rm -rf "$work"' EXIT
sandbox_up "$work/sandbox" || { echo "not run: SLURM's daemons do not come up on this machine" && exit 77; }
cd "$work" || exit 1

fail() {
  echo "FAILED: $*" >&2
  squeue >&2
  tail -n 40 "$work"/*.log "$work"/sandbox/log/*.log >&2
  exit 1
}
# until_true SECONDS WHAT COMMAND...
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    ((SECONDS < end)) || fail "$what did not come about"
    sleep 0.1
  done
}
job_field() { scontrol show job "$1" 2>/dev/null | grep -o "$2=[^ ]*" | head -1 | cut -d= -f2; }
is() { [[ $(job_field "$1" "$2") == "$3" ]]; }
has_lines() { [[ -f $1 ]] && (($(wc -l <"$1") >= $2)); }
# A job that went back to the queue waits two minutes, for what it left on its nodes to end; a few seconds are enough here.
start_again() {
  sleep 5
  until_true 60 "start $2" started "$1"
}
started() {
  scontrol update jobid="$1" StartTime=now >/dev/null 2>&1
  is "$1" JobState RUNNING
}

echo '== data'
shuf -n 60 --random-source="$project/examples/molecules.smi" "$project/examples/molecules.smi" >molecules.smi
"$MOLEBLEND" prepare --input "$work/molecules.smi" --output data --block-size 10 --quiet || fail 'prepare'
flags=(--data "$work/data" --model tiny --steps 1500 --batch-size 12 --checkpoint-every 150 --valid-every 500 --quiet)

echo '== a run that is left alone'
srun --mpi=pmix -N2 -n2 "$MOLEBLEND" pretrain "${flags[@]}" --threads 1 --output "$work/straight" >straight.log 2>&1 || fail 'the run under srun'

echo '== the same without MPI'
# Node names of this cluster are no names of machines.
MASTER_ADDR=127.0.0.1 srun --mpi=none -N2 -n2 "$MOLEBLEND" pretrain "${flags[@]}" --threads 1 --output "$work/tcp" >tcp.log 2>&1 || fail 'the run over TCP'
cmp straight/checkpoints/step-00001500/model.safetensors tcp/checkpoints/step-00001500/model.safetensors || fail 'over TCP the parameters differ'

echo '== a job that is signalled'
job=$(sbatch --parsable -N2 --ntasks-per-node 1 --cpus-per-task 1 -o run.log "$project/scripts/slurm/pretrain.sbatch" "${flags[@]}" --output "$work/run")
until_true 60 'step 200' has_lines run/metrics.jsonl 200
scancel --signal=USR1 --batch "$job"
until_true 30 'the requeue after the signal' is "$job" Restarts 1
stopped=$(wc -l <run/metrics.jsonl)
((stopped < 1500)) || fail "the run was over before the signal: $stopped lines"
start_again "$job" 2

echo '== and loses a node'
until_true 60 "step $((stopped + 200))" has_lines run/metrics.jsonl $((stopped + 200))
scontrol update nodename=node2 state=down reason=lost
until_true 60 'the requeue after the loss of a node' is "$job" Restarts 2
scontrol update nodename=node2 state=resume 2>/dev/null  # unless it came back by itself
start_again "$job" 3
until_true 120 'the end of the run' is "$job" JobState COMPLETED
for file in model.safetensors optimizer.safetensors; do
  cmp "straight/checkpoints/step-00001500/$file" "run/checkpoints/step-00001500/$file" || fail "$file differs"
done

echo '== an array of prepare jobs'
job=$(sbatch --parsable --array=1-3 -o part-%a.log "$project/scripts/slurm/prepare_array.sbatch" --input "$work/molecules.smi" --block-size 10 \
  --output "$work/merged" --quiet)
until_true 60 'the merged data set' test -f merged/dataset.json
cmp data/dataset.json merged/dataset.json || fail 'the merged data set is another'

echo '== scaling'
sbatch --wait -N2 --ntasks-per-node 1 --cpus-per-task 1 -o bench.log "$project/scripts/slurm/bench.sbatch" --per-rank 8 --data "$work/data" --model tiny \
  --steps 30 --output "$work/scaling" || fail 'bench.sbatch'
cat scaling/scaling.txt
(($(wc -l <scaling/scaling.txt) == 3)) || fail 'bench.sbatch measured something else than one and two nodes'
echo 'passed'
