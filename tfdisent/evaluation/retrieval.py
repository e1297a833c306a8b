"""Retrieval by content, by style and by pixels: Sec. III-C.5 and III-E.3, Table IV and Fig. 14, 15 of DRAI's paper."""

from typing import NamedTuple

import numpy as np

from tfdisent import metrics as measure
from tfdisent.evaluation.entries import entry
from tfdisent.report import Figure, figures

TOP = 3  # of the paper
MAX_QUERIES = 1000


class Search(NamedTuple):
    """Queries, and the images that are searched.

    Attributes:
        queries, database: arrays as from `tfdisent.data.as_arrays`.
        source: what searches what, in words.
    """

    queries: dict
    database: dict
    source: str


def search_of(test: dict, query: dict | None) -> Search:
    """The search of the paper: each image of the query split is searched for in the test split.

    Without a query split, one half of the test split is searched for in the other. The halves are every other image, so
    that they are the same for every model.
    """
    if query is not None and len(query["image"]):
        queries = {name: values[:MAX_QUERIES] for name, values in query.items()}
        return Search(queries, test, "the query split searches the test split")
    halves = [{name: values[k::2] for name, values in test.items()} for k in (0, 1)]
    queries = {name: values[:MAX_QUERIES] for name, values in halves[0].items()}
    empty = "the query split is empty: " if query is not None else ""
    return Search(queries, halves[1], f"{empty}one half of the test split searches the other")


def attributes(arrays: dict) -> tuple[np.ndarray, str]:
    """Attribute vectors (N, K + 1), condition and size of the lesion, or (N, K) without a known size; and their name.

    The size is the recorded diameter, or the diameter in pixels of a disc as large as the mask.
    """
    condition = np.asarray(arrays["condition"], np.float64)
    if "diameter" in arrays:
        size, unit = np.asarray(arrays["diameter"], np.float64), "mm"
    elif "mask" in arrays:
        area = np.count_nonzero(arrays["mask"], axis=tuple(range(1, np.ndim(arrays["mask"]))))
        size, unit = 2 * np.sqrt(area / np.pi), "pixels"
    else:
        return condition, "condition"
    return np.column_stack([condition, size.reshape(len(condition))]), f"condition and size in {unit}"


def nearest_images(search: Search, codes: dict, database_codes: dict) -> dict[str, np.ndarray]:
    """Indices (Q, TOP) into the database of the images nearest to each query, by each code and by pixels.

    Empty where there is no query, or where the database has fewer than TOP images.
    """
    if not len(search.queries["image"]) or len(search.database["image"]) < TOP:
        return {}
    flat = [np.asarray(part["image"]).reshape(len(part["image"]), -1) for part in (search.queries, search.database)]
    found = {"pixels": measure.nearest(*flat, top=TOP)[0]}
    for name in codes:
        found[name] = measure.nearest(codes[name], database_codes[name], top=TOP)[0]
    return found


def target_images(search: Search) -> np.ndarray:
    """Indices (Q,) of the paper's "target": the image of the database with the smallest disagreement divergence."""
    queries, _ = attributes(search.queries)
    database, _ = attributes(search.database)
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
        counts = len(search.queries["image"]), len(search.database["image"])
        reason = f"{counts[0]} queries and {counts[1]} images to search; it takes 1 and {TOP}"
        missing = entry(None, counts[0], search.source, reason=reason)
        return {"disagreement_divergence": missing, "label_overlap": missing}
    queries, what = attributes(search.queries)
    database, _ = attributes(search.database)
    conditions = [np.asarray(part["condition"]) for part in (search.queries, search.database)]
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
    order = np.random.default_rng(0).permutation(len(search.queries["image"]))
    _, first = np.unique(search.queries["label"][order], return_index=True)
    rows = list(dict.fromkeys([*order[first], *order]))[:shown]
    queries, database = search.queries["image"][rows], search.database["image"]
    neighbours = {name: database[indices[rows]] for name, indices in found.items()}
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
    targets = database[target_images(search)[rows]]
    references = Figure(
        "Retrieval",
        "The same query images; then the target, the test image whose class and lesion size are most similar; then the "
        "test images with the most similar pixels, which tend to share position and surroundings.",
        figures.columns_grid({"query": queries, "target": targets, "by pixels": neighbours["pixels"]}),
        "paper Fig. 14, 15",
    )
    return [codes, references]
