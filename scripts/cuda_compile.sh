#!/usr/bin/env bash
# cuda_compile.sh NVCC ARGUMENT...: compiles, and keeps what ptxas says of each kernel (registers, shared memory, spills) beside the
# object, in OBJECT.resources, for scripts/cuda_resources.py. Everything else that nvcc says is passed on.

object=''
for ((k = 1; k < $#; ++k)); do
  [[ ${!k} != -o ]] || { next=$((k + 1)) && object=${!next}; }
done
[[ -n $object ]] || exec "$@"

status=0
messages=$("$@" -Xptxas=-v 2>&1) || status=$?
resources='^ptxas info|^ +[0-9]+ bytes stack frame'
grep -vE "$resources" <<<"$messages" | sed '/^$/d' >&2
if ((status == 0)); then grep -E "$resources" <<<"$messages" >"$object.resources"; fi
exit "$status"
