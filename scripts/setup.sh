#!/usr/bin/env bash
# Make .venv and install into it what `make serve` or `make test` needs.
# usage: scripts/setup.sh serve|test      TORCH=cpu|cuda|auto (auto: cuda where there is an NVIDIA driver)
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:?serve or test}
torch=${TORCH:-auto}
python=${PYTHON:-python3}
pip=".venv/bin/python -m pip --disable-pip-version-check"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "Python 3.11 or newer is needed; $python is $("$python" -V). Try: make $purpose PYTHON=python3.12" >&2; exit 1; }
[ -x .venv/bin/python ] || "$python" -m venv .venv

if [ "$torch" = auto ]; then
    if [ "$(uname)" = Linux ] && [ ! -e /proc/driver/nvidia/version ]; then torch=cpu; else torch=cuda; fi
fi

install_cpu_torch() {
    # uv knows the index of PyTorch's CPU builds: 200 MB instead of 2.6 GB of CUDA.
    echo "No NVIDIA driver here: installing PyTorch's CPU build (choose yourself with TORCH=cpu or TORCH=cuda)"
    $pip install --quiet -c constraints.txt uv
    UV_HTTP_RETRIES=1 .venv/bin/uv pip install --python .venv/bin/python --torch-backend cpu -c constraints.txt torch && return
    echo "PyTorch's CPU index cannot be reached; taking torch from your package index, which may bring CUDA (2.6 GB)"
}

if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    case $torch in
        cpu) install_cpu_torch || true ;;
        cuda) echo "Installing PyTorch with CUDA, 2.6 GB (without an NVIDIA GPU: TORCH=cpu, 200 MB)" ;;
        *) echo "TORCH must be cpu, cuda or auto, not $torch" >&2; exit 1 ;;
    esac
fi

extras=engine,embedded,page
[ "$purpose" = serve ] || extras=$extras,c2pa,otel,finetuning,training,test
$pip install --progress-bar on -c constraints.txt -e ".[$extras]"
[ -f musicgen_core/kernels/libkernels.so ] ||
    echo "The kernels could not be compiled here: without a GPU, torch computes, several times slower (set CC to try another compiler)"
touch ".venv/ready-$purpose"
