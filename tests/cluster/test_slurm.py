"""The Slurm script itself, run by bash; Slurm's commands, Ray and Python are stand-ins that note calls."""

import os
import signal
import subprocess
import time
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm" / "sweep.sbatch"
NOTE = '#!/bin/bash\necho "${0##*/} $*" >> "$LOG"\n'
SRUN = """
# What it is to run comes after its options.
while [[ $1 == --* ]]; do shift; done
if [[ $1 == hostname ]]; then echo 10.0.0.1; else exec "$@"; fi
"""
SCONTROL = """
if [[ $1 == show ]]; then printf 'node1\\nnode2\\n'; fi
"""
RAY = """
if [[ $1 == start ]]; then
  stat -c 'token %a' "$RAY_AUTH_TOKEN_PATH" >> "$LOG"
  echo "mode $RAY_AUTH_MODE" >> "$LOG"
  exec sleep 60
fi
"""
PYTHON = """
case "$*" in
  "-c "*) echo secret ;;
  *"sweep status"*) exit "$UNKNOWN" ;;
  *node_check*) exit "${BROKEN:-0}" ;;
  *"sweep --address"*)
    trap 'echo interrupted >> "$LOG"; exit 143' TERM
    echo running >> "$LOG"
    for _ in $(seq "$TICKS"); do sleep 0.1; done ;;
esac
"""
TOOLS = {"srun": SRUN, "scontrol": SCONTROL, "ray": RAY, "python": PYTHON}


class Job:
    """One run of the script."""

    def __init__(self, folder, **more):
        self.log, self.home = folder / "log", folder
        bin = folder / "env" / "bin"
        bin.mkdir(parents=True, exist_ok=True)
        for name, text in TOOLS.items():
            (bin / name).write_text(NOTE + text)
            (bin / name).chmod(0o755)
        environment = {
            "PATH": f"{bin}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LOG": str(self.log),
            "ENV": str(bin.parent),
            "NAME": "wide",
            "OUTPUT": "/shared/runs",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_GPUS_ON_NODE": "1",
            "UNKNOWN": "2",
            "TICKS": "1",
        }
        command = ["bash", str(SCRIPT), "--trials", "200", "space=wide"]
        self.process = subprocess.Popen(
            command, env=environment | more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def ended(self):
        said, _ = self.process.communicate(timeout=60)
        self.said = said
        return self.process.returncode

    def calls(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def call(self, text):
        return next((line for line in self.calls() if text in line), None)

    def wait_for(self, text):
        deadline = time.monotonic() + 60
        while self.call(text) is None:
            assert time.monotonic() < deadline, self.calls()
            time.sleep(0.05)


def test_a_first_job_starts_head_workers_and_the_sweep_with_a_token(tmp_path):
    job = Job(tmp_path)
    assert job.ended() == 0, job.said
    assert "--head" in job.call("ray start --head") and "--nodelist=node1" in job.call("srun --overlap")
    assert "--exclude=node1" in job.call("ray start --address=10.0.0.1:20007")
    assert job.call("node_check") and "--gpu" in job.call("node_check --bucket /shared/runs")
    assert {"token 600", "mode token"} <= set(job.calls())
    sweep = "ristune.sweep --address 10.0.0.1:20007 --name wide output=/shared/runs --trials 200 space=wide"
    assert job.call(sweep)


def test_the_token_and_rays_processes_are_gone_when_the_job_ends(tmp_path):
    job = Job(tmp_path)
    assert job.ended() == 0, job.said
    assert list((tmp_path / ".ray").iterdir()) == []


def test_the_same_line_again_goes_on_with_the_sweep(tmp_path):
    job = Job(tmp_path, UNKNOWN="0")
    assert job.ended() == 0, job.said
    (sweep,) = [line for line in job.calls() if "sweep --address" in line]
    # What would make another sweep of it is refused on resuming, and left out.
    assert sweep.endswith("--resume /shared/runs/wide --trials 200")


def test_slurms_warning_stops_the_sweep_cleanly_and_queues_the_job_again(tmp_path):
    job = Job(tmp_path, TICKS="600")
    job.wait_for("running")
    job.process.send_signal(signal.SIGTERM)
    assert job.ended() == 0, job.said
    assert job.call("interrupted") and job.call("scontrol requeue 7")
    assert list((tmp_path / ".ray").iterdir()) == []


def test_a_node_that_cannot_run_trials_ends_the_job(tmp_path):
    job = Job(tmp_path, BROKEN="2")
    assert job.ended() != 0
    assert job.call("ray start") is None and job.call("sweep --address") is None
    assert list((tmp_path / ".ray").iterdir()) == []
