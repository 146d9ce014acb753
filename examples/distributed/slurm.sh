#!/bin/bash
# Two nodes with four GPUs each: sbatch examples/distributed/slurm.sh my_clips outputs/my_model --base CHECKPOINT [more]
# Data and output must be on a disk that both nodes can access. A requeued job resumes by itself: --resume auto.
# Before the time limit, and when it is preempted, the run saves its current step, and the job is put into the queue again.
#SBATCH --job-name=ast
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

data=$1 output=$2
shift 2
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Seconds that torchrun gives its processes to finish the step and save; then it kills them. torch's default is 30.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=110

# If one process ends, end all of them; the others would wait for it forever.
srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc_per_node 4 \
    --rdzv_backend c10d --rdzv_id "$SLURM_JOB_ID" --rdzv_endpoint "$first:29500" \
    examples/finetune.py --data "$data" --output_dir "$output" --resume auto "$@" &
run=$!

# Slurm signals this script alone (B:); srun passes the signal on to torchrun, and torchrun to its processes.
stopped=
trap 'stopped=yes; kill -TERM "$run" 2>/dev/null || true' TERM
code=0
wait "$run" || code=$?
while kill -0 "$run" 2>/dev/null; do # a signal ends `wait` early
    code=0
    wait "$run" || code=$?
done
if [ -n "$stopped" ] && [ "$code" -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
