#!/usr/bin/env bash
# Runs lnsub on a GPU machine, in stages of less than eight minutes each:
#
#     bash run.sh STAGE...      check tests bench probe imp resume
#
# What a stage says goes to $OUT/STAGE.log, beside bench.json, probe.json and the records of whole runs. What was
# unpacked under $WORK is used again. DEVICE=cpu is a dry run, at toy sizes: see README.md.
set -uo pipefail
KIT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export OUT=${OUT:-$PWD/gpu-out} WORK=${WORK:-${TMPDIR:-/tmp}/lnsub-gpu} PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda}
mkdir -p "$OUT" "$WORK"
export PYTHONPATH=$WORK/site:$WORK/lnsub PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 HF_HOME=$WORK/hf WANDB_MODE=offline
export TOKENIZERS_PARALLELISM=false TRITON_CACHE_DIR=$WORK/triton TORCHINDUCTOR_CACHE_DIR=$WORK/inductor

unpack() {
    [[ ! -e $WORK/ready ]] || return 0
    if compgen -G "$KIT/wheels/*.whl" >/dev/null; then
        "$PYTHON" -m pip install -q --no-index --no-deps --target "$WORK/site" "$KIT"/wheels/*.whl || return
    fi
    local name
    for name in lnsub model data; do
        mkdir -p "$WORK/$name"
        [[ ! -e $KIT/$name.tar.xz ]] || tar -C "$WORK/$name" -xJf "$KIT/$name.tar.xz" || return
    done
    touch "$WORK/ready"
}

check() {
    [[ $DEVICE == cpu ]] || nvidia-smi || return
    df -h "$WORK" | tail -n 1
    "$PYTHON" - <<'PY'
import importlib, sys, torch
print("Python, torch, CUDA:", sys.version.split()[0], torch.__version__, torch.version.cuda)
print("GPU:", torch.cuda.get_device_name() if torch.cuda.is_available() else None)
failed = False
names = "numpy transformers tokenizers lightning torchmetrics safetensors datasets pyarrow pandas jsonargparse rich"
for name in (*names.split(), "pytest", "pytest_timeout", "triton", "lnsub.training.setup", "benchmarks.gpu.probe"):
    try:
        print(f"{name}: {getattr(importlib.import_module(name), '__version__', 'imported')}")
    except Exception as error:
        failed = failed or name != "triton"  # which only a GPU needs
        print(f"{name}: FAILED: {type(error).__name__}: {error}")
sys.exit(failed)
PY
}

# Those marked `gpu`, and those of steps.
tests() {
    local marked=(-m gpu)
    [[ $DEVICE != cpu ]] || marked=(-m "not slow and not shared" tests/data/test_prefetch.py)
    "$PYTHON" -m pytest -p no:cacheprovider -q --durations=5 "${marked[@]}" tests/training/test_step.py \
        tests/training/test_captured.py tests/training/test_staying.py tests/models/test_packing.py \
        tests/models/test_snapshots.py tests/common/test_torch_internals.py tests/pruning/test_selection.py
}

bench() {
    local how=(--minutes "${MINUTES:-7.3}")
    [[ $DEVICE != cpu ]] || how=(--device cpu --quick --repeats 1)
    [[ -z ${CUDNN:-} ]] || how+=(--cudnn)
    "$PYTHON" -m benchmarks.gpu "${how[@]}" --json "$OUT/bench${CUDNN:+-cudnn}.json"
}

probe() {
    local how=(--only "${ONLY:-}")
    [[ $DEVICE != cpu ]] || how+=(--device cpu --tiny)
    "$PYTHON" -m benchmarks.gpu.probe "${how[@]}" --json "$OUT/probe.json"
}

# One run of lnsub fit: fit NAME SETTING..., in place of this shell.
fit() {
    local name=$1 more=()
    shift
    read -ra more <<<"${MORE:-}"
    local model=("$WORK"/model/*/)
    [[ -d ${model[0]} ]] || { echo "There is no model in the kit: see prepare.sh." >&2; return 1; }
    [[ $DEVICE != cpu ]] || set -- --trainer.precision=32-true "$@"
    exec "$PYTHON" -m lnsub fit --config configs/xnli_fr.yaml --wandb=null --model.base_model="${model[0]%/}" \
        --data.init_args.dataset="$WORK/data/xnli" --trainer.accelerator="${DEVICE/cuda/gpu}" --trainer.devices=1 \
        --trainer.max_epochs=1 --trainer.enable_progress_bar=false --output="$WORK/runs/$name" "${more[@]}" "$@"
}

keep() {
    local file from=$WORK/runs/$1/xnli/fr/seed57
    for file in results.jsonl metrics.csv; do
        [[ ! -e $from/$file ]] || cp "$from/$file" "$OUT/$1.$file"
    done
}

imp() {
    (fit imp --model.step="${STEP:-captured}")
    local status=$?
    keep imp
    return "$status"
}

# A run that SIGTERM stops amid an epoch, and that is resumed, must end as one that was not stopped.
resume() {
    local small=(--data.init_args.max_train_examples="${ROWS:-1600}" --data.init_args.max_eval_examples=320)
    small+=(--trainer.log_every_n_steps=1 --model.step="${STEP:-captured}")
    (fit whole "${small[@]}") || return
    (fit parts "${small[@]}") &
    local run=$! metrics=$WORK/runs/parts/xnli/fr/seed57/metrics.csv _
    for _ in $(seq 1200); do
        if [[ -e $metrics ]] && (($(wc -l <"$metrics") > 7)); then break; fi
        sleep 0.1
    done
    kill -TERM "$run"
    wait "$run"
    echo "the stopped run ended with status $?; 75 is that of a run that can be resumed"
    (fit parts "${small[@]}") || return
    "$PYTHON" - "$WORK/runs" <<'PY'
import sys
from pathlib import Path
from lnsub import Ticket
runs, differing = Path(sys.argv[1]), 0
for path in sorted((runs / "whole/xnli/fr/seed57/tickets").iterdir()):
    one, other = (Ticket.load(runs / run / "xnli/fr/seed57/tickets" / path.name) for run in ("whole", "parts"))
    same = one.checksum == other.checksum
    differing += not same
    print(path.name, "SAME MASK" if same else "OTHER MASK")
sys.exit(differing > 0)
PY
}

# `timeout` runs programs, not functions: the script calls itself for each stage.
if [[ ${1:-} == --inside ]]; then
    cd "$WORK/lnsub" || exit
    case $2 in
        check) check ;;
        tests) tests ;;
        bench) bench ;;
        probe) probe ;;
        imp) imp ;;
        resume) resume ;;
    esac
    exit
fi
unpack || exit
worst=0
for name; do
    [[ $name =~ ^(check|tests|bench|probe|imp|resume)$ ]] || { echo "There is no stage $name." >&2; exit 2; }
    printf '\n=== %s\n' "$name"
    start=$SECONDS
    timeout -k 10 470 bash "$KIT/run.sh" --inside "$name" 2>&1 | tee "$OUT/$name.log"
    status=${PIPESTATUS[0]}
    printf -- '--- %s: status %s, %s s\n' "$name" "$status" "$((SECONDS - start))"
    ((status == 0)) || worst=1
done
exit "$worst"
