#!/bin/bash
# Pretraining under SLURM that goes on with fewer nodes when some fail: srun starts torchrun once on each node.
#
#   sbatch configs/cluster/slurm-elastic.sh configs/pretrain/base.yaml runs/base [key=value ...]
#
# Adapt the #SBATCH lines, MIN_NODES and GPUS. The first node holds the meeting point of the others: if it fails, the
# job ends, and starts anew where SLURM requeues it. What else can happen: docs/cluster.md.
#
#SBATCH --job-name=lam
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --no-kill
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
# Five minutes before the time is up this script, not the processes of the training, gets SIGUSR1.
#SBATCH --signal=B:USR1@300

set -uo pipefail

MIN_NODES=${MIN_NODES:-2}
GPUS=${GPUS:-4}

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
# An error in the communication ends the process instead of leaving it to wait; torchrun then restarts all of them.
export TORCH_NCCL_ASYNC_ERROR_HANDLING=1
# With PyTorch 2.13, a node that joins later finds the others only with this.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

mkdir -p "$output"
touch "$output/.started"

requeue() {
    echo "$(date '+%F %T') $1: the job is put back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap 'requeue "The time is up"' USR1

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((15000 + SLURM_JOB_ID % 10000))

srun --no-kill --kill-on-bad-exit=0 --wait=0 \
    torchrun \
    --nnodes="$MIN_NODES:$SLURM_JOB_NUM_NODES" \
    --nproc-per-node="$GPUS" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$head:$port" \
    --rdzv-id="$SLURM_JOB_ID" \
    --rdzv-conf=last_call_timeout=10 \
    --max-restarts=10 \
    -m lam train "$config" output="$output" "$@" &
wait $!
status=$?

# torchrun says 1 whatever a process says. It is tried again if this attempt got as far as writing a state.
if [ "$status" -ne 0 ] && [ "$output/state/last.ckpt" -nt "$output/.started" ]; then
    requeue "Status $status"
fi
exit "$status"
