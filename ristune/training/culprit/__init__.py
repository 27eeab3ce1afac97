"""Names the cause of a training window whose loss or gradient is not finite."""

from ristune.training.culprit.finding import Finding
from ristune.training.culprit.investigation import investigate

__all__ = ["Finding", "investigate"]
