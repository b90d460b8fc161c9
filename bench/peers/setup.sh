#!/usr/bin/env bash
# One environment for each family of peers: bash bench/peers/setup.sh [FOLDER]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
environments=${1:-$root/bench/peers/environments}
constraints=$root/constraints.txt

make() {
    local name=$1
    shift
    [ -e "$environments/$name/complete" ] && return
    python3 -m venv --clear "$environments/$name"
    "$environments/$name/bin/pip" install --quiet "$@"
    touch "$environments/$name/complete"
}

pinned() { grep "^$1==" "$constraints"; }

make rdx_fast -c "$constraints" "$root"
make published -c "$constraints" "$root[train]"
make plain -c "$constraints" numpy onnxruntime openvino pillow scipy
# With its own torch and torchvision, and the OpenVINO and NumPy of the others.
make anomalib "anomalib[openvino]==2.7.0" "$(pinned openvino)" "$(pinned numpy)" scikit-learn
