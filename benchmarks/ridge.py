"""The dual-form ridge against augmented least squares: seconds side by side, and their difference.

python benchmarks/ridge.py [--runs 7]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ristune.nearfield.recovery import ridge_factor, ridge_snapshots

B, L, M, N = 64, 16, 16, 144


def augmented(y: Tensor, h: Tensor, codes: Tensor, alpha: Tensor) -> Tensor:
    """The minimiser of `||y_l - Phi_l x||^2 + alpha ||x||^2` by least squares on stacked equations."""
    phi = h.unsqueeze(1) * codes.unsqueeze(1)
    eye = torch.eye(N, dtype=y.dtype).expand(B, L, N, N)
    stacked = torch.cat([phi, alpha.sqrt()[:, None, None, None] * eye], dim=2)
    target = torch.cat([y, y.new_zeros(B, L, N)], dim=2).unsqueeze(-1)
    return torch.linalg.lstsq(stacked, target).solution.squeeze(-1)


def seconds(function: Callable[[], Tensor]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _dual(y: Tensor, h: Tensor, codes: Tensor, alpha: Tensor) -> Tensor:
    return ridge_snapshots(y, h, codes, ridge_factor(h, codes, alpha, unit_modulus=True)[0])


def main() -> None:
    """Print medians, their ratio and the relative difference in FP32 and to FP64."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(B, M, N, dtype=torch.complex64, generator=generator)
    codes = torch.exp(1j * torch.pi / 4 * torch.randint(0, 8, (L, N), generator=generator))
    y = torch.randn(B, L, M, dtype=torch.complex64, generator=generator) * N**0.5
    alpha = torch.full((B,), 1.0)
    dual = partial(_dual, y, h, codes.expand(B, L, N), alpha)
    full = partial(augmented, y, h, codes, alpha)
    # Warm both up, then take turns, so that a busy machine slows both.
    found, expected = dual(), full()
    times = [(seconds(full), seconds(dual)) for _ in range(runs)]
    slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = [a / b for a, b in times]
    error = torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)
    print(f"B = {B}, L = {L}, M = {M}, N = {N}; {torch.get_num_threads()} threads, median of {runs} runs")
    print(f"augmented lstsq  {slow * 1e3:9.2f} ms")
    print(f"dual form        {fast * 1e3:9.2f} ms")
    print(f"ratio            {statistics.median(ratios):9.1f}   ({min(ratios):.1f} to {max(ratios):.1f})")
    print(f"relative difference {error:.1e}")


if __name__ == "__main__":
    main()
