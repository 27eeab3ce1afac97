"""A made-up sweep as its events, for the tests of what is made from them."""

from typing import Any

from ristune.sweep.history import History

STARTED = {
    "event": "sweep_started",
    "time": 100.0,
    "name": "made-up",
    "directory": "runs/made-up",
    "requested": 6,
    "epochs": 9,
    "training_epochs": 9,
    "overrides": ["task=toy", "space=toy", "sweep.seed=3", "training.epochs=9", "data.uri=data/x"],
    "config_dirs": ["/somewhere/configs"],
    "command": "python -m ristune.sweep --trials 6",
    "source": {"task": {"name": "toy"}},
    "dataset_id": "0123",
    "resources": {"cores": 4, "gpus": 1, "concurrency": 2, "cpus": 2, "gpu": 0.5},
    "versions": {"ristune": "0"},
}


def asked(trial: str, time: float = 101.0, **values: Any) -> dict[str, Any]:
    return {"event": "asked", "time": time, "trial": trial, "values": values or {"optimizer.lr": 0.1}}


def started(trial: str, time: float = 102.0) -> dict[str, Any]:
    return {"event": "started", "time": time, "trial": trial}


def reported(trial: str, epoch: int, objective: float, best_epoch: int | None = None) -> dict[str, Any]:
    record = {
        "epoch": epoch,
        "objective": objective,
        "best_epoch": epoch if best_epoch is None else best_epoch,
        "seconds": 3600.0,
        "samples_per_second": 1000.0,
        "status": "running",
        "val/mse": objective,
    }
    return {"event": "reported", "time": 103.0, "trial": trial, "record": record}


def told(trial: str, state: str, time: float = 110.0, reason: str = "") -> dict[str, Any]:
    return {"event": "told", "time": time, "trial": trial, "state": state, "reason": reason}


def paused(trial: str, time: float = 110.0) -> dict[str, Any]:
    return {"event": "paused", "time": time, "trial": trial, "reason": "SIGINT"}


def retried(trial: str, time: float = 110.0, reason: str = "killed", counted: bool = True) -> dict[str, Any]:
    return {"event": "retried", "time": time, "trial": trial, "reason": reason, "counted": counted}


def decided(trial: str, rung: int, objective: float | None, decision: str = "continue") -> dict[str, Any]:
    return {
        **{"event": "decided", "time": 110.0, "trial": trial, "epoch": rung or 1, "rung": rung},
        **{"objective": objective, "cutoff": None, "decision": decision, "reason": ""},
    }


def resumed(time: float = 200.0, **more: Any) -> dict[str, Any]:
    return {"event": "sweep_resumed", "time": time, "requested": 6, **more}


def history(*events: dict[str, Any]) -> History:
    result = History()
    for event in (STARTED, *events):
        result.apply(event)
    return result


def mixed() -> History:
    """One trial of every end, and one that runs."""
    return history(
        *[asked(f"000{n}", **{"optimizer.lr": 0.1 * (n + 1), "task.width": 4}) for n in range(6)],
        *[started(f"000{n}") for n in range(6)],
        reported("0000", 1, 0.5),
        reported("0000", 2, 0.25),
        told("0000", "complete"),
        reported("0001", 1, 0.75),
        told("0001", "stopped", reason="above the cutoff"),
        reported("0002", 1, 1e6, best_epoch=0),
        told("0002", "diverged", reason="loss is nan"),
        reported("0003", 1, 0.125),
        told("0003", "failed", reason="RuntimeError: planted"),
        told("0004", "oom", reason="OutOfMemoryError"),
        reported("0005", 1, 0.5),
    )
