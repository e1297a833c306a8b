"""Whether synthetic images improve a classifier, the use that DRAI's paper names in Sec. V.

The same classifier is trained on four sets for the same number of steps, and tested on real images:

    real                  the real images, in which some classes are rare
    real_and_synthetic    with synthetic images of the rare classes added, until all classes have equal numbers
    real_and_repeated     with real images of the rare classes repeated instead, to equal numbers: the effect of balance
    synthetic_only        equal numbers of synthetic images of each class, and no real ones

In training every image is flipped and rotated at random, so repeated ones are seen in other positions. What synthetic
images add to the effect of balance is the difference between the second and the third.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfdisent.downstream.classifier import ImageClassifier
from tfdisent.evaluation.entries import entry
from tfdisent.examples import Examples
from tfdisent.report import Figure
from tfdisent.report.comparison_figures import bars

METHODS = ("real", "real_and_synthetic", "real_and_repeated", "synthetic_only")
BATCH_SIZE = 64
EPOCHS, MAX_STEPS = 10, 3000  # passes through the largest set, and their bound


def compare(
    train: Examples,
    synthetic: Examples,
    test: Examples,
    label_names: Sequence[str],
    *,
    per_class: int | None = None,
    kind: str = "convnet",
    seeds: Sequence[int] = (0, 1, 2),
    steps: int | None = None,
    log: Callable[[str], None] = lambda message: None,
) -> tuple[dict, list[Figure]]:
    """Trains classifiers on real, balanced and synthetic images and tests them on real images.

    A class without a real training image is left out, also of the test images.

    Args:
        train, test: real images: image (N, H, W, C) in [-1, 1], label.
        synthetic: generated images, with the same columns; the first of each class are added to the real ones.
        label_names: the classes, in order of their labels.
        per_class: images of each class after balancing; a class that has more keeps them. Default: as many as the most
            frequent class has.
        kind: of the classifier, see `ImageClassifier`.
        seeds: of the classifier's weights and of the order of its images; the spread is over them.
        steps: of training, of 64 images each; default: 10 passes through the largest set, at most 3000.
        log: is told what is done.

    Returns:
        ({name: entry}, figures), entries as in metrics.json with "per_seed": accuracy, balanced accuracy, macro AUC and
        each class's recall by method, and the balanced accuracy that synthetic images add to that of real and of
        repeated ones, seed by seed.

    Raises:
        ValueError: there is no test image, there are fewer than two classes to train on or too few synthetic images of
            a class, or a seed is given twice.
    """
    seeds = list(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"Expected one or more different seeds, received {seeds}.")
    known, names, left_out = _of_known_classes(train, synthetic, test, label_names)
    (real, real_labels), (made, made_labels), (tested, test_labels) = known
    together = Examples.joined(train, synthetic)
    rows, every_label = np.concatenate([real, len(train) + made]), np.concatenate([real_labels, made_labels])
    sets = training_sets(real_labels, made_labels, names, per_class)
    if steps is None:
        largest = max(map(len, sets.values()))
        steps = min(MAX_STEPS, EPOCHS * -(-largest // BATCH_SIZE))

    scores: dict[str, list[dict]] = {method: [] for method in METHODS}
    for method, chosen in sets.items():
        for seed in seeds:
            log(f"training a classifier on {method.replace('_', ' ')} images, seed {seed}")
            classifier = ImageClassifier(len(names), train.image_shape, kind=kind, seed=seed)
            shown = together.select(rows[chosen])
            classifier.fit(shown, every_label[chosen], steps=steps, batch_size=BATCH_SIZE, seed=seed)
            logits = classifier.logits(test.select(tested))
            scores[method].append(classification_scores(logits, test_labels, names))

    how = (
        f"{steps} steps of {BATCH_SIZE} images for every set, flipped and turned at random, some blurred, some noisy; "
        f"tested on real images; mean and standard deviation over classifier seeds {', '.join(map(str, seeds))} of one "
        "generator" + left_out
    )
    results = {}
    for metric in scores[METHODS[0]][0]:
        count = len(test_labels)
        if metric.startswith("recall_"):
            count = int((test_labels == names.index(metric.removeprefix("recall_"))).sum())
        for method in METHODS:
            what = f"trained on {_numbers(every_label[sets[method]], names)} ({method.replace('_', ' ')} images), {how}"
            values = [score[metric] for score in scores[method]]
            results[f"{metric}_{method}"] = _over_seeds(values, count, what, classifier.description)
    for method in ("real", "real_and_repeated"):
        gains = [
            ours["balanced_accuracy"] - theirs["balanced_accuracy"]
            for ours, theirs in zip(scores["real_and_synthetic"], scores[method], strict=True)
        ]
        results[f"gain_over_{method}"] = _over_seeds(
            gains,
            len(test_labels),
            f"balanced accuracy of real and synthetic less that of {method.replace('_', ' ')} images, seed by seed; "
            + how,
            classifier.description,
        )
    return results, [_figure(results, names)]


def training_sets(
    real: np.ndarray, synthetic: np.ndarray, names: Sequence[str], per_class: int | None = None
) -> dict[str, np.ndarray]:
    """The four sets to train on, as the module's docstring describes them.

    Args:
        real, synthetic: labels (N,) and (S,) of the images; each class has a real one.
        names: the classes.
        per_class: images of each class after balancing; default: as many as the most frequent class has.

    Returns:
        {method: indices into the real images followed by the synthetic ones}.

    Raises:
        ValueError: too few synthetic images of a class.
    """
    counts = np.bincount(real, minlength=len(names))
    per_class = int(counts.max()) if per_class is None else per_class
    added, repeated, alone = [], [], []
    for k, name in enumerate(names):
        missing = max(0, per_class - counts[k])
        rows = len(real) + np.flatnonzero(synthetic == k)
        if len(rows) < max(1, missing):
            raise ValueError(
                f"Expected at least {max(1, missing)} synthetic images of class {name}, to reach {per_class} in all; "
                f"received {len(rows)}. Generate more, or lower per_class."
            )
        added.append(rows[:missing])
        repeated.append(np.resize(np.flatnonzero(real == k), missing))
        alone.append(rows[:per_class])
    everything = np.arange(len(real))
    return {
        "real": everything,
        "real_and_synthetic": np.concatenate([everything, *added]),
        "real_and_repeated": np.concatenate([everything, *repeated]),
        "synthetic_only": np.concatenate(alone),
    }


def classification_scores(logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro AUC and `recall_<class>` of each class.

    Balanced accuracy and AUC (each class against the others) are means over the classes that occur in `labels`; the
    recall of a class that does not occur is NaN.

    Args:
        logits: (N, K).
        labels: (N,) integers in [0, K).
        names: the K classes.
    """
    from sklearn.metrics import roc_auc_score  # takes a second to import

    hits = logits.argmax(axis=1) == labels
    recalls = np.full(len(names), np.nan)
    areas = np.full(len(names), np.nan)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    for k in np.unique(labels):
        own = labels == k
        recalls[k] = hits[own].mean()
        if not own.all():
            areas[k] = roc_auc_score(own, probabilities[:, k])
    return {
        "accuracy": float(hits.mean()),
        "balanced_accuracy": float(np.nanmean(recalls)),
        "macro_auc": float(np.nanmean(areas)) if np.isfinite(areas).any() else np.nan,
    } | {f"recall_{name}": float(recall) for name, recall in zip(names, recalls, strict=True)}


def headline(metrics: Mapping[str, Mapping]) -> str:
    """The result in words, from the metrics of `compare`."""
    shown = [f"{method.replace('_', ' ')} {_words(metrics[f'balanced_accuracy_{method}'])}" for method in METHODS]
    lines = [f"Balanced accuracy on real test images, by training images: {'; '.join(shown)}."]
    for method in ("real", "real_and_repeated"):
        gain = metrics[f"gain_over_{method}"]
        value, std = gain["value"], gain["std"]
        if std is None:
            verdict = "one seed does not tell whether that is chance"
        elif abs(value) > 2 * std:
            verdict = "more than twice its spread over seeds"
        else:
            verdict = "within twice its spread over seeds: no clear difference"
        lines.append(
            f"Real and synthetic against {method.replace('_', ' ')} images: {value:+.3f}"
            + ("" if std is None else f" ± {std:.3f}")
            + f", {verdict}."
        )
    return "\n".join(lines)


def _of_known_classes(train: Examples, synthetic: Examples, test: Examples, label_names):
    """Rows and new labels of the images of classes with real training images, their names, and a note of the others."""
    if not len(test):
        raise ValueError("Expected real images to test on, received none: the test split is empty.")
    present = np.unique(train["label"])
    if len(present) < 2:
        found = ", ".join(label_names[k] for k in present) or "none"
        raise ValueError(
            f"Expected training images of at least two classes to tell apart, received images of: {found}."
        )
    known = []
    for part in (train, synthetic, test):
        rows = np.flatnonzero(np.isin(part["label"], present))
        known.append((rows, np.searchsorted(present, part["label"][rows]).astype("int32")))
    if not len(known[2][0]):
        raise ValueError("Expected test images of the classes that have training images, received none.")
    missing = [name for k, name in enumerate(label_names) if k not in present]
    note = f"; left out, being without training images: {', '.join(missing)}" if missing else ""
    return known, [label_names[k] for k in present], note


def _over_seeds(values: list[float], count: int, protocol: str, extractor: str) -> dict:
    """An entry of metrics.json with the mean, the sample standard deviation and each seed's value."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    reason = "" if count else "the test split has no image of this class"
    result = entry(np.mean(values), count, protocol, extractor, std, reason)
    return result | {"per_seed": [float(value) if np.isfinite(value) else None for value in values]}


def _numbers(labels: np.ndarray, names: Sequence[str]) -> str:
    counts = np.bincount(labels, minlength=len(names))
    return ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))


def _words(result: Mapping) -> str:
    std = "" if result["std"] is None else f" ± {result['std']:.3f}"
    return f"{result['value']:.3f}{std}"


def _figure(results: dict, names: Sequence[str]) -> Figure:
    metrics = ["balanced_accuracy", *(f"recall_{name}" for name in names)]

    def table(field: str) -> np.ndarray:
        return np.array([[results[f"{metric}_{m}"][field] for metric in metrics] for m in METHODS], float)

    return Figure(
        "A classifier trained on real and on synthetic images",
        "Balanced accuracy, and the share of each class's real test images that the classifier recognises; mean and "
        "standard deviation over classifier seeds. Synthetic images help where the second bar is higher than the "
        "third, which stands for real images repeated to the same numbers. The last bar shows how much of a class can "
        "be learned from synthetic images alone.",
        bars(
            [method.replace("_", " ") for method in METHODS],
            table("value"),
            table("std"),
            groups=["balanced accuracy", *(f"recall of {name}" for name in names)],
            axis="on real test images",
        ),
        "paper Sec. V",
    )
