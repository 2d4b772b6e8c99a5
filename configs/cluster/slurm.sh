#!/bin/bash
# Pretraining under SLURM: srun starts one task for each GPU.
#
#   sbatch configs/cluster/slurm.sh configs/pretrain/base.yaml runs/base [key=value ...]
#
# Adapt the #SBATCH lines: nodes, GPUs of a node (twice), cores for each, time, partition, account.
# What happens when time is up, a process dies or a node fails: docs/cluster.md.
#
#SBATCH --job-name=lam
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
# Five minutes before the time is up this script, not the processes of the training, gets SIGUSR1.
#SBATCH --signal=B:USR1@300

set -uo pipefail

if [ $# -lt 2 ]; then
    echo "usage: sbatch $0 CONFIG OUTPUT [key=value ...]" >&2
    exit 2
fi
config=$1
output=$2
shift 2

# Environment, for example: module load cuda; source venv/bin/activate

# One thread for each process and data-loader worker.
export OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
# An error in the communication ends the process instead of leaving it to wait.
export TORCH_NCCL_ASYNC_ERROR_HANDLING=1

mkdir -p "$output"
touch "$output/.started"

requeue() {
    echo "$(date '+%F %T') $1: the job is put back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap 'requeue "The time is up"' USR1

# A task that fails takes the others with it at once: they could only wait for it.
srun --kill-on-bad-exit=1 --cpu-bind=cores lam train "$config" output="$output" "$@" &
wait $!
status=$?

# 2 is the user's to put right, or says that the training is finished. Anything else is tried again if this attempt got
# as far as writing a state.
if [ "$status" -ne 0 ] && [ "$status" -ne 2 ] && [ "$output/state/last.ckpt" -nt "$output/.started" ]; then
    requeue "Status $status"
fi
exit "$status"
