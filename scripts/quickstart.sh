#!/usr/bin/env bash
# From nothing to a pretrained molecular encoder and its table of results, in a few minutes on two cores.
#
#   scripts/quickstart.sh [FOLDER]
#     FOLDER    where data set and run go (default: quickstart). What a former quickstart left there is replaced.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if (($# > 1)) || [[ ${1:-} == -* ]]; then
  [[ ${1:-} == -h || ${1:-} == --help ]] && sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0
  warn "unknown argument ${*: -1}; see scripts/quickstart.sh --help" && exit 2
fi
exec </dev/null

# A mark in the folder says that it is ours to replace.
folder=quickstart
(($# == 0)) || folder=$(realpath -m "$1")
cd "$ROOT"
mark=$folder/made-by-quickstart
if [[ -d $folder && ! -e $mark && -n $(ls -A "$folder") ]]; then
  fail "$folder has files that no quickstart made; name another folder: scripts/quickstart.sh FOLDER"
fi

say "== Build"
scripts/setup.sh --quiet
mkdir -p build
{ configure release && build release "$(build_jobs)" moleblend; } >build/quickstart.log 2>&1 ||
  { tail -n 40 build/quickstart.log && fail "the build failed; the whole log is build/quickstart.log"; }
moleblend=build/release/moleblend

mkdir -p "$folder"
touch "$mark"
rm -rf "${folder:?}/data" "${folder:?}/run"

say "== Molecules, with one conformer each, become a data set"
run "$moleblend" prepare --input examples/molecules.smi --output "$folder/data" --conformers 1 --workers "$(cores)"

say
say "== Pretraining: every pair of atoms shows one modality, the model recovers all"
run "$moleblend" pretrain --data "$folder/data" --output "$folder/run" --model small --steps 1600 --batch-size 32

say
say "== What it has learnt, on molecules that it was not trained on"
run "$moleblend" evaluate --checkpoint "$folder/run" --data "$folder/data"

cat <<NEXT

Done in $(duration "$SECONDS").
data set   $folder/data
run        $folder/run   settings, losses, checkpoints

Next: $moleblend inspect $folder/data --molecule caffeine --blend
      $moleblend pretrain --help     longer runs, other models and objectives
      $moleblend prepare --help      your own molecules: SMILES, CSV, SDF, MOL2, XYZ, PDB
      $moleblend finetune --help     a property model from labels; then $moleblend predict
NEXT
