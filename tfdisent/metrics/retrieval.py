"""Image retrieval by distance of codes (Havaei et al., DRAI, Sec. III-C.5)."""

import numpy as np
from scipy.spatial.distance import cdist


def nearest(query_codes: np.ndarray, database_codes: np.ndarray, top: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Finds the `top` nearest database entries of each query by mean absolute error between codes.

    Args:
        query_codes: (Q, D).
        database_codes: (N, D) with N >= top.
        top: number of entries to return for each query.

    Returns:
        indices (Q, top) into the database, nearest first, ties by lower index; and distances (Q, top), float64.

    Raises:
        ValueError: shapes do not match, values are not finite, or top is not in [1, N].
    """
    database_codes = _codes("database_codes", database_codes)
    found = Nearest(query_codes, top)
    if not 1 <= top <= len(database_codes):
        raise ValueError(f"Expected top to lie in [1, {len(database_codes)}], the database's size, received {top}.")
    found.add(database_codes)
    return found.indices, found.distances


class Nearest:
    """The `top` nearest entries of a database that is searched block by block.

    Args:
        query_codes: (Q, D).
        top: number of entries to find for each query.

    Attributes:
        indices: (Q, top) into the blocks one after the other, nearest first, ties by lower index.
        distances: (Q, top) float64, mean absolute differences of codes; fewer columns while fewer were added.
    """

    def __init__(self, query_codes: np.ndarray, top: int = 3):
        self._codes, self._top, self._count = _codes("query_codes", query_codes), top, 0
        self.indices = np.zeros((len(self._codes), 0), int)
        self.distances = np.zeros((len(self._codes), 0))

    def add(self, database_codes: np.ndarray) -> None:
        """Searches a block (N, D). Raises ValueError for codes of another width or that are not finite."""
        database_codes = _codes("database_codes", database_codes)
        if self._codes.shape[1] != database_codes.shape[1]:
            raise ValueError(
                f"Expected query_codes and database_codes to have the same width, received shapes {self._codes.shape} "
                f"and {database_codes.shape}."
            )
        new = cdist(self._codes, database_codes, "cityblock") / self._codes.shape[1]
        numbers = np.broadcast_to(np.arange(self._count, self._count + len(database_codes)), new.shape)
        distances = np.concatenate([self.distances, new], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, : self._top]
        self.distances = np.take_along_axis(distances, order, axis=1)
        self.indices = np.take_along_axis(np.concatenate([self.indices, numbers], axis=1), order, axis=1)
        self._count += len(database_codes)


def disagreement_divergence(query_labels: np.ndarray, retrieved_labels: np.ndarray) -> float:
    """Returns the mean squared error between the attributes of queries and of the images retrieved for them.

    The mean is over attributes, retrieved images and queries, so it is in squared units of the attributes. (The paper's
    values, 1.4 to 3, exceed 1: its vectors hold more than zeros and ones, or it sums over attributes; it does not say
    which.)

    Args:
        query_labels: (Q, A) attribute vectors: the condition, and other attributes that are known (nodule size).
        retrieved_labels: (Q, top, A), `database_labels[indices]` with the indices of `nearest`.

    Raises:
        ValueError: shapes do not match.
    """
    query_labels, retrieved_labels = _labels(query_labels, retrieved_labels)
    return float(np.mean((retrieved_labels - query_labels[:, None]) ** 2))


def label_overlap(query_labels: np.ndarray, retrieved_labels: np.ndarray, database_labels: np.ndarray) -> float:
    """Returns the percentage, 0 to 100, of queries whose ground truth label is among those of the retrieved images.

    The ground truth of a query is the database image with the smallest disagreement divergence from it. Its label is
    found when a retrieved image has an attribute vector at that same smallest divergence, so that ties count as found.
    The paper's one sentence could also mean a share of attributes, but binary attributes would then agree by chance far
    more often than its 35 % for pixel matching.

    Args:
        query_labels: (Q, A) attribute vectors.
        retrieved_labels: (Q, top, A), `database_labels[indices]` with the indices of `nearest`.
        database_labels: (N, A), of all images that could have been retrieved.

    Raises:
        ValueError: shapes do not match.
    """
    query_labels, retrieved_labels = _labels(query_labels, retrieved_labels)
    database_labels = np.asarray(database_labels, dtype=np.float64)
    if database_labels.ndim != 2 or database_labels.shape[1] != query_labels.shape[1]:
        raise ValueError(
            f"Expected database_labels to be (N, {query_labels.shape[1]}), as wide as query_labels, received shape "
            f"{database_labels.shape}."
        )
    best = cdist(query_labels, database_labels, "sqeuclidean").min(axis=1)
    found = ((retrieved_labels - query_labels[:, None]) ** 2).sum(axis=-1).min(axis=1)
    return float(100.0 * np.mean(found <= best * (1 + 1e-9) + 1e-12))


def _codes(name: str, codes) -> np.ndarray:
    codes = np.asarray(codes, dtype=np.float64)
    if codes.ndim != 2 or codes.size == 0 or not np.isfinite(codes).all():
        raise ValueError(
            f"Expected {name} to be finite and (N, D), one code per row, received shape {codes.shape}, "
            f"{np.count_nonzero(~np.isfinite(codes))} values not finite."
        )
    return codes


def _labels(query_labels, retrieved_labels) -> tuple[np.ndarray, np.ndarray]:
    query_labels = np.asarray(query_labels, dtype=np.float64)
    retrieved_labels = np.asarray(retrieved_labels, dtype=np.float64)
    shape = retrieved_labels.shape
    if query_labels.ndim != 2 or len(shape) != 3 or (shape[0], shape[2]) != query_labels.shape:
        raise ValueError(
            f"Expected query_labels (Q, A) and retrieved_labels (Q, top, A), received shapes {query_labels.shape} and "
            f"{shape}."
        )
    return query_labels, retrieved_labels
