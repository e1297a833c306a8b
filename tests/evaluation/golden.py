"""What golden evaluations share: a model whose averaged weights alone are right, and images however they are given."""

import contextlib

import numpy as np


class Averaging:
    """A model that knows the right answers inside `averaged()`, as if its live weights were no good."""

    right = False

    @contextlib.contextmanager
    def averaged(self):
        self.right = True
        try:
            yield
        finally:
            self.right = False

    def answered(self, values):
        """The values, or outside of `averaged()` as many zeros."""
        return values if self.right else np.zeros_like(values)


def images_of(images, column: str = "image") -> np.ndarray:
    """The images, or another column, of arrays or of a `tfdisent.examples.Selection`."""
    if not hasattr(images, "batches"):
        return np.asarray(images)
    parts = list(images.batches())
    order = np.argsort(np.concatenate([items for items, _ in parts]))
    return np.concatenate([columns[column] for _, columns in parts])[order]
