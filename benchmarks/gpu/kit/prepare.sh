#!/usr/bin/env bash
# Makes a folder that has all it takes to run lnsub on a GPU machine that has no network. Run it where pip works:
#
#     bash benchmarks/gpu/kit/prepare.sh FOLDER [MODEL] [DATA]
#
#   FOLDER  is made; copy it to the GPU machine and follow README.md there
#   MODEL   folder of a checkpoint, for whole runs; the smaller, the sooner they end
#   DATA    folder with xnli/fr below it, for whole runs
#
# PYTHON_VERSION is that of the GPU machine (3.12). wheels.txt names the packages that it lacks.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../../.." && pwd)
(($# >= 1)) || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1 model=${2:-} data=${3:-}
mkdir -p "$folder/wheels"

grep -v '^#' "$here/wheels.txt" | while read -r package; do
    "${PYTHON:-python3}" -m pip download -q --no-deps --only-binary=:all: -c "$project/constraints.txt" \
        --python-version "${PYTHON_VERSION:-3.12}" -d "$folder/wheels" "$package"
done
git -C "$project" archive HEAD -- lnsub benchmarks tests configs docs README.md pyproject.toml | xz >"$folder/lnsub.tar.xz"
[[ -z $model ]] || tar -C "$(dirname "$model")" -c "$(basename "$model")" | xz -T0 >"$folder/model.tar.xz"
[[ -z $data ]] || tar -C "$data" -c xnli/fr | xz >"$folder/data.tar.xz"
cp "$here/run.sh" "$here/README.md" "$folder/"
du -h "$folder"/*
