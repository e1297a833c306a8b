"""Training: the adversarial engine, checkpoints, averaged weights, callbacks and devices."""

from tfdisent.training.adversarial import AdversarialModel, Phase
from tfdisent.training.averaging import ExponentialMovingAverage, StochasticWeightAveraging
from tfdisent.training.checkpoint import Checkpoints
from tfdisent.training.system import System

__all__ = [
    "AdversarialModel",
    "Checkpoints",
    "ExponentialMovingAverage",
    "Phase",
    "StochasticWeightAveraging",
    "System",
]
