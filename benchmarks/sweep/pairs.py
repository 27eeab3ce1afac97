"""What paired searches say: a row a method, and who wins against whom by Wilcoxon's signed-rank test.

A pair is two methods on the same seed: the same split of the images, the same weights to begin with and
order of samples, the same training time. What is compared is the negative log-likelihood of the network
that a method would return, the best one by validation: on validation, which is what is minimised and
flatters whoever looks more often, and on the test split at the same epoch, which flatters nobody. 500 and
697 images are few, and both are noisy; the noise is that of the same images for both of a pair, and
averages over the splits of the seeds. The share of wrong digits moves in steps of 0.14 %, and is shown
only. No p is corrected for the number of comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

Search = dict[str, Any]
HALF, FULL = 0.5, 1.0


@dataclass(frozen=True)
class Comparison:
    """One method beside another over pairs.

    Attributes:
        wins: pairs in which it has the lower score.
        losses: pairs in which it has the higher.
        p: two-sided, of Wilcoxon's signed-rank test; 1 where no pair differs.
        effect: matched-pairs rank-biserial correlation: 1 where it wins every pair, -1 where it loses them.
        gap: median of its score less the other's.
    """

    wins: int
    losses: int
    p: float
    effect: float
    gap: float


def compare(own: NDArray[np.float64], other: NDArray[np.float64]) -> Comparison:
    """Compare paired scores, the lower being the better."""
    gaps = own - other
    moved = gaps[gaps != 0]
    if not len(moved):
        return Comparison(0, 0, 1.0, 0.0, 0.0)
    ranks = rankdata(np.abs(moved))
    effect = float(ranks[moved < 0].sum() - ranks[moved > 0].sum()) / float(ranks.sum())
    return Comparison(
        int((moved < 0).sum()),
        int((moved > 0).sum()),
        float(wilcoxon(gaps).pvalue),
        effect,
        float(np.median(gaps)),
    )


def found(search: Search, score: str, share: float) -> float:
    """A score of what a search would have returned after a share of its time; infinite before any epoch."""
    limit = share * search["settings"]["budget"]
    entries = [entry[score] for entry in search["path"] if entry["spent"] <= limit]
    return float(entries[-1]) if entries else float("inf")


def report(searches: Sequence[Search], baselines: Sequence[str]) -> str:
    """Markdown tables of all methods over the seeds that every one of them has.

    Args:
        searches: of one comparison; those of other seeds are left out.
        baselines: methods that all others are held against, as far as they are there.
    """
    methods = list(dict.fromkeys(search["method"] for search in searches))
    by_pair = {(search["method"], search["seed"]): search for search in searches}
    seeds = sorted({seed for _, seed in by_pair if all((method, seed) in by_pair for method in methods)})
    if not seeds:
        return "no seed has been searched by every method\n"
    rows = {method: [by_pair[method, seed] for seed in seeds] for method in methods}
    settings = searches[0]["settings"]
    parts = [
        f"{len(seeds)} seeds, {settings['budget']:g} s of training a search, {settings['workers']} workers, "
        f"{settings['epochs']} epochs a whole training.\n",
        _summary(rows),
    ]
    for score, share in (("test", FULL), ("val", FULL), ("test", HALF), ("val", HALF)):
        held = [method for method in baselines if method in methods]
        parts.append(_comparisons(rows, held, score, share))
    return "\n".join(parts)


def _summary(rows: dict[str, list[Search]]) -> str:
    def of(searches: list[Search], score: str, share: float) -> str:
        scores = [found(search, score, share) for search in searches]
        return f"{np.median(scores):.4f} ({np.mean(scores):.4f})"

    head = (
        "| method | val | test | test error | val at half | test at half | trials | whole | epochs | asking |"
    )
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for method, searches in rows.items():
        errors = np.mean([found(search, "test_error", FULL) for search in searches])
        counts = " | ".join(
            f"{np.mean([search[name] for search in searches]):.0f}"
            for name in ("trials", "complete", "epochs")
        )
        asking = np.mean([1000 * search["asking"] / search["trials"] for search in searches])
        scores = [of(searches, "val", FULL), of(searches, "test", FULL), f"{100 * errors:.2f} %"]
        halves = [of(searches, "val", HALF), of(searches, "test", HALF)]
        lines.append(f"| {method} | {' | '.join([*scores, *halves])} | {counts} | {asking:.0f} ms |")
    note = (
        "\nMedian (mean) over the seeds of the negative log-likelihood of the best by validation; means of "
        "the rest. Asking is by the wall, a trial.\n"
    )
    return "\n".join(lines) + "\n" + note


def _comparisons(rows: dict[str, list[Search]], baselines: list[str], score: str, share: float) -> str:
    scores = {name: np.array([found(search, score, share) for search in own]) for name, own in rows.items()}
    when = "after the whole time" if share == FULL else "at half of the time"
    lines = [
        f"By {score}, {when}: wins - losses, p, rank-biserial correlation, median difference.\n",
        f"| method | {' | '.join(f'against {baseline}' for baseline in baselines)} |",
        "|---|" + "---|" * len(baselines),
    ]
    for method, own in scores.items():
        cells = [_cell(own, scores[baseline]) if baseline != method else "" for baseline in baselines]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(own: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    result = compare(own, other)
    return f"{result.wins} - {result.losses}, p {result.p:.2g}, {result.effect:+.2f}, {result.gap:+.4f}"
