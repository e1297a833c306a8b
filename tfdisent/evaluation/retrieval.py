"""Retrieval by content, by style and by pixels: Sec. III-C.5 and III-E.3, Table IV and Fig. 14, 15 of DRAI's paper."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfdisent import metrics as measure
from tfdisent.evaluation.arrays import in_batches
from tfdisent.evaluation.entries import entry
from tfdisent.examples import Examples
from tfdisent.report import Figure, figures

TOP = 3  # of the paper
MAX_QUERIES = 1000


class Search(NamedTuple):
    """Queries, and the images that are searched: some rows of two splits, or of one.

    Attributes:
        queries, database: the splits.
        query_rows, database_rows: which of their images.
        source: what searches what, in words.
    """

    queries: Examples
    database: Examples
    query_rows: np.ndarray
    database_rows: np.ndarray
    source: str


def search_of(test: Examples, query: Examples | None) -> Search:
    """The search of the paper: each image of the query split is searched for in the test split.

    Without a query split, one half of the test split is searched for in the other. The halves are every other image, so
    that they are the same for every model.
    """
    if query is not None and len(query):
        rows = np.arange(len(query))[: _most(query)]
        return Search(query, test, rows, np.arange(len(test)), "the query split searches the test split")
    halves = [np.arange(len(test))[k::2] for k in (0, 1)]
    empty = "the query split is empty: " if query is not None else ""
    source = f"{empty}one half of the test split searches the other"
    return Search(test, test, halves[0][: _most(test)], halves[1], source)


def _most(queries: Examples) -> int:
    """How many queries are made, as their images are held."""
    return min(MAX_QUERIES, queries.holdable(("image",))) if len(queries) else 0


def attributes(examples: Examples, rows: np.ndarray) -> tuple[np.ndarray, str]:
    """Attribute vectors (N, K + 1), condition and size of the lesion, or (N, K) without a known size; and their name.

    The size is the recorded diameter, or the diameter in pixels of a disc as large as the mask.
    """
    condition = np.asarray(examples["condition"][rows], np.float64)
    if "diameter" in examples.names:
        size, unit = np.asarray(examples["diameter"][rows], np.float64), "mm"
    elif "mask" in examples.names:
        masks = (batch["mask"] for batch in examples.batches(rows))
        area = np.concatenate([np.count_nonzero(mask, axis=tuple(range(1, np.ndim(mask)))) for mask in masks])
        size, unit = 2 * np.sqrt(area / np.pi), "pixels"
    else:
        return condition, "condition"
    return np.column_stack([condition, size.reshape(len(condition))]), f"condition and size in {unit}"


def nearest_images(search: Search, encode: Callable[[np.ndarray], dict]) -> dict[str, np.ndarray]:
    """Indices (Q, TOP) into the database's rows of the images nearest to each query, by each code and by pixels.

    Empty where there is no query, or where the database has fewer than TOP images.

    Args:
        search: what is searched.
        encode: images -> {code: (B, D)}.
    """
    if not len(search.query_rows) or len(search.database_rows) < TOP:
        return {}
    queries = search.queries.take(search.query_rows, ("image",))["image"]
    codes = in_batches(encode, queries)
    searched = {name: measure.Nearest(values, TOP) for name, values in codes.items()}
    pixels = measure.Nearest(queries.reshape(len(queries), -1), TOP)
    for batch in search.database.batches(search.database_rows):
        for name, values in in_batches(encode, batch["image"]).items():
            searched[name].add(values)
        pixels.add(batch["image"].reshape(len(batch["image"]), -1))
    return {"pixels": pixels.indices} | {name: found.indices for name, found in searched.items()}


def target_images(search: Search) -> np.ndarray:
    """Indices (Q,) of the paper's "target": the image of the database with the smallest disagreement divergence."""
    queries, _ = attributes(search.queries, search.query_rows)
    database, _ = attributes(search.database, search.database_rows)
    return np.array([np.argmin(((database - query) ** 2).mean(axis=1)) for query in queries], int)


def retrieval_metrics(search: Search, found: dict[str, np.ndarray]) -> dict:
    """Disagreement divergence and label overlap of what was found (Table IV), as entries of metrics.json.

    The plain names are of content, as in the paper, or of style where a model infers no content; `_style` and `_pixels`
    stand for the search by those. Protocols also say what random images score.

    Args:
        search: what was searched.
        found: as from `nearest_images`.
    """
    if not found:
        counts = len(search.query_rows), len(search.database_rows)
        reason = f"{counts[0]} queries and {counts[1]} images to search; it takes 1 and {TOP}"
        missing = entry(None, counts[0], search.source, reason=reason)
        return {"disagreement_divergence": missing, "label_overlap": missing}
    queries, what = attributes(search.queries, search.query_rows)
    database, _ = attributes(search.database, search.database_rows)
    conditions = [search.queries["condition"][search.query_rows], search.database["condition"][search.database_rows]]
    random = np.random.default_rng(0).integers(len(database), size=(len(queries), TOP))
    main = "content" if "content" in found else "style"

    def scores(indices):
        return (
            measure.disagreement_divergence(queries, database[indices]),
            measure.label_overlap(conditions[0], conditions[1][indices], conditions[1]),
        )

    chance = scores(random)
    results = {}
    for name in (main, *sorted(found.keys() - {main})):
        by = "pixels, mean absolute error" if name == "pixels" else f"{name} code, mean absolute error"
        protocol = f"{search.source}; top {TOP} by {by}"
        suffix = "" if name == main else f"_{name}"
        divergence, overlap = scores(found[name])
        results[f"disagreement_divergence{suffix}"] = entry(
            divergence,
            len(queries),
            f"{protocol}; mean squared error of {what}; random images give {chance[0]:.3g}",
        )
        results[f"label_overlap{suffix}"] = entry(
            overlap,
            len(queries),
            f"{protocol}; percentage of queries for which an image with the best matching condition was found; random "
            f"images give {chance[1]:.3g}",
        )
    return results


def retrieval_figures(search: Search, found: dict[str, np.ndarray], shown: int = 3) -> list[Figure]:
    """What was found for a few queries, of different classes where the data have several; and the best there was."""
    if not found:
        return []
    order = np.random.default_rng(0).permutation(len(search.query_rows))
    labels = search.queries.get("label", np.zeros(len(search.queries), int))[search.query_rows]
    _, first = np.unique(labels[order], return_index=True)
    rows = list(dict.fromkeys([*order[first], *order]))[:shown]
    queries = search.queries.take(search.query_rows[rows], ("image",))["image"]
    wanted = {name: indices[rows] for name, indices in found.items()} | {"target": target_images(search)[rows]}
    every = np.concatenate([indices.ravel() for indices in wanted.values()])
    images = search.database.take(search.database_rows[every], ("image",))["image"]
    ends = np.cumsum([indices.size for indices in wanted.values()])
    neighbours = {
        name: part.reshape(*indices.shape, *images.shape[1:])
        for (name, indices), part in zip(wanted.items(), np.split(images, ends[:-1]), strict=True)
    }
    if "content" in found:
        codes = Figure(
            "Retrieval",
            "The query image at the top left, to its right the test images with the most similar style codes, below it "
            "those with the most similar content codes.",
            figures.retrieval_grid(queries, neighbours["style"], neighbours["content"]),
            "paper Fig. 14, 15",
        )
    else:
        codes = Figure(
            "Retrieval",
            "The query image at the left, then the test images with the most similar style codes. This model has no "
            "content code.",
            figures.columns_grid({"query": queries, "by style": neighbours["style"]}),
            "paper Fig. 14, 15",
        )
    targets = neighbours["target"]
    references = Figure(
        "Retrieval",
        "The same query images; then the target, the test image whose class and lesion size are most similar; then the "
        "test images with the most similar pixels, which tend to share position and surroundings.",
        figures.columns_grid({"query": queries, "target": targets, "by pixels": neighbours["pixels"]}),
        "paper Fig. 14, 15",
    )
    return [codes, references]
