#!/usr/bin/env bash
# Tests of the PyTorch peer.
#
#   tests/peer/run.sh golden    the reference program's numbers: the repository's own folder, and the full one where
#                               MOLEBLEND_GOLDEN (default: ../shared/golden beside the repository) has it
#   tests/peer/run.sh parts     everything else (test_peer.py, test_forward.py)
#
# Exit status 77: skipped, since no Python here has PyTorch.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

python=
for candidate in ${MOLEBLEND_PYTHON:+"$MOLEBLEND_PYTHON"} python3 /usr/bin/python3; do
  if "$candidate" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [[ -z $python ]]; then
  echo "SKIP: no Python here has PyTorch; apt-get install python3-torch libopenblas0, or name one in MOLEBLEND_PYTHON"
  exit 77
fi

case ${1-} in
  golden)
    "$python" "$root/scripts/peer_torch.py" check "$root/tests/golden/data"
    full=${MOLEBLEND_GOLDEN:-$root/../shared/golden}
    if [[ -d $full ]]; then
      "$python" "$root/scripts/peer_torch.py" check "$full"
    fi
    ;;
  parts)
    "$python" "$root/tests/peer/test_peer.py"
    "$python" "$root/tests/peer/test_forward.py"
    ;;
  *) echo "usage: tests/peer/run.sh golden|parts" >&2 && exit 2 ;;
esac
