"""`--on slurm:…`: a script for sbatch that runs a recipe by torchrun, one launcher a node."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from treino.errors import MachineError, UsageError
from treino.messages import N_
from treino.pipeline.place import Cluster

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
{resources}
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
# Two minutes before the time is up: save and stop. The same command, submitted again, goes on from there.
#SBATCH --signal=TERM@120

set -euo pipefail
cd {folder}
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${{nodes%%$'\\n'*}}
export TREINO_RUNS={runs}

# The folder of runs must be one that all nodes see.
srun --kill-on-bad-exit=1 {python} -m torch.distributed.run \\
  --nnodes="$SLURM_NNODES" --nproc-per-node={ranks} \\
  --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$head:29500" \\
  -m treino {arguments}
"""
KEYS = ("nodes", "gpus", "cpus", "time", "partition")


@dataclass(frozen=True)
class Job:
    """What is asked of Slurm: nodes; of each node GPUs (0: one process on the processors) and processors (0: as Slurm gives);
    the time limit and the partition, as Slurm writes them (empty: its own).
    """

    nodes: int
    gpus: int = 0
    cpus: int = 0
    time: str = ""
    partition: str = ""

    @property
    def ranks_per_node(self) -> int:
        return self.gpus or 1

    @property
    def ranks(self) -> int:
        """Processes of the whole training."""
        return self.nodes * self.ranks_per_node


def script(job: Job, name: str, arguments: Sequence[str], runs: Path) -> str:
    """The text of the script: `treino` with these arguments, from the folder where it is now."""
    wanted = {"gpus-per-node": job.gpus, "cpus-per-task": job.cpus, "time": job.time, "partition": job.partition}
    return SCRIPT.format(
        name="".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in name),
        nodes=job.nodes,
        resources="\n".join(f"#SBATCH --{key}={value}" for key, value in wanted.items() if value)
        or "#SBATCH --exclusive",
        folder=shlex.quote(str(Path.cwd())),
        runs=shlex.quote(str(runs.absolute())),
        python=shlex.quote(sys.executable),
        ranks=job.ranks_per_node,
        arguments=shlex.join(arguments),
    )


def submit(text: str) -> str:
    """Hand a script to sbatch; returns what it answers.

    Raises:
        UsageError: where there is no Slurm.
        MachineError: when Slurm refuses.
    """
    sbatch = shutil.which("sbatch")
    if not sbatch:
        raise UsageError(
            N_("there is no Slurm here: the command sbatch is missing"),
            fix=N_("print the script with --show, and submit it on the cluster"),
        )
    done = subprocess.run([sbatch], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(N_("Slurm refused the job: {reason}"), reason=done.stderr.strip() or str(done.returncode))
    return done.stdout.strip()


def parse(text: str) -> int | Job | Cluster:
    """`torchrun:2` is a number of processes on this machine, `slurm:nodes=2,gpus=8` a job, `ray:HOST:PORT` a cluster.

    Raises:
        UsageError: for anything else.
    """
    launcher, _, rest = text.partition(":")
    if launcher == "torchrun":
        return _whole(text, "torchrun", rest)
    if launcher == "slurm":
        return _job(text, rest)
    if launcher == "ray":
        return Cluster(f"ray:{rest}" if rest.startswith("//") else rest)
    raise UsageError(
        N_("--on {asked}: unknown launcher {launcher}"),
        fix=N_("known are torchrun:2, slurm:nodes=2,gpus=8 and ray:HOST:PORT"),
        asked=text,
        launcher=launcher or "-",
    )


def _job(text: str, rest: str) -> Job:
    given: dict[str, str] = {}
    for item in filter(None, rest.split(",")):
        key, _, value = item.partition("=")
        given[key] = value
    unknown = [key for key in given if key not in KEYS]
    if unknown or "nodes" not in given:
        raise UsageError(
            N_("--on {asked}: {key} is unknown") if unknown else N_("--on {asked}: the number of nodes is missing"),
            fix=N_("write slurm:nodes=2,gpus=8; known are {known}"),
            asked=text,
            key=", ".join(unknown),
            known=", ".join(KEYS),
        )
    words = {key: given.get(key, "") for key in ("time", "partition")}
    strange = [word for word in words.values() if not all(letter.isalnum() or letter in ":-_.," for letter in word)]
    if strange:
        raise UsageError(N_("--on {asked}: {word} cannot stand there"), asked=text, word=strange[0])
    numbers = {key: _whole(text, key, given[key], 1 if key == "nodes" else 0) for key in KEYS[:3] if key in given}
    return Job(numbers["nodes"], numbers.get("gpus", 0), numbers.get("cpus", 0), words["time"], words["partition"])


def _whole(text: str, key: str, value: str, least: int = 1) -> int:
    if not (value.isascii() and value.isdecimal() and int(value) >= least):
        raise UsageError(
            N_("--on {asked}: {key} needs a whole number of at least {least:raw}"),
            fix=N_("known are torchrun:2 and slurm:nodes=2,gpus=8"),
            asked=text,
            key=key,
            least=least,
        )
    return int(value)
