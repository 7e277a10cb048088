#!/usr/bin/env bash
# Submits a whole study of a task: the tickets of all languages, their transfer to all languages, and the report.
#
#     slurm/submit.sh configs/xnli_fr.yaml [SETTING...]
#
# Run it from the project's root. Every variable below can be set in the environment:
#
#     LANGUAGES="fr ur zh" PARTITION=gpu TASKS_PER_NODE=4 slurm/submit.sh configs/xnli_fr.yaml --trainer.max_epochs=1
#
# It prints the jobs' ids. Submitted again, a study resumes; finished work is not repeated.
set -euo pipefail

# Resources of one array task: one run of `lnsub fit`, or a share of the cells of `lnsub transfer`.
PARTITION=${PARTITION:-}
ACCOUNT=${ACCOUNT:-}
QOS=${QOS:-}
NODES=${NODES:-1}
TASKS_PER_NODE=${TASKS_PER_NODE:-1}
GPUS_PER_NODE=${GPUS_PER_NODE:-$TASKS_PER_NODE}
CPUS_PER_TASK=${CPUS_PER_TASK:-4}
MEMORY=${MEMORY:-}
TIME=${TIME:-08:00:00}
# Seconds before the end of TIME at which a run saves and is requeued.
WARNING=${WARNING:-180}
# Maximum number of array tasks that run concurrently; empty: no limit.
AT_ONCE=${AT_ONCE:-}
# More options of sbatch, such as "--constraint=a100 --reservation=class".
SBATCH_OPTIONS=${SBATCH_OPTIONS:-}

# The study.
LANGUAGES=${LANGUAGES:-ar de el en es fr hi ru sw ur zh}
# Its folder: imp/, transfer/, logs/ and report.html.
STUDY=${STUDY:-}
# Sparsities of the tickets to transfer, comma-separated.
SPARSITIES=${SPARSITIES:-0.5}
# Baselines, comma-separated: random, shuffled, ... (see `lnsub transfer --help`).
BASELINES=${BASELINES:-}
# Number of array tasks that the cells of the transfer are divided among.
SHARES=${SHARES:-}
# Examples per batch, over all processes; empty: the configuration's, per process.
BATCH_SIZE=${BATCH_SIZE:-}
# Sourced first by the jobs, if it exists.
SETUP=${SETUP:-.venv/bin/activate}

if (($# == 0)) || [[ $1 == -* ]]; then
    sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
config=$1
shift
if [[ ! -r $config ]]; then
    echo "submit.sh: there is no configuration $config here ($PWD)." >&2
    exit 2
fi
here=$(dirname "$0")
name=$(basename "${config%.*}")
STUDY=${STUDY:-runs/$name}
read -r -a languages <<<"$LANGUAGES"
SHARES=${SHARES:-$((${#languages[@]} * ${#languages[@]}))}
export LANGUAGES BATCH_SIZE SETUP SHARES
mkdir -p "$STUDY/logs"

common=(--parsable --export=ALL)
if [[ -n $PARTITION ]]; then common+=("--partition=$PARTITION"); fi
if [[ -n $ACCOUNT ]]; then common+=("--account=$ACCOUNT"); fi
if [[ -n $QOS ]]; then common+=("--qos=$QOS"); fi
read -r -a further <<<"$SBATCH_OPTIONS"
common+=("${further[@]}")
training=("--nodes=$NODES" "--ntasks-per-node=$TASKS_PER_NODE" "--gpus-per-node=$GPUS_PER_NODE")
training+=("--cpus-per-task=$CPUS_PER_TASK" "--time=$TIME" "--signal=USR1@$WARNING")
if [[ -n $MEMORY ]]; then training+=("--mem=$MEMORY"); fi
limit=${AT_ONCE:+%$AT_ONCE}

# submit WHAT OPTION... SCRIPT ARGUMENT...: prints the job's id. On multi-cluster sites sbatch appends ";cluster".
submit() {
    local what=$1 id
    shift
    id=$(sbatch "${common[@]}" "--job-name=$name-$what" "$@")
    printf '%s' "${id%%;*}"
}

imp=$(OUTPUT=$STUDY/imp submit imp "${training[@]}" "--output=$STUDY/logs/%x-%A_%a.out" \
    "--array=0-$((${#languages[@]} - 1))$limit" "$here/imp.sbatch" "$config" "$@")
echo "tickets:  job $imp, ${#languages[@]} tasks"

options=(--sparsities "$SPARSITIES")
if [[ -n $BASELINES ]]; then options+=(--baselines "$BASELINES"); fi
transfer=$(OUTPUT=$STUDY/transfer TICKETS=$STUDY/imp/'*/*/seed*/tickets/*.safetensors' \
    submit transfer "${training[@]}" "--output=$STUDY/logs/%x-%A_%a.out" \
    "--array=1-$SHARES$limit" "--dependency=afterok:$imp" --kill-on-invalid-dep=yes \
    "$here/transfer.sbatch" "$config" "${options[@]}" -- "$@")
echo "transfer: job $transfer, $SHARES tasks, after $imp"

# Even if the transfer fails: the report shows the available results.
report=$(submit report "--output=$STUDY/logs/%x-%j.out" "--dependency=afterany:$transfer" \
    "$here/report.sbatch" "$STUDY")
echo "report:   job $report, after $transfer: $STUDY/report.html"
echo "logs:     $STUDY/logs"
