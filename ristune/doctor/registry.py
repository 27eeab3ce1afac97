"""All checks, in the order in which they are run."""

from ristune.doctor.check import Check
from ristune.doctor.consistency import same_code, saved_loaded
from ristune.doctor.data import dataset, splits
from ristune.doctor.environment import environment
from ristune.doctor.learning import gradients, loss_terms, parameters_change, predictions_vary, steps
from ristune.doctor.measure import objective
from ristune.doctor.minimum import truth
from ristune.doctor.overfitting import overfits
from ristune.doctor.searching import searched_values

CHECKS = (
    Check("environment", "torch has the device and the precision that are asked for", environment),
    Check("dataset", "a sample of row groups has its checksums and only finite values", dataset),
    Check("splits", "no row of one split is in another, by id and by content", splits),
    Check("steps", "every window of a short training is a step, none is skipped", steps),
    Check("parameters-change", "every trainable parameter is moved by it", parameters_change),
    Check("gradients", "every trainable parameter has a finite gradient that is not zero", gradients),
    Check("loss-terms", "every loss term is not always 0 and has a finite gradient", loss_terms),
    Check("truth", "every loss term is minimal where the output is exactly right", truth),
    Check("predictions-vary", "outputs differ from sample to sample", predictions_vary),
    Check("overfits", "a few samples can be learned, and by their inputs", overfits),
    Check("same-code", "training and validation prepare and predict alike", same_code),
    Check("saved-loaded", "a loaded checkpoint gives the metrics that were validated", saved_loaded),
    Check("searched-values", "every value of the space changes the trial", searched_values),
    Check("objective", "no searched value and no loss weight enters the objective", objective),
)
