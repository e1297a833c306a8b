"""Medical images made from code, with every factor known; see each module.

NumPy and SciPy only, but for `brain`, which takes its tissue maps from `nilearn` when it is used.
"""

from tfdisent.phantoms import abdomen, brain, cardiac, nodule, retina, skin

__all__ = ["abdomen", "brain", "cardiac", "nodule", "retina", "skin"]
