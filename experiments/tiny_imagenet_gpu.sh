#!/usr/bin/env bash
# Tiny ImageNet at 64x64 on a GPU, W = 50, 100 epochs: protocol tiny_imagenet_gpu, in calls of a few minutes.
#
#   experiments/tiny_imagenet_gpu.sh ARCHIVES RESULTS [--arms ... --seeds ...]
#
# ARCHIVES is a folder with tiny-imagenet-200.zip, RESULTS where results and checkpoints go; further options
# are those of `run`. It needs Keras and JAX, neither TensorFlow nor TFDS. After MINUTES (9) it stops with a
# checkpoint and exit code 75; the same command goes on. Which device it was is in each result.
set -euo pipefail
archives=$(realpath "$1") results=$(realpath -m "$2")
shift 2
cd "$(dirname "$0")/.."
export KERAS_BACKEND=jax
python=${PYTHON:-python3}
"$python" -m experiments prepare --dataset tiny_imagenet/64x64 --manual-dir "$archives"
exec timeout --preserve-status --kill-after=60 "${MINUTES:-9}m" \
  "$python" -m experiments run --protocol tiny_imagenet_gpu --results "$results" "$@"
