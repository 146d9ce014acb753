#!/bin/bash
# Two nodes with four GPUs each: sbatch examples/distributed/slurm.sh my_clips outputs/my_model --base CHECKPOINT [more]
# Data and output must be on a disk that both nodes can access. A requeued job resumes by itself: --resume auto.
#SBATCH --job-name=ast
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

data=$1 output=$2
shift 2
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# If one process ends, end all of them; the others would wait for it forever.
srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc_per_node 4 \
    --rdzv_backend c10d --rdzv_id "$SLURM_JOB_ID" --rdzv_endpoint "$first:29500" \
    examples/finetune.py --data "$data" --output_dir "$output" --resume auto "$@"
