"""Medical images made from code, with every factor known. NumPy only; see each module."""

from tfdisent.phantoms import skin

__all__ = ["skin"]
