"""The process of one code: reads requests from standard input, one JSON object per line, and answers each by one.

Started by the benchmark scripts with the interpreter of the code's environment, which needs nothing but the code:
``python run.py mace``. What the code prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path[0] = str(BENCHMARKS)  # instead of this folder


class Session:
    """What a worker holds: models, structures and how often each was called."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.module = None
        self.atoms: dict[str, tuple] = {}
        self.steps: dict[str, object] = {}

    def start(self, threads: int) -> dict:
        """Import the code."""
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.module = importlib.import_module(f"peer_workers.{self.code}_worker")
        return {"torch": torch.__version__, "threads": torch.get_num_threads(), **self.module.about()}

    def load(self, key: str, system: str, **model: object) -> dict:
        """Attach a calculator to a structure, make one call, and report what is computed."""
        from harness.structures import SYSTEMS

        atoms = SYSTEMS[system]()
        atoms.calc, facts = self.module.calculator(**model)
        self.atoms[key] = (atoms, atoms.positions.copy(), [0])
        for _ in range(3):  # the first calls compile, allocate and tune
            self.call(key)
        results = atoms.calc.results
        wanted = {"energy", "forces"} | ({"stress"} if atoms.pbc.all() else set())
        missing = wanted - set(results)
        if missing:
            raise RuntimeError(f"no {', '.join(sorted(missing))} computed")
        force = float(abs(results["forces"]).max())
        if not force < 1e30 or force == 0.0:
            raise RuntimeError(f"the largest force is {force}: not a computation")
        return {**facts, "largest_force": force, "computed": sorted(wanted)}

    def call(self, key: str) -> dict:
        """Move the atoms and time energy, forces and (if periodic) stress."""
        from harness.structures import moved
        from harness.turns import timed

        atoms, start, count = self.atoms[key]
        count[0] += 1
        atoms.positions = moved(start, atoms.cell.array, count[0])
        periodic = atoms.pbc.all()

        def evaluate() -> None:
            atoms.get_potential_energy()
            atoms.get_forces()
            if periodic:
                atoms.get_stress()

        return timed(evaluate)

    def load_training(self, key: str, **settings: object) -> dict:
        """Make a model, an optimiser and a batch; take some steps."""
        self.steps[key], facts = self.module.training_step(**settings)
        for _ in range(3):
            self.steps[key]()
        return facts

    def step(self, key: str) -> dict:
        """Time one training step."""
        from harness.turns import timed

        return timed(self.steps[key])


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the code prints must not be taken for an answer
    session = Session(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        started = time.time()
        try:
            answer = getattr(session, request.pop("do"))(**request)
        except Exception as error:
            traceback.print_exc()
            text = " ".join(str(error).split())
            answer = {"error": f"{type(error).__name__}: {text[:300]}"}
        answer.setdefault("answered_after", time.time() - started)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
