# Shared by the scripts of this folder; source it, don't run it.

set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
warn() { printf 'moleblend: %s\n' "$*" >&2; }
fail() {
  warn "$*"
  exit 1
}

# Prints a command as one could type it, then runs it.
run() {
  printf '\n$'
  printf ' %q' "$@"
  printf '\n'
  "$@"
}

have() { command -v "$1" >/dev/null 2>&1; }

# Cores that this process may use: fewer than the machine has inside a container or a batch job.
cores() { nproc; }

# Compilers take up to about 1.5 GiB each here; more jobs than memory holds would swap or be killed.
build_jobs() {
  local kib memory_jobs
  kib=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  memory_jobs=$((kib / 1572864))
  ((memory_jobs >= 1)) || memory_jobs=1
  if ((memory_jobs < $(cores))); then echo "$memory_jobs"; else cores; fi
}

# configure PRESET: the preset of CMakePresets.json. A processor older than AVX2 gets code that it can run. A folder's first build compiles
# all there is, which takes least with the files of a folder as one; who then changes single files sets MOLEBLEND_UNITY=OFF there.
configure() {
  local arguments=(--preset "$1")
  [[ -e $ROOT/build/$1/CMakeCache.txt ]] || arguments+=(-DMOLEBLEND_UNITY=ON)
  if [[ $(uname -m) == x86_64 ]] && ! grep -qw avx2 /proc/cpuinfo; then
    arguments+=(-DMOLEBLEND_ARCH=x86-64-v2)
  fi
  (cd "$ROOT" && cmake "${arguments[@]}")
}

# build PRESET [JOBS] [TARGET...]
build() {
  local preset=$1 jobs=${2:-$(build_jobs)}
  shift $(($# < 2 ? $# : 2))
  (cd "$ROOT" && cmake --build --preset "$preset" --parallel "$jobs" ${1:+--target "$@"})
}

# Seconds as "12 s" or "3 min 5 s".
duration() {
  if (($1 < 60)); then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi
}
