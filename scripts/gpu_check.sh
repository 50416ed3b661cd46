#!/usr/bin/env bash
# Everything that wants a GPU, in one call: the tests of the CUDA operations and of the network on the device, the same under
# compute-sanitizer, the speed of each operation and of the training step beside what the GPU can do (`moleblend bench`), training
# from a data set, several ranks, and the verbs that use an encoder. Writes what it found, with the machine it found it on.
#
#   scripts/gpu_check.sh [--output DIR] [--from BUNDLE] [--data DIR] [--seconds N]
#     --output DIR   gpu_check.json, written anew after each check, and the logs (default: $OUT, or build/gpu-check)
#     --from BUNDLE  run the programs of a bundle instead of building here: for machines that have a GPU and nothing else
#     --data DIR     data set to train on (default: the bundle's)
#     --seconds N    length of each training run (default 25)
#   scripts/gpu_check.sh --pack BUNDLE [--data DIR]
#     builds here and packs programs, the libraries they need, the golden data and a data set into a folder to carry there; into an
#     archive if BUNDLE ends in .tar.gz, which --from takes too
#
# Without a GPU it fails: nothing is skipped. A check that fails or takes too long does not keep the others from running; speed comes before
# the sanitizers, which take longest. Exit status 0 if all passed.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

output=${OUT:-$ROOT/build/gpu-check} bundle='' data='' seconds=25 pack=''
while (($# > 0)); do
  case $1 in
    --output | --from | --data | --seconds | --pack)
      (($# > 1)) || { warn "$1 needs a value; see scripts/gpu_check.sh --help" && exit 2; }
      case $1 in
        --output) output=$2 ;;
        --from) bundle=$2 ;;
        --data) data=$2 ;;
        --seconds) seconds=$2 ;;
        --pack) pack=$2 ;;
      esac
      shift
      ;;
    -h | --help) sed -n '2,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) warn "unknown option $1; see scripts/gpu_check.sh --help" && exit 2 ;;
  esac
  shift
done

# The training part alone: no Open Babel, no RDKit, no MPI.
build_training_part() {
  (cd "$ROOT" && cmake --preset gpu && cmake --build --preset gpu --parallel "$(build_jobs)" --target moleblend moleblend_cuda test_cuda)
}

# Libraries that a machine with CUDA and a C++ runtime may lack.
pack_libraries() {
  local program library
  for program in "$@"; do
    ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// {print $3}'
  done | sort -u | while read -r library; do
    case $(basename "$library") in
      libc.so* | libm.so* | libdl.so* | librt.so* | libpthread.so* | ld-linux* | libstdc++* | libgcc_s* | libcublas* | libcuda*) ;;
      *) cp -Lf "$library" "$pack/lib/" ;;
    esac
  done
}

if [[ -n $pack ]]; then
  build_training_part
  archive=''
  [[ $pack != *.tar.gz ]] || { archive=$pack && pack=$(mktemp -d) && trap 'rm -rf "$pack"' EXIT; }
  mkdir -p "$pack/lib"
  cp -f "$ROOT"/build/gpu/{moleblend,libmoleblend_cuda.so,test_cuda} "$pack/"
  strip --strip-debug "$pack"/{moleblend,libmoleblend_cuda.so,test_cuda}
  pack_libraries "$pack/moleblend" "$pack/test_cuda" "$pack/libmoleblend_cuda.so"
  mkdir -p "$pack/golden"
  cp -f "$ROOT"/tests/golden/data/*.safetensors "$pack/golden/"
  (cd "$ROOT" && git describe --always --dirty) >"$pack/commit"
  if [[ -n $data ]]; then
    rm -rf "$pack/data" && cp -r "$data" "$pack/data"
  fi
  [[ -z $archive ]] || tar -czf "$archive" -C "$pack" .
  say "packed $(du -sh "${archive:-$pack}" | cut -f1) in ${archive:-$pack}"
  exit 0
fi

mkdir -p "$output"
if [[ $bundle == *.tar.gz ]]; then
  unpacked=$(mktemp -d)
  trap 'rm -rf "$unpacked"' EXIT
  tar -xzf "$bundle" -C "$unpacked" || fail "$bundle can't be unpacked"
  bundle=$unpacked
fi
if [[ -n $bundle ]]; then
  [[ -x $bundle/test_cuda && -f $bundle/commit ]] || fail "$bundle is no bundle: make one with scripts/gpu_check.sh --pack"
  programs=$(cd "$bundle" && pwd)
  commit=$(cat "$programs/commit")
  [[ -n $data || ! -d $programs/data ]] || data=$programs/data
  export MOLEBLEND_GOLDEN=$programs/golden
else
  build_training_part 2>&1 | tee "$output/build.log" | tail -n 3 || fail "the build failed, see $output/build.log"
  programs=$ROOT/build/gpu
  commit=$(cd "$ROOT" && git describe --always --dirty 2>/dev/null || echo unknown)
fi
[[ -n $data ]] || fail "no data set to train on: make one with \`moleblend prepare\` where Open Babel is, and name it with --data"

# cuBLASLt, cuDNN and NCCL from the toolkit or from Python's packages (as PyTorch brings them), whichever this machine has.
libraries=$programs/lib
for folder in /usr/local/cuda/lib64 /usr/local/cuda/lib /usr/local/cuda/targets/x86_64-linux/lib \
  $(python3 -c 'import glob, nvidia; print(*[f for p in nvidia.__path__ for f in sorted(glob.glob(p + "/*/lib"))])' 2>/dev/null || true); do
  [[ ! -d $folder ]] || libraries=$libraries:$folder
done
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export MOLEBLEND_REQUIRE_GPU=1

results=() rates=() failed=0
join() { local IFS=,; echo "$*"; }
truth() { if "$@"; then echo true; else echo false; fi; }
# What was found so far: a lent machine may go before the last check is done.
report() {
  cat >"$output/gpu_check.json.new" <<JSON
{"gpu": "$gpu", "commit": "$commit", "date": "$(date -u +%F)", "cores": $(cores), "data": "$(sed -n 's/.*"fingerprint": *"\([^"]*\)".*/\1/p' "$data/dataset.json" | head -1)",
 "complete": $1, "passed": $(truth test "$1 $failed" == 'true 0'), "checks": [$(join "${results[@]}")], "rows": [$(join "${rates[@]}")],
 "bench": $(cat "$output/bench.json" 2>/dev/null || echo null)}
JSON
  mv "$output/gpu_check.json.new" "$output/gpu_check.json"
}
# note NAME STATUS SECONDS COMMAND
note() {
  (($2 == 0)) || failed=1
  results+=("{\"name\": \"$1\", \"passed\": $(truth test "$2" == 0), \"status\": $2, \"seconds\": $3, \"command\": \"${4//[\"\\]/}\"}")
  report false
}
# check NAME LIMIT_S COMMAND…: its output goes to NAME.log.
check() {
  local name=$1 limit=$2 start=$SECONDS status=0
  shift 2
  timeout -k 10 "$limit" "$@" >"$output/$name.log" 2>&1 || status=$?
  say "$(printf '%-28s %-11s %4d s' "$name" "$( ((status == 0)) && echo passed || echo "FAILED $status")" $((SECONDS - start)))"
  ((status == 0)) || tail -n 15 "$output/$name.log"
  note "$name" "$status" $((SECONDS - start)) "$*"
}

# A test program that is to run no test says whether there is a GPU.
message=$("$programs/test_cuda" '--gtest_filter=-*' 2>&1) || fail "nothing can be checked here: $(tail -n 1 <<<"$message")"
gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -1 || true)
say "GPU: ${gpu:-none}; commit $commit"
rm -f "$output"/{bench,gpu_check}.json  # of an earlier call

check tests 180 "$programs/test_cuda" --gtest_brief=1

# train NAME ARGUMENTS…: a run of the base model; its rate is the median over the second half of its steps.
train() {
  local name=$1
  shift
  rm -rf "$output/run-$name"
  check "train-$name" $((seconds + 60)) bash -c 'timeout -s TERM "$0" "$@" || { s=$?; ((s == 124 || s == 143)) || exit "$s"; }' "$seconds" \
    "$programs/moleblend" pretrain --data "$data" --output "$output/run-$name" --model base --device cuda --valid-every 0 --steps 1000000 \
    --warmup 100 --checkpoint-every 1000000 --quiet "$@"
  local rate
  rate=$({ sed -n 's/.*"molecules_per_s":\([0-9.e+]*\).*/\1/p' "$output/run-$name/metrics.jsonl" 2>/dev/null || true; } | awk '{v[NR] = $1} END {
    n = 0; for (k = int(NR / 2) + 1; k <= NR; ++k) w[++n] = v[k]
    for (i = 1; i <= n; ++i) for (j = i + 1; j <= n; ++j) if (w[j] < w[i]) {t = w[i]; w[i] = w[j]; w[j] = t}
    if (n > 0) printf "%.1f", w[int((n + 1) / 2)]; else printf "null"}')
  cp -f "$output/run-$name/metrics.jsonl" "$output/train-$name.jsonl" 2>/dev/null || true
  rm -rf "$output/run-$name"
  say "  $name: ${rate:-null} molecules/s"
  rates+=("{\"name\": \"train.$name\", \"value\": ${rate:-null}, \"unit\": \"molecules/s\"}")
}
threads=$(($(cores) > 2 ? $(cores) - 1 : 1))
train base.bf16.b1024 --precision bf16 --batch-size 1024 --loader-threads "$threads"
train base.fp32.b256 --precision fp32 --batch-size 256 --loader-threads "$threads"
# The verbs, as people use them: ranks that share what GPUs there are, and what a trained encoder is for.
gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU' || true)
rm -rf "$output/ranks"
check ranks 90 env MOLEBLEND="$programs/moleblend" "$ROOT/scripts/launch_local.sh" --tcp --ranks $((gpus > 1 ? gpus : 2)) pretrain --data "$data" \
  --output "$output/ranks" --model small --device cuda --precision bf16 --batch-size 256 --steps 60 --valid-every 0 --threads 1
check evaluate 60 "$programs/moleblend" evaluate --checkpoint "$output/ranks" --data "$data" --device cuda --precision bf16
check embed 60 "$programs/moleblend" embed --checkpoint "$output/ranks" --data "$data" --device cuda --output "$output/rows.npy"
# Where the data set has labels, the first of them.
label=$(sed -n 's/.*"labels": *\["\([^"]*\)".*/\1/p' <(tr -d '\n ' <"$data/dataset.json"))
if [[ -n $label ]]; then
  rm -rf "$output/property"
  check finetune 120 "$programs/moleblend" finetune --data "$data" --init "$output/ranks" --labels "$label" --task regression --split random --epochs 2 \
    --device cuda --output "$output/property"
  check predict 60 "$programs/moleblend" predict --checkpoint "$output/property" --data "$data" --device cuda --output "$output/answers.csv"
fi
rm -rf "$output"/{ranks,property,rows.npy,rows.csv,answers.csv}
check bench 180 "$programs/moleblend" bench --kernels --train --device cuda --sizes n14 --seconds 2 --json "$output/bench.json"
# Figures are worth seeing, also where some are wrong.
[[ ! -f $output/bench.json ]] || cat "$output/bench.log"

sanitizer=$(command -v compute-sanitizer || compgen -G '/usr/local/cuda/bin/compute-sanitizer' || true)
[[ -n $sanitizer ]] || warn "compute-sanitizer is not on this machine: out-of-bounds accesses and races were not looked for"
for tool in memcheck racecheck; do
  # The whole network is large under a sanitizer: its operations are what is checked.
  if [[ -n $sanitizer ]]; then
    check "$tool" 150 "$sanitizer" --tool "$tool" --error-exitcode 9 "$programs/test_cuda" --gtest_brief=1 '--gtest_filter=-*Golden*:*Network*:*KernelCases*'
  else
    note "$tool" 127 0 compute-sanitizer
  fi
done

report true
say "written to $output/gpu_check.json"
exit "$failed"
