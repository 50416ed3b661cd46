#!/usr/bin/env bash
# Installs what a build needs on Debian 12 or Ubuntu 24.04 and says what the machine has. Does nothing where all is there.
#
#   scripts/setup.sh [--full] [--quiet]
#     --full    also what scripts/test.sh --full needs: clang with its sanitizers, clang-format, and the CUDA compiler, which needs no GPU;
#               beside cuDNN the headers of its frontend, for `moleblend bench` to compare attention with
#     --quiet   print only what had to be done

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

full=no quiet=no
for argument in "$@"; do
  case $argument in
    --full) full=yes ;;
    --quiet) quiet=yes ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) warn "unknown option $argument; see scripts/setup.sh --help" && exit 2 ;;
  esac
done

# oneDNN's CMake package asks for OpenCL, which its Debian package only recommends.
required=(zlib1g-dev libfmt-dev nlohmann-json3-dev libcli11-dev libdnnl-dev ocl-icd-opencl-dev libgtest-dev)
optional=(libopenbabel-dev librdkit-dev libboost-dev libopenmpi-dev openmpi-bin)
have g++ || required+=(g++)
have cmake || required+=(cmake)
have ninja || required+=(ninja-build)
have git || optional+=(git)
have ccache || optional+=(ccache)
if [[ $full == yes ]]; then
  have clang++ || required+=(clang)
  have clang-format || required+=(clang-format)
  # Named after its version: 14 in Debian 12, 18 in Ubuntu 24.04. A clang that has it already keeps its own.
  [[ -n $(compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.tsan*.a' || true) ]] || required+=(clang-runtime)
  # A SLURM of two nodes on this machine, for the test of the batch scripts.
  optional+=(slurm-wlm munge)
  # The table of what kernels take of a GPU is compared by a Python script.
  have python3 || optional+=(python3)
fi

# Where cmake/cuda.cmake looks for it.
cuda_folder=${XDG_DATA_HOME:-$HOME/.local/share}/moleblend/cuda
cuda_compiler() {
  command -v nvcc || compgen -G '/usr/local/cuda*/bin/nvcc' | tail -1 | grep . || compgen -G "$cuda_folder/bin/nvcc" || true
}
# Headers alone; cuDNN's own lie beside CUDA's where it is installed.
frontend_folder=${cuda_folder%/cuda}/cudnn-frontend
wants_frontend() {
  [[ ! -d $frontend_folder && -n $(compgen -G '/usr/local/cuda/include/cudnn_graph.h' || compgen -G "$cuda_folder/include/cudnn_graph.h") ]]
}
if [[ $full == yes ]] && { [[ -z $(cuda_compiler) ]] || wants_frontend; }; then python3 -m pip --version >/dev/null 2>&1 || optional+=(python3-pip); fi

installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]; }
missing() {
  local package
  for package in "$@"; do installed "$package" || echo "$package"; done
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  else
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  fi
}

# clang-runtime stands for the package that goes with the installed or coming version of clang.
package_name() {
  if [[ $1 != clang-runtime ]]; then
    echo "$1"
  elif apt-cache show libclang-rt-dev >/dev/null 2>&1; then
    echo libclang-rt-dev
  else
    apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\)$/libclang-rt-\1-dev/p' | head -1
  fi
}

apt_install() {
  as_root apt-get install -y -q --no-install-recommends "$@" </dev/null
}

install_missing() {
  local wanted_required wanted_optional package
  mapfile -t wanted_required < <(missing "${required[@]}")
  mapfile -t wanted_optional < <(missing "${optional[@]}")
  if ((${#wanted_required[@]} + ${#wanted_optional[@]} == 0)); then return; fi

  say "Missing: ${wanted_required[*]} ${wanted_optional[*]}"
  if ((EUID != 0)) && ! have sudo; then
    if ((${#wanted_required[@]} > 0)); then
      fail "needs these packages, and this user is neither root nor has sudo; ask for: apt-get install ${wanted_required[*]}"
    fi
    warn "going on without ${wanted_optional[*]}: this user is neither root nor has sudo"
    return
  fi
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -q </dev/null || warn "apt-get update failed; trying with the package lists that are here"

  local names=()
  for package in "${wanted_required[@]}"; do names+=("$(package_name "$package")"); done
  if ((${#names[@]} > 0)); then
    apt_install "${names[@]}" || fail "could not install ${names[*]}; look at apt's message above, then run this script again"
  fi
  # One by one, so that one name that this release lacks does not cost the others.
  for package in "${wanted_optional[@]}"; do
    apt_install "$package" || warn "could not install $package; the build goes on without it"
  done
}

if have apt-get && have dpkg-query; then
  install_missing
else
  warn "this is no Debian or Ubuntu: install a C++20 compiler, CMake 3.25, Ninja, zlib, fmt, nlohmann-json, CLI11, oneDNN, GoogleTest and Open Babel 3 by its own means"
fi

# The CUDA compiler, its headers, cuBLAS and NCCL, without a driver, as Python wheels: Debian's own CUDA is too old for C++20. The folder
# appears whole or not at all.
install_cuda() {
  local staging=$cuda_folder.new toolkit library
  if ! python3 -m pip --version >/dev/null 2>&1; then
    warn "no nvcc, and no pip to install it with; the build goes on without CUDA"
    return
  fi
  say "Installing the CUDA compiler, its headers, cuBLAS and NCCL in $cuda_folder (1.5 GB)"
  rm -rf "$staging"
  mkdir -p "$staging"
  if ! python3 -m pip install --quiet --root-user-action=ignore --target "$staging" 'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-crt==13.0.*' \
    'nvidia-nvvm==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*' 'nvidia-cublas==13.1.*' 'nvidia-nccl-cu13==2.28.*'; then
    warn "could not install the CUDA compiler, see pip's message above; the build goes on without CUDA"
    rm -rf "$staging"
    return
  fi
  toolkit=$staging/nvidia/cu13
  if [[ -d $staging/nvidia/nccl ]]; then cp -r "$staging"/nvidia/nccl/{include,lib} "$toolkit/"; fi
  # Wheels name libraries with their version only, and CMake looks for those without.
  for library in "$toolkit"/lib/lib*.so.*; do ln -sf "${library##*/}" "${library%%.so.*}.so"; done
  ln -s lib "$toolkit/lib64"
  rm -rf "$cuda_folder"
  mv "$toolkit" "$cuda_folder"
  rm -rf "$staging"
}
if [[ $full == yes && -z $(cuda_compiler) ]]; then install_cuda; fi

install_frontend() {
  local staging=$frontend_folder.new
  say "Installing the headers of cuDNN's frontend in $frontend_folder (3 MB)"
  rm -rf "$staging"
  mkdir -p "$staging"
  if python3 -m pip install --quiet --root-user-action=ignore --no-deps --target "$staging/wheel" 'nvidia-cudnn-frontend==1.32.*'; then
    mkdir "$staging/kept"
    mv "$staging/wheel/include" "$staging/kept/"
    mv "$staging/kept" "$frontend_folder"
  else
    warn "could not install the headers of cuDNN's frontend, see pip's message above; the build goes on without them"
  fi
  rm -rf "$staging"
}
if [[ $full == yes ]] && wants_frontend; then install_frontend; fi

for tool in g++ cmake ninja; do
  have "$tool" || fail "$tool is not on the PATH; install it and run this script again"
done
cmake_version=$(cmake --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
if [[ $(printf '%s\n3.25\n' "$cmake_version" | sort -V | head -1) != 3.25 ]]; then
  fail "CMake $cmake_version is too old, 3.25 or later is needed; put a newer one first on the PATH"
fi

[[ $quiet == yes ]] && exit 0

version_of() { if have "$1"; then "$@" 2>/dev/null | head -1; else echo none; fi; }
package_version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || echo none; }
nvcc=$(cuda_compiler)
if have nvidia-smi; then
  gpu=$(nvidia-smi --query-gpu=name,memory.total --format=csv,noheader 2>/dev/null | sort | uniq -c | sed 's/^ *//' | paste -sd ';')
fi

cat <<SUMMARY
compiler       $(version_of g++ --version)
clang          $(version_of clang++ --version)
CMake, Ninja   $cmake_version, $(version_of ninja --version)
oneDNN         $(package_version libdnnl-dev)
Open Babel     $(package_version libopenbabel-dev)   (reads molecule files)
RDKit          $(package_version librdkit-dev)   (optional: second conformer engine)
MPI            $(version_of mpirun --version)   (optional: many ranks)
CUDA compiler  ${nvcc:-none}
GPU            ${gpu:-none}
cores, memory  $(cores), $(awk '/^MemTotal:/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo)
SUMMARY
