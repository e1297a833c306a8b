"""DRAI's evaluation: Sec. III-C to III-G of the paper, and the truth where a phantom tells it.

Generation: Fréchet distance (FID), kernel distance (KID) and Inception score (IS) on features of a classifier trained
on the data set, and conditional generation accuracy (CGAcc), the share of images that it finds to be of their class.
Beside them maximum mean discrepancy, density and coverage; `tfdisent.metrics.generative` says what each is for. Beside
each distance its floor, that of real training images in the place of generated ones.
Disentanglement: cross-image feature consistency (CIFC, Eq. 19). On a phantom also, with judges trained on its real
images: whether a hybrid has the class of its content image, whether its lesion is where the style image has it, and
which factor can be read linearly from which code. Everything is measured with the averaged weights, on the test split.

Baselines are measured alike. A model that infers style alone decodes it with a condition in the place of content; what
is not defined then is left out, and `evaluate`'s log and the headline say so.
"""

import copy
import itertools
import os
import pathlib
import warnings
import zlib
from collections.abc import Callable, Iterator

import keras
import numpy as np

from tfdisent import metrics as measure
from tfdisent.downstream.judge import fit_classifier, fit_position_regressor
from tfdisent.evaluation import retrieval
from tfdisent.evaluation.arrays import in_batches
from tfdisent.evaluation.entries import Results, entry, value_of, values_of
from tfdisent.evaluation.protocol import Evaluation
from tfdisent.examples import LARGEST_BATCH, Examples, evenly, together
from tfdisent.report import Figure, figures
from tfdisent.systems.drai import ContentStyleModel

POSITION = ("position_x", "position_y")  # of a phantom's lesion
MEMORISATION_SAMPLES = 1000  # generated, and as many test images, that are compared with all training images
TREND_IMAGES = 256  # that are looked at at times in training
CROP = 7 / 8  # of the sides, as `tfdisent.data.augment.crop` has it; a test holds the two together
MOST_REAL = 10_000  # real images of a split whose features stand for it
# The classes that data sets abbreviate.
SPELLED_OUT = {
    "akiec": "actinic keratosis",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "naevus",
    "vasc": "vascular lesion",
}
NO_CONTENT = (
    "This model infers no content: its hybrids and reconstructions take the condition in its place. CIFC, what can be "
    "read from content, hybrids of two images, interpolation and maps of the codes are not defined and are left out."
)


def evaluate_run(
    model: ContentStyleModel,
    read: Callable[[str], Examples],
    manifest,
    *,
    judge_directory: str | os.PathLike,
    judge_kind: str = "convnet",
    num_samples: int = 1000,
    seed: int = 0,
    log: Callable[[str], None] = lambda message: None,
) -> tuple[dict, list[Figure]]:
    """Metrics and figures of a trained model on a prepared data set, by `evaluate`.

    Args:
        model: trained.
        read: split -> its examples.
        manifest: of the data set; `read` is asked for its splits "train", "test" and, where there is one, "query".
        judge_directory, judge_kind, num_samples, seed, log: see `evaluate`.
    """
    return evaluate(
        model,
        read("train"),
        read("test"),
        read("query") if "query" in manifest.splits else None,
        label_names=list(manifest.labels),
        factor_names=list(manifest.factor_names),
        judge_directory=judge_directory,
        judge_kind=judge_kind,
        num_samples=num_samples,
        seed=seed,
        log=log,
    )


def card_values(manifest) -> dict[str, str]:
    """What the exported model's inputs hold, for its card."""
    return {"condition": f"one-hot or attributes: {', '.join(manifest.condition_names)}"}


def evaluate(
    model: ContentStyleModel,
    train: Examples,
    test: Examples,
    query: Examples | None = None,
    *,
    label_names: list[str],
    factor_names: list[str],
    judge_directory: str | os.PathLike,
    judge_kind: str = "convnet",
    judge_epochs: int = 10,
    num_samples: int = 1000,
    seed: int = 0,
    log: Callable[[str], None] = lambda message: None,
) -> tuple[dict, list[Figure]]:
    """Metrics and figures of a trained model.

    Args:
        model: trained; its averaged weights are used.
        train, test: image (N, H, W, C) in [-1, 1], condition, label, and factors where they are known.
        query: examples of the same kind, the images that retrieval starts from; by default half of `test`.
        label_names: the classes, in order of their labels.
        factor_names: columns of `factors`; empty where they are unknown.
        judge_directory: where the judges are kept.
        judge_kind: kind of the classifier, see `tfdisent.downstream.judge.fit_classifier`.
        judge_epochs: epochs of the judges' training.
        num_samples: number of generated images: 5000 in the paper, fewer for a quick look.
        seed: of all random draws here.
        log: is told what is done.

    Returns:
        ({name: {"value", "std", "n", "extractor", "protocol"}}, figures). The entries `factors_from_content` and
        `factors_from_style` also have "per_factor", {name: R2}. What is not defined for the model has no entry.
    """
    rng, results = np.random.default_rng(seed), Results(log)
    directory = pathlib.Path(judge_directory)
    classifier = None
    if len(np.unique(_labels(train))) > 1:
        log("training the classifier on real images, unless it is there already")
        classifier = results.attempt(
            ["frechet_distance", "conditional_generation_accuracy", "hybrid_class_accuracy"],
            lambda: fit_classifier(
                train.select(),
                train["label"],
                len(label_names),
                kind=judge_kind,
                epochs=judge_epochs,
                directory=directory / "classifier",
            ),
        )
    else:
        reason = "it takes a classifier, and so training images of two classes or more"
        for name in ("frechet_distance", "conditional_generation_accuracy", "hybrid_class_accuracy"):
            results.metrics[name] = entry(None, 0, "", reason=reason)
    if "content" not in model.codes:
        log(NO_CONTENT)
    absent = [
        f"no {label_names[label]} in the {split} split"
        for split, part in (("train", train), ("test", test))
        for label in sorted(set(range(len(label_names))) - set(_labels(part).tolist()))
    ]
    if absent:
        log(f"{', '.join(absent)}: accuracies are of the classes that both splits have")
    log("generating images and measuring them")
    with model.averaged():
        rows = rng.permutation(np.resize(np.arange(len(test)), num_samples))
        same = copy.deepcopy(rng)  # the first of the same images are looked at for copies
        if classifier is not None:
            generated = ["frechet_distance", "conditional_generation_accuracy"]
            results.measure(generated, generation_metrics, model, classifier, train, test, rows, rng, absent)
        closest = results.attempt(["memorisation_ratio"], _memorisation_of, model, classifier, train, test, rows, same)
        results.metrics |= closest[0] if closest else {}
        hybrids = results.attempt(["hybrids"], make_hybrids, model, test, rng)
        if hybrids is not None:
            if "content" in model.codes:
                results.measure(["cross_image_feature_consistency"], consistency_metrics, model, hybrids)
            results.measure(["reconstruction_mean_absolute_error"], reconstruction_metrics, model, hybrids, test)
            if classifier is not None:
                results.measure(["hybrid_class_accuracy"], class_metrics, model, classifier, hybrids, test)
        search = retrieval.search_of(test, query)
        found = results.attempt(["disagreement_divergence"], retrieval.nearest_images, search, model.encode)
        if found is not None:
            results.measure(["disagreement_divergence"], retrieval.retrieval_metrics, search, found)
        if set(POSITION) <= set(factor_names) and hybrids is not None:
            log("training the position regressor on real images, unless it is there already")
            positions = ["hybrid_position_r2_style"]
            results.measure(
                positions, position_metrics, model, directory, hybrids, train, test, factor_names, judge_epochs
            )
            results.measure(["factors_from_style"], code_metrics, hybrids["codes"], test, factor_names)
            results.measure(["mutual_information_gap"], latent_metrics, hybrids["codes"], test["factors"])
        log("drawing figures")
        if hybrids is not None:
            results.draw("Conditional generation", draw_figures, model, test, hybrids["codes"], label_names, rng)
        if found is not None:
            results.draw("Retrieval", retrieval.retrieval_figures, search, found)
        results.figures += [closest[1]] if closest else []
        if value_of(results.metrics, "factors_from_style") is not None:
            results.draw("What each code tells of the truth", lambda: [factor_figure(results.metrics)])
    return results.metrics, results.figures


def generation_metrics(model, classifier, train, test, rows, rng, absent=()) -> dict:
    """FID, KID, IS and CGAcc (Sec. III-C.2 to 4) of images with the conditions of the test images `rows`.

    Beside them the FID of the untrained model, to compare with.
    """
    conditions = test["condition"][rows]
    fake_features, logits = [], []
    for images in generated_batches(model, conditions, rng):
        fake_features.append(classifier.features(images))
        logits.append(classifier.logits(images))
    fake_features, logits = np.concatenate(fake_features), np.concatenate(logits)
    shown, how = as_trained(train, test, model.config.augmentation)
    rows_of = [(shown["test"], test.spread(MOST_REAL))]
    source, from_train = "test split", np.array([], int)
    if len(test) < 2 * classifier.features_dim:
        source, from_train = "train and test split", train.spread(MOST_REAL)
        rows_of = [(shown["train"], from_train), *rows_of]
    real_features = np.concatenate([classifier.features(part.select(chosen)) for part, chosen in rows_of])
    # Real images in the place of generated ones, and none of them on both sides.
    others = stand_ins(train["label"], test["label"][rows], half=len(from_train) > 0)
    other_features = classifier.features(shown["train"].select(others))
    is_left = np.ones(len(real_features), bool)
    is_left[: len(from_train)] = ~np.isin(from_train, others)

    keras.utils.set_random_seed(0)
    untrained = generated_batches(type(model)(model.config), conditions, rng)
    untrained = np.concatenate([classifier.features(images) for images in untrained])

    extractor, count = classifier.description, len(rows)
    against = f"{count} generated, conditions of the test split, against {len(real_features)} real ({source}{how})"
    floor = (
        f"{len(others)} real training images, of the classes of the generated ones, against {is_left.sum()} other real "
        f"images ({source}{how}): what a perfect generator would have"
    )
    kid, kid_std = measure.kernel_distance(real_features, fake_features)
    kid_floor, kid_floor_std = measure.kernel_distance(real_features[is_left], other_features)
    density, coverage = measure.density_and_coverage(real_features, fake_features)
    density_floor, coverage_floor = measure.density_and_coverage(real_features[is_left], other_features)
    mmd = measure.maximum_mean_discrepancy(real_features, fake_features)
    mmd_floor = measure.maximum_mean_discrepancy(real_features[is_left], other_features)
    accuracy = measure.conditional_generation_accuracy(logits, test["label"][rows])
    judged = f"judge's accuracy on real test images {classifier.accuracy(test.select(), test['label']):.3f}"
    return {
        "frechet_distance": _frechet(real_features, fake_features, extractor, against),
        "frechet_distance_untrained": _frechet(
            real_features,
            untrained,
            extractor,
            against + ", weights untrained",
        ),
        "frechet_distance_floor": _frechet(real_features[is_left], other_features, extractor, floor),
        "kernel_distance": entry(
            kid, count, f"{against}; its error is the standard error over blocks; {KID_BELOW_0}", extractor, kid_std
        ),
        "kernel_distance_floor": entry(kid_floor, len(others), floor, extractor, kid_floor_std),
        "maximum_mean_discrepancy": entry(
            mmd, count, f"{against}; Gaussian kernel of the median distance of real images", extractor
        ),
        "maximum_mean_discrepancy_floor": entry(mmd_floor, len(others), floor, extractor),
        "density": entry(density, count, f"{against}; balls to the fifth neighbour", extractor),
        "density_floor": entry(density_floor, len(others), floor, extractor),
        "coverage": entry(coverage, count, f"{against}; balls to the fifth neighbour", extractor),
        "coverage_floor": entry(coverage_floor, len(others), floor, extractor),
        "inception_score": entry(measure.inception_score(logits), len(logits), against, extractor),
        "conditional_generation_accuracy": entry(
            accuracy,
            len(logits),
            "; ".join(
                [f"share of generated images that the classifier finds to be of their condition; {judged}", *absent]
            ),
            extractor,
        ),
    }


KID_BELOW_0 = (
    "generated and real images have the same shares of classes, which makes it lower than that of independent draws, "
    "so that it may be below 0: its floor is what to compare it with"
)


def stand_ins(labels: np.ndarray, wanted: np.ndarray, half: bool = False) -> np.ndarray:
    """Numbers of images, spread evenly, as many of each class as `wanted` has, or as there are.

    Args:
        labels: (N,), the class of each image.
        wanted: (G,), classes.
        half: to leave every other image of a class alone.
    """
    kinds, counts = np.unique(wanted, return_counts=True)
    there = [np.flatnonzero(labels == kind) for kind in kinds]
    there = [rows[::2] if half else rows for rows in there]
    return np.sort(np.concatenate([evenly(rows, count) for rows, count in zip(there, counts, strict=True)]))


def as_trained(train: Examples, test: Examples, augmentation: str) -> tuple[dict[str, Examples], str]:
    """The splits as a generator was shown them, and how in words: cropped if it was trained on crops, and not else.

    Images that a model of crops generates are crops: whole ones are no reference for them.
    """
    if "crop" not in augmentation.split(","):
        return {"train": train, "test": test}, ""
    return {"train": train.mapped(_cropped), "test": test.mapped(_cropped)}, ", cropped as in training"


def _cropped(batch: dict) -> dict:
    """7/8 of each image's sides at a place that its key decides, resized as `tfdisent.data.augment.crop` does.

    In NumPy, as evaluation runs on every backend and imports neither TensorFlow nor the data's part of the package.
    """
    _, height, width, _ = batch["image"].shape
    images = []
    for key, image in zip(batch["key"].tolist(), batch["image"], strict=True):
        corner = np.random.default_rng(zlib.crc32(str(key).encode())).uniform(0, 1 - CROP, 2)
        along = [
            np.maximum(0, 1 - np.abs((start + CROP * np.linspace(0, 1, size))[:, None] * (size - 1) - np.arange(size)))
            for start, size in zip(corner, (height, width), strict=True)
        ]
        images.append(np.einsum("ih,jw,hwc->ijc", *along, image, optimize=True))
    return {**batch, "image": np.stack(images).astype(batch["image"].dtype)}


def _memorisation_of(model, classifier, train, test, rows, rng) -> tuple[dict, Figure]:
    """The check of the first images that have the conditions of the test images `rows`, as many as may be held."""
    count = min(len(rows), MEMORISATION_SAMPLES, test.holdable(("image",)))
    batches = generated_batches(model, test["condition"][rows], rng)
    images = np.concatenate(list(itertools.islice(batches, -(-count // LARGEST_BATCH))))[:count]
    return memorisation_check(images, train, test, classifier)


def memorisation_check(generated: np.ndarray, train: Examples, test: Examples, classifier=None) -> tuple[dict, Figure]:
    """Whether generated images are nearer to training images than real test images are; and a figure of the nearest.

    All are compared as they are, mirrored and turned: in pixels, and in the classifier's features where there is one.
    """
    shown, count = 8, len(generated)
    held_out = test.sample(min(MEMORISATION_SAMPLES, test.holdable(("image",))))["image"]
    versions, held_versions = measure.symmetries(generated), measure.symmetries(held_out)
    found = measure.memorisation(
        versions, held_versions, lambda: (batch["image"] for batch in train.batches()), top=shown
    )
    results = _memorisation_entries("", "pixels", "none", found, count, len(held_out), len(train), len(versions))
    if classifier is not None:
        features = [[classifier.features(np.ascontiguousarray(one)) for one in of] for of in (versions, held_versions)]
        of_features = measure.memorisation(*features, classifier.features(train.select()))
        results |= _memorisation_entries(
            "_features",
            "the classifier's features",
            classifier.description,
            of_features,
            count,
            len(held_out),
            len(train),
            len(versions),
        )
    made, original = found.copies.T
    originals = train.take(original, ("image",))["image"]
    nearest = np.stack([versions[turn][k] for turn, k in zip(found.turned, made, strict=True)])
    picture = figures.pairs_grid(
        nearest, originals, [f"{found.distances[k]:.3f}" for k in made], names=("generated", "training")
    )
    caption = (
        "The generated images that are nearest to a training image: generated at the left, turned or mirrored where "
        "that brings it nearer, training image at the right, their distance above. The median distance of a real test "
        "image to its nearest training image is "
        f"{np.median(found.held_out_distances):.3f}. Two equal pictures would mean that the model has copied."
    )
    alt = f"{len(made)} pairs of a generated image and the training image that is nearest to it."
    return results, Figure("Memorisation", caption, picture, alt=alt)


def _memorisation_entries(ending, of, extractor, found, count, held_out, train, versions) -> dict[str, dict]:
    protocol = (
        f"root mean squared difference of {of} to the nearest of {train} training images, the smallest of {versions} "
        f"ways to turn and mirror an image, of {count} generated and of {held_out} test images"
    )
    return {
        f"memorisation_ratio{ending}": entry(
            found.ratio, count, f"{protocol}: median of generated images divided by median of test images", extractor
        ),
        f"memorisation_share_closer{ending}": entry(
            found.share_closer,
            count,
            f"{protocol}: share of generated images nearer than the nearest {found.expected_share:.2g} of test images, "
            f"so {found.expected_share:.2g} by chance",
            extractor,
        ),
    }


def generate(model: ContentStyleModel, conditions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images for conditions (N, K), with style and content noise from `rng`, (N, H, W, C) in [-1, 1]."""
    return np.concatenate(list(generated_batches(model, conditions, rng)))


def generated_batches(
    model: ContentStyleModel, conditions: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """The images of `generate`, some at a time."""
    style = rng.standard_normal((len(conditions), model.config.style_dim), dtype="float32")
    noise = rng.standard_normal((len(conditions), model.config.content_dim), dtype="float32")
    given = (conditions, style, noise) if "content" in model.codes else (conditions, style)
    for start in range(0, len(conditions), LARGEST_BATCH):
        made = model.generate(*(values[start : start + LARGEST_BATCH] for values in given))
        yield keras.ops.convert_to_numpy(made)


def make_hybrids(model: ContentStyleModel, test: Examples, rng: np.random.Generator) -> dict:
    """Pairs every test image a with another one, b; the hybrid I_ab has a's content (or condition) and b's style.

    Returns:
        codes of the test images, `partner` (the index of b for each a), and the codes (content, style) that hybrids
        `ab` and `ba` and the reconstructions are decoded from.
    """
    count = len(test)
    order = rng.permutation(count)
    partner = np.empty(count, int)
    partner[order] = np.roll(order, 1)  # one cycle through all images: none is its own partner
    parts = [in_batches(model.encode, batch["image"]) for batch in test.batches()]
    codes = together(parts)
    content = codes["content"] if "content" in codes else test["condition"]
    style = codes["style"]
    return {
        "codes": codes,
        "partner": partner,
        "ab": (content, style[partner]),
        "ba": (content[partner], style),
        "reconstructed": (content, style),
    }


def consistency_metrics(model: ContentStyleModel, hybrids: dict) -> dict:
    """CIFC (Sec. III-C.1, Fig. 9, Eq. 19): swap twice and compare the codes with those of the first images."""

    def again(content, style):
        return model.encode(model.decode(content, style))

    ab, ba = (in_batches(again, *hybrids[name]) for name in ("ab", "ba"))
    aa = in_batches(again, ab["content"], ba["style"])
    bb = in_batches(again, ba["content"], ab["style"])
    a, partner = hybrids["codes"], hybrids["partner"]
    b = {name: value[partner] for name, value in a.items()}

    def consistency(deviation):
        """Of codes divided by a deviation of each entry."""
        given = {"a": a, "aa": aa, "b": b, "bb": bb}
        return measure.cross_image_feature_consistency(
            **{f"{code}_{name}": codes[code] / deviation[code] for name, codes in given.items() for code in deviation}
        )

    result = consistency({code: 1.0 for code in a})
    deviations = {code: values.std(axis=0) for code, values in a.items()}
    # An entry that is the same for all images has no scale, and nothing to be consistent in.
    standardised = consistency({code: np.where(found > 1e-6, found, np.inf) for code, found in deviations.items()})
    pairs = f"{len(partner)} pairs of test images, mean absolute error per code (posterior means), four codes summed"
    return {
        "cross_image_feature_consistency": entry(result["value"], len(partner), pairs),
        "cross_image_feature_consistency_relative": entry(
            result["relative"],
            len(partner),
            pairs + ", divided by the same sum between the codes of the pair itself",
        ),
        "cross_image_feature_consistency_standardised": entry(
            standardised["value"],
            len(partner),
            pairs + ", each entry divided by its standard deviation over the test split, so that scale does not count",
        ),
    }


def reconstruction_metrics(model: ContentStyleModel, hybrids: dict, test: Examples) -> dict:
    """How far reconstructions are from the test images."""
    content, style = hybrids["reconstructed"]
    errors = []
    for batch in test.batches():
        rows = batch["row"]
        made = keras.ops.convert_to_numpy(model.decode(content[rows], style[rows]))
        errors.append(np.abs(made - batch["image"]).mean(axis=(1, 2, 3), dtype=np.float64))
    return {
        "reconstruction_mean_absolute_error": entry(
            np.concatenate(errors).mean(), len(test), "reconstructions against test images, intensities in [-1, 1]"
        )
    }


def class_metrics(model: ContentStyleModel, classifier, hybrids: dict, test: Examples) -> dict:
    """Whether hybrids and reconstructions have the class of the image that gave the content."""

    def classes(content, style):
        return classifier.logits(keras.ops.convert_to_numpy(model.decode(content, style))).argmax(axis=1)

    labels, partner = test["label"], hybrids["partner"]
    answers = in_batches(classes, *hybrids["ab"])
    differ = labels != labels[partner]
    again = in_batches(classes, *hybrids["reconstructed"])
    source = "content image's class" if "content" in hybrids["codes"] else "condition"
    reason = "" if differ.any() else "no pair of test images differs in class"
    return {
        "hybrid_class_accuracy": entry(
            np.mean(answers == labels),
            len(labels),
            f"share of hybrids classified as their {source}",
            classifier.description,
        ),
        "hybrid_class_accuracy_other_class": entry(
            np.mean((answers == labels)[differ]) if differ.any() else np.nan,
            int(differ.sum()),
            f"share of hybrids classified as their {source}, where content and style image differ in class",
            classifier.description,
            reason=reason,
        ),
        "reconstruction_class_accuracy": entry(
            np.mean(again == labels),
            len(labels),
            "share of reconstructions classified as the image that they reconstruct",
            classifier.description,
        ),
    }


def position_metrics(model, directory, hybrids, train, test, factor_names, epochs) -> dict:
    """Position of the hybrids' lesions against the phantom's truth."""
    columns = [factor_names.index(name) for name in POSITION]
    regressor = fit_position_regressor(
        train.select(),
        train["factors"][:, columns],
        epochs=epochs,
        directory=directory / "position",
    )

    def positions(content, style):
        return regressor.predict(keras.ops.convert_to_numpy(model.decode(content, style)))

    truth, partner = test["factors"][:, columns], hybrids["partner"]
    predicted, count = in_batches(positions, *hybrids["ab"]), len(truth)
    _, own = measure.coefficient_of_determination(truth, regressor.predict(test.select()))
    _, style = measure.coefficient_of_determination(truth[partner], predicted)
    extractor = f"position regressor, R2 on real test images {own:.3f}"
    results = {
        "hybrid_position_r2_style": entry(
            style,
            count,
            "R2 of the hybrid's lesion position against the style image's true one",
            extractor,
        ),
    }
    if "content" in hybrids["codes"]:
        _, content = measure.squared_correlation(truth, predicted)
        results["hybrid_position_r2_content"] = entry(
            content,
            count,
            "squared correlation of the hybrid's lesion position with the content image's true one",
            extractor,
        )
    return results


def code_metrics(codes: dict, test: Examples, factor_names: list[str]) -> dict:
    """The class and the factors read linearly from each code."""
    results, count = {}, len(test)
    for code, values in codes.items():
        protocol, accuracy, reason = f"linear probe of the class from {code}, chance 1 / classes", None, ""
        try:
            accuracy = measure.linear_probe_accuracy(values, _labels(test))
        except ValueError as error:  # one class, or one image of a class
            reason = str(error)
        results[f"class_from_{code}"] = entry(accuracy, count, protocol, reason=reason)
        per_factor, mean = measure.linear_probe_r2(values, test["factors"])
        results[f"factors_from_{code}"] = entry(
            mean,
            count,
            f"R2 of linear probes of the factors from {code}, mean over factors",
            per_factor=dict(zip(factor_names, per_factor, strict=True)),
        )
    return results


def latent_metrics(codes: dict, factors: np.ndarray) -> dict:
    """MIG, DCI and SAP of all entries of the codes together, and the gap between content and style as wholes."""
    latents, count = np.concatenate(list(codes.values()), axis=1), len(factors)
    wide = f"{latents.shape[1]} entries of {' and '.join(codes)}, {factors.shape[1]} factors"

    try:
        _, gap = measure.mutual_information_gap(latents, factors)
        _, sap = measure.separated_attribute_predictability(latents, factors)
        dci = measure.dci(latents, factors)
        results = {
            "mutual_information_gap": entry(gap, count, f"{wide}; 20 bins"),
            "separated_attribute_predictability": entry(sap, count, wide),
        }
        for name in ("disentanglement", "completeness", "informativeness"):
            protocol = f"{wide}; random forest, fitted on one half, scored on the other"
            results[f"dci_{name}"] = entry(getattr(dci, name), count, protocol)
        if len(codes) > 1:
            blocks = measure.block_gap(codes, factors)
            results["block_gap"] = entry(
                blocks.mean,
                count,
                "R2 (or accuracy) of a factor's linear probe from the better of the two codes less that from the "
                "other, mean over factors",
            )
    except ValueError as error:  # too few test images, or a factor that is constant in them
        return {"mutual_information_gap": entry(None, count, wide, reason=str(error))}
    return results


def factor_figure(results: dict) -> Figure:
    """Which factor can be read from which code, as a matrix."""
    rows = {
        code: results[f"factors_from_{code}"]["per_factor"]
        for code in ("content", "style")
        if f"factors_from_{code}" in results
    }
    return Figure(
        "What each code tells of the truth",
        "How well a linear model reads each known factor of the phantom from each code (R2): 1 is exact, 0 not at all. "
        f"What decides the class should be read from content, all else from style.{_better_told(rows)}",
        figures.matrix(
            np.array([list(row.values()) for row in rows.values()]).T,
            rows=list(rows["style"]),
            columns=list(rows),
        ),
    )


def _better_told(rows: dict[str, dict]) -> str:
    """A sentence of what each of two codes, {code: {factor: R2}}, tells clearly better than the other."""
    if len(rows) < 2:
        return ""
    content, style = (np.nan_to_num(list(row.values())).clip(0) for row in rows.values())
    more = {"content": content - style, "style": style - content}
    factors = [name.replace("_", " ") for name in rows["style"]]
    told = {
        code: ", ".join(name for name, by in zip(factors, gain, strict=True) if by >= 0.1) or "nothing"
        for code, gain in more.items()
    }
    return f" Here content tells more (by 0.1 or above) of {told['content']}; style of {told['style']}."


def _labels(examples: Examples) -> np.ndarray:
    """The class of each image; 0 where the data know no classes."""
    return examples.get("label", np.zeros(len(examples), int))


def draw_figures(model, test, codes, label_names, rng) -> list[Figure]:
    """The paper's qualitative figures, on the test split; a class that the split lacks is left out."""
    labels, label_names = _labels(test), label_names or ["all"]
    present = np.unique(labels)
    classes = [rng.permutation(np.flatnonzero(labels == k)) for k in present]
    label_names = [SPELLED_OUT.get(name, name) for name in label_names]
    row_names = [label_names[k] for k in present]
    conditions = np.stack([test["condition"][rows[0]] for rows in classes])
    per_class = 9
    samples = generate(model, np.repeat(conditions, per_class, axis=0), rng)
    samples = samples.reshape(len(classes), per_class, *samples.shape[1:])
    depth = min(3, *(len(rows) for rows in classes), 3)
    contents = np.concatenate([rows[:depth] for rows in classes])
    styles = np.concatenate([rows[-depth:] for rows in classes])
    needed = np.unique(np.concatenate([contents, styles]))
    image = dict(zip(needed.tolist(), test.take(needed, ("image",))["image"], strict=True))

    def images(rows):
        return np.stack([image[row] for row in np.asarray(rows).tolist()])

    result = [
        Figure(
            "Conditional generation",
            "Each row is one class: first a real image, then generated images of that class, each with another style. "
            "Every image should show its row's class, the images of a row should differ, and none should have "
            "checkerboard patterns.",
            figures.condition_grid(samples, row_names, images([rows[0] for rows in classes])),
            "paper Fig. 10, 11",
            f"A row for each of {', '.join(row_names)}: a real image and {per_class} generated ones.",
        )
    ]

    if "content" in codes:
        grid = _grid(model, codes["content"][contents], codes["style"][styles])
        result.append(
            Figure(
                "Hybrids of two images",
                "Each image takes its content from the real image at the left of its row and its style from the real "
                "image at the top of its column. The class, and what belongs to it, should follow the row; position "
                "and surroundings should follow the column.",
                figures.hybrid_grid(images(contents), images(styles), grid),
                "paper Fig. 12, 13",
                f"A table of {len(contents)} x {len(styles)} generated images between {len(contents)} real ones at the "
                f"left, which give the content, and {len(styles)} at the top, which give the style.",
            )
        )
    content = keras.ops.convert_to_numpy(model.content_of(conditions))
    grid = _grid(model, content, codes["style"][styles])
    result.append(
        Figure(
            "Hybrids of a condition and an image",
            "Each image takes its content from a class alone (the real image at the left is an example of the class) "
            "and its style from the real image at the top of its column.",
            figures.hybrid_grid(images([rows[0] for rows in classes]), images(styles), grid),
            "paper Sec. II-F, first kind",
        )
    )

    if "content" not in codes:
        return result
    a = np.concatenate([rows[:1] for rows in classes])
    b = np.concatenate([rows[-1:] for rows in classes[1:] + classes[:1]])
    lines = [
        keras.ops.convert_to_numpy(model.interpolate(images(a), images(b), 8, code))
        for code in ("content", "style", "both")
    ]
    result.append(
        Figure(
            "Interpolation",
            "From one test image to another in equal steps: content alone, style alone, both. Content should change "
            "what kind of lesion it is and leave its position; style should move the lesion and leave its kind.",
            figures.interpolation_grid(*lines, images(a), images(b)),
            "paper Fig. 18",
        )
    )
    if len(test) >= 10:
        shown = rng.permutation(len(test))[: min(600, test.holdable(("image",)))]
        result.append(
            Figure(
                "Codes of the test images (t-SNE)",
                "Each point is a test image, placed so that images with similar codes lie near each other. Classes "
                "should separate by content and mix by style.",
                figures.tsne_figure(
                    codes["content"][shown],
                    codes["style"][shown],
                    labels[shown],
                    label_names,
                    test.take(shown, ("image",))["image"],
                ),
                "paper Fig. 19",
            )
        )
    return result


def headline(metrics: dict) -> str:
    """The result in words, of the metrics that have a value."""
    value = {name: found["value"] for name, found in metrics.items() if found["value"] is not None}
    infers_content = "cross_image_feature_consistency" in metrics
    source = "the class of their content image" if infers_content else "theirs"
    shares = []
    if "conditional_generation_accuracy" in value:
        shares.append(f"of the generated images, {value['conditional_generation_accuracy']:.1%} show their condition")
    if "hybrid_class_accuracy" in value:
        shares.append(f"of the hybrids, {value['hybrid_class_accuracy']:.1%} show {source}")
    distances = []
    if {"frechet_distance", "frechet_distance_untrained"} <= value.keys():
        fid, untrained = value["frechet_distance"], value["frechet_distance_untrained"]
        distances.append(f"FID is {fid:.3g}, {fid / untrained:.2g} of the untrained generator's")
    if {"cross_image_feature_consistency", "cross_image_feature_consistency_relative"} <= value.keys():
        distances.append(
            f"CIFC is {value['cross_image_feature_consistency']:.3f}, "
            f"{value['cross_image_feature_consistency_relative']:.3f} of the distance between the codes of two images"
        )
    positions = []
    if "hybrid_position_r2_style" in value:
        style = value["hybrid_position_r2_style"]
        line = f"the position of a hybrid's lesion follows the style image with R2 = {style:.3f}"
        if "hybrid_position_r2_content" in value:
            line += f"; its squared correlation with the content image's is {value['hybrid_position_r2_content']:.3f}"
        positions.append(line)
    lines = ["; ".join(parts) + "." for parts in (shares, distances, positions) if parts]
    lines = [line[0].upper() + line[1:] for line in lines]
    if not shares:
        reason = metrics.get("conditional_generation_accuracy", {}).get("reason", "it was not measured")
        lines.insert(0, f"Whether images show their class could not be measured: {reason}.")
    if not infers_content:
        lines.append(NO_CONTENT)
    return "\n".join(lines)


def sample_grid(model: ContentStyleModel, shown: dict, seed: int = 0) -> np.ndarray:
    """A picture of training's progress: real, reconstructed and generated images, uint8 RGB.

    Args:
        model: in training; its averaged weights are used.
        shown: image (N, H, W, C) in [-1, 1], and condition (N, K), which the generated images get too.
        seed: of the style of the generated images, so that all pictures of a run show the same draws.
    """
    rng, images, conditions = np.random.default_rng(seed), shown["image"], shown["condition"]
    with model.averaged():
        reconstructed = model(images) if "content" in model.codes else model(images, conditions)
        generated = generate(model, conditions, rng)
    return figures.image_grid(
        np.concatenate([images, keras.ops.convert_to_numpy(reconstructed), generated]),
        columns=len(images),
    )


def _grid(model, contents, styles) -> np.ndarray:
    rows = [in_batches(model.decode, np.repeat(content[None], len(styles), axis=0), styles) for content in contents]
    return np.stack(rows)


def _frechet(real, generated, extractor, protocol) -> dict:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = measure.frechet_distance(real, generated)
    notes = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    return entry(value, len(generated), "; ".join([protocol, *notes]), extractor)


def trend(model: ContentStyleModel, val: Examples) -> dict[str, float]:
    """How well some images of the validation split are reconstructed, and how consistent codes of hybrids are."""
    some = Examples.of(val.sample(TREND_IMAGES))
    with model.averaged():
        hybrids = make_hybrids(model, some, np.random.default_rng(0))
        found = reconstruction_metrics(model, hybrids, some)
        if "content" in model.codes:
            found |= consistency_metrics(model, hybrids)
    return values_of(found, ["reconstruction_mean_absolute_error", "cross_image_feature_consistency_relative"])


EVALUATION = Evaluation(evaluate_run, sample_grid, headline, card_values, generate, trend)
