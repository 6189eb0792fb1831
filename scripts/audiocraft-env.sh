#!/usr/bin/env bash
# Build the environment of the reference implementation, audiocraft 1.3.0, from nothing.
# usage: scripts/audiocraft-env.sh [FOLDER]      (default: build/audiocraft; PYTHON=python3.12 to choose the Python)
#
# audiocraft 1.3.0 (May 2024) asks for torch 2.1.0, xformers below 0.0.23 and av 11.0.0, which no longer builds. It runs on
# the project's own versions all the same, so it is installed without its requirements and those that it imports are
# named here. Everything else comes in the versions of constraints.txt: both sides of a comparison run on one torch. The
# service itself is installed beside it, so that MUSICGEN_ENGINE=audiocraft FOLDER/bin/musicgen serve works.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/build/audiocraft}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "Python 3.11 or newer is needed; $python is $("$python" -V)." >&2; exit 1; }
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
pip="$folder/bin/python -m pip --disable-pip-version-check"

install_cpu_torch() {
    # As scripts/setup.sh does: uv knows the index of PyTorch's CPU builds.
    $pip install --quiet -c "$root/constraints.txt" uv
    UV_HTTP_RETRIES=1 "$folder/bin/uv" pip install --python "$folder/bin/python" --torch-backend cpu \
        -c "$root/constraints.txt" torch
}

if ! "$folder/bin/python" -c 'import torch' 2>/dev/null && [ ! -e /proc/driver/nvidia/version ]; then
    install_cpu_torch || echo "PyTorch's CPU index cannot be reached; taking torch from your package index"
fi
# av and click are newer than what audiocraft and spaCy were written for, and serve.
$pip install -c "$root/constraints.txt" -e "$root[engine,embedded]" setuptools wheel einops librosa soundfile pyyaml \
    av==18.1.0 hydra-core==1.3.2 hydra-colorlog==1.2.0 julius==0.2.8 num2words==0.5.14 omegaconf==2.3.0 spacy==3.8.7 \
    retrying==1.4.2 submitit==1.5.3 treetable==0.2.6 torchmetrics==1.9.0 torchdiffeq==0.2.5
# Without their requirements: these name old versions of torch, or parts that the models do not use.
$pip install --no-deps torchaudio==2.11.0 xformers==0.0.35 flashy==0.0.2 dora-search==0.1.12 demucs==4.1.0 \
    encodec==0.1.1 openunmix==1.3.0
$pip install --no-deps --no-build-isolation audiocraft==1.3.0

# torchaudio's compiled part is built for CUDA and does not load beside a CPU build of torch; where it is not there,
# torchaudio does the same in Python.
"$folder/bin/python" -c 'import torchaudio' 2>/dev/null ||
    rm "$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"/torchaudio/lib/*.so

"$folder/bin/python" - <<'CHECK'
import torch, torchaudio, transformers, xformers
import audiocraft, audiocraft.models, audiocraft.data.audio_utils, audiocraft.modules.conditioners
print(f"audiocraft {audiocraft.__version__}, torch {torch.__version__}, torchaudio {torchaudio.__version__}, "
      f"transformers {transformers.__version__}, xformers {xformers.__version__}")
CHECK
echo "The reference is ready in $folder"
