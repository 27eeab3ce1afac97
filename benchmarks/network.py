"""What the near-field network costs: parameters, memory and milliseconds a scene, by its stages and width.

Memory is counted, not sampled: the bytes of the weights, and of the distinct tensors that autograd keeps of a
training step's forward pass, loss included. Milliseconds are of one thread, the fastest of some rounds, with
ridge recovery where the network starts from the snapshots.

python -m benchmarks.network [--scenes 64] [--rounds 5] [PATH=VALUE ...]
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ristune.config import compose
from ristune.data.opening import measured_stream, open_configured
from ristune.training.forward import forward, total_loss
from ristune.training.task import Task
from ristune.trial import build_task

CPU = torch.device("cpu")
# (width, blocks, stages) beside the configured one.
OTHERS = ((48, 2, 1), (48, 2, 2), (16, 1, 1), (96, 4, 4))


def main() -> None:
    """Print a row a network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=64, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    config = compose(arguments.overrides)
    dataset = open_configured(config.data, print)
    batch = next(measured_stream(config.data, dataset, "val", arguments.scenes, CPU).epoch(0))
    own = config.task["network"]
    print(f"batches of {arguments.scenes} scenes, one thread, the fastest of {arguments.rounds}")
    print(
        "| width | blocks | stages | parameters | weights [MiB] | kept a scene [MiB] | forward [ms a scene] |"
        " step [ms a scene] |"
    )
    for width, blocks, stages in ((own["width"], own["blocks"], own["stages"]), *OTHERS):
        values = {"width": width, "blocks": blocks, "stages": stages}
        task = build_task(config.with_values({f"task.network.{k}": v for k, v in values.items()}), dataset)
        row = _measure(task, batch, arguments.rounds)
        print(f"| {width} | {blocks} | {stages} | {row} |", flush=True)


def _measure(task: Task, batch: dict[str, Tensor], rounds: int) -> str:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def step() -> Tensor:
        output, prepared = forward(task, batch, "fp32", CPU, task.network)
        return total_loss(task.loss(output, prepared))

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = step()
    weights = sum(p.numel() * p.element_size() for p in task.network.parameters())
    own = {p.untyped_storage().data_ptr() for p in task.network.parameters()}
    held = sum(size for at, size in kept.items() if at not in own)
    del loss
    with torch.no_grad():
        ahead = _fastest(step, rounds)
    both = _fastest(lambda: step().backward(), rounds)
    scenes = len(batch["y"])
    parameters = sum(p.numel() for p in task.network.parameters())
    return (
        f"{parameters} | {weights / 2**20:.2f} | {held / 2**20 / scenes:.2f} | "
        f"{1e3 * ahead / scenes:.2f} | {1e3 * both / scenes:.2f}"
    )


def _fastest(function: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main()
