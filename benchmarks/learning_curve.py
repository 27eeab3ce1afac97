"""A training's learning curve as a picture.

python benchmarks/learning_curve.py runs/NAME docs/benchmarks/learning-curve.png
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LINES = {
    "val/nmse_floor": ("R = I (floor)", "0.6", ":"),
    "val/nmse_constant": ("best constant", "0.6", "--"),
    "train/nmse_pred": ("R_pred, training", "C0", "--"),
    "val/nmse_pred": ("R_pred, validation", "C0", "-"),
    "val/nmse_blend": ("R_blend, validation", "C1", "-"),
}


def main(run: Path, picture: Path) -> None:
    """Draw the covariance errors against wall time."""
    rows = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    minutes = [sum(row["seconds"] for row in rows[: k + 1]) / 60 for k in range(len(rows))]
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, (label, colour, style) in LINES.items():
        axes.plot(minutes, [row[name] for row in rows], style, color=colour, label=label, marker=".")
    axes.set(
        xlabel="training and validation [minutes]", ylabel="covariance NMSE", ylim=(0, 1.05), xlim=(0, None)
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="center right")
    figure.savefig(picture, dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
