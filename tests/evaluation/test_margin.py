"""Evaluation of codes that are not to leak: ideal ones get the best of every figure, leaking ones the worst."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

from tfdisent.evaluation import margin
from tfdisent.examples import Examples
from tfdisent.metrics import linear_probe_accuracy

NAMES = ("T1", "T2", "FLAIR")
SUBJECTS, SLICES = 8, 6


def config(**changes):
    values = {"modalities": NAMES, "num_modalities": 3, "neighbours": 0, "pool_size": 8, "anatomy_margin": 0.1}
    return SimpleNamespace(**values | {"modality_margin": 0.1} | changes)


def codes(anatomy="subject", code="modality", noise=0.02, seed=0):
    """Codes of slices in three modalities that tell the subject, the modality, "both" or "nothing"."""
    random = np.random.default_rng(seed)
    index = np.indices((SUBJECTS, SLICES, 3)).reshape(3, -1)
    known = {"subject": np.random.default_rng(5).normal(size=(SUBJECTS, 12))[index[0]], "modality": np.eye(3)[index[2]]}

    def tell(what):
        parts = [values for name, values in known.items() if what in (name, "both")] or [np.ones((index.shape[1], 4))]
        values = np.concatenate(parts, axis=1)
        return values + noise * random.normal(size=values.shape)

    return {
        "anatomy": tell(anatomy),
        "pooled": tell(anatomy),
        "code": tell(code),
        "share": np.full((index.shape[1], 4), 0.25),
        "modality": index[2],
        "slice": index[0] * SLICES + index[1],
        "subject": index[0],
        "position": index[1],
    }


def value(metrics, name):
    return metrics[name]["value"]


def test_of_ideal_codes_the_modality_is_told_from_its_code_alone():
    found = margin.leak_metrics(codes(), seed=0)
    assert value(found, "modality_from_modality_code") == 1
    assert value(found, "modality_from_anatomy") < 0.55
    assert set(found["modality_from_anatomy"]["per_probe"]) == {"linear", "network"}


def test_a_modality_in_the_anatomy_is_found_by_the_probes():
    assert value(margin.leak_metrics(codes(anatomy="both"), seed=0), "modality_from_anatomy") == 1


@pytest.mark.backend("torch")
@pytest.mark.parametrize("routed, expected", [(False, 0.5), (True, 1.0)])
def test_the_number_of_the_modality_reaches_the_anatomy_through_the_kernels_alone_and_a_probe_finds_it(
    routed, expected
):
    from tests.tiny import MARGIN
    from tfdisent.systems.margin import Margin, MarginConfig

    model = Margin(MarginConfig(**MARGIN))
    variables = [v for net in (*model.anatomy_encoders, model.anatomy_decoder) for v in net.trainable_variables]
    routes = [variable for variable in variables if variable.path.endswith("route_kernel")]
    for variable in routes:
        variable.assign(np.array([[8.0, -8.0, 0.0], [-8.0, 8.0, 0.0]]) * routed)
    random = np.random.default_rng(0)  # slices differ little, so that an untrained network tells the modality from them
    slices = (random.uniform(-1, 1, (32, 32, 1)) + random.normal(0, 0.01, (24, 32, 32, 1))).astype("float32")
    test = Examples.of({"image": np.repeat(slices, 2, axis=-1), "subject": np.arange(24) // 3})  # T2 is T1
    found = margin.codes_of(model, test, np.arange(24))
    told = linear_probe_accuracy(found["anatomy"], found["modality"], train=found["subject"] % 2 == 0)
    assert routes and told == expected


def test_a_modality_that_no_linear_probe_finds_is_found_by_the_network():
    found = codes(noise=0)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], len(found["modality"]))
    other = np.where(found["modality"] == 0, signs, -signs)  # alone neither tells it, their product does
    noise = 0.1 * np.random.default_rng(1).normal(size=(len(signs), 2))
    leaking = np.column_stack([signs, other]) + noise
    some = found["modality"] < 2
    probed = margin.leak_metrics({**{k: v[some] for k, v in found.items()}, "anatomy": leaking[some]}, seed=0)
    assert probed["modality_from_anatomy"]["per_probe"]["network"] > 0.95
    assert value(probed, "modality_from_anatomy") > 0.95
    assert probed["modality_from_anatomy"]["per_probe"]["linear"] < 0.75


def test_probes_are_asked_about_subjects_that_they_were_not_trained_on():
    # Codes that tell the subject, whose slices are all of one modality: learnt by heart, of no use for another one.
    found = codes(anatomy="subject")
    found["modality"] = found["subject"] // 2 % 2
    assert value(margin.leak_metrics(found, seed=0), "modality_from_anatomy") < 0.8


def test_an_anatomy_of_the_subject_finds_it_in_every_modality_and_a_collapsed_one_does_not():
    assert value(margin.subject_metrics(codes(), seed=0), "subject_retrieval") == 1
    collapsed = margin.subject_metrics(codes(anatomy="nothing"), seed=0)
    assert value(collapsed, "subject_retrieval") < 0.4


def test_a_code_that_carries_anatomy_tells_the_subject():
    assert value(margin.subject_metrics(codes(code="both"), seed=0), "subject_from_modality_code") == 1
    assert value(margin.subject_metrics(codes(), seed=0), "subject_from_modality_code") < 0.35


def test_all_margins_hold_between_ideal_codes_and_none_where_the_two_are_swapped():
    found = margin.margin_metrics(codes(), config())["margins_held"]
    assert found["value"] == 1 and found["per_code"] == {"anatomy": 1, "modality": 1}
    assert found["n"] == SUBJECTS * SLICES * 6  # i other than j alone
    swapped = margin.margin_metrics(codes(anatomy="modality", code="subject"), config())["margins_held"]
    assert swapped["value"] == 0 and set(swapped["per_code_by_paper"].values()) == {0}
    wider = margin.margin_metrics(codes(), config(anatomy_margin=3.0))["margins_held"]
    assert wider["per_code"] == {"anatomy": 0, "modality": 1}
    assert wider["per_code_by_paper"] == {"anatomy at 0.1": 1, "modality at 0.1": 1}


@pytest.mark.parametrize("share, expected", [([0.25] * 4, 1), ([1, 0, 0, 0], 0), ([0.5, 0.5, 0, 0], 0.5)])
def test_the_entropy_of_channels_is_zero_where_the_anatomy_has_collapsed(share, expected):
    found = margin.entropy_metrics({"share": np.tile(share, (5, 1))})
    assert value(found, "anatomy_entropy") == pytest.approx(expected)
    assert value(found, "anatomy_entropy_per_slice") == pytest.approx(expected)


def test_channels_that_tell_slices_apart_are_even_over_all_slices_and_not_in_each():
    found = margin.entropy_metrics({"share": np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]]})
    assert value(found, "anatomy_entropy") == pytest.approx(1)
    assert value(found, "anatomy_entropy_per_slice") == pytest.approx(0)


@pytest.mark.parametrize("keep", ["subject", "modality"])
def test_what_cannot_be_told_of_one_subject_or_modality_says_why(keep):
    found = codes()
    one = {name: values[found[keep] == 0] for name, values in found.items()}
    for metrics in (
        margin.leak_metrics(one, 0),
        margin.subject_metrics(one, 0),
        margin.margin_metrics(one, config()),
    ):
        empty = [entry for entry in metrics.values() if entry["value"] is None]
        assert empty and all(entry["reason"] for entry in empty)


# --- reconstruction ---


def subjects(seed, slices=1):
    """Ellipses of two tissues; FLAIR is the tissues' square, so that no affine map but a table gives it from T1."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    inside = (x**2 + y**2 < 0.7)[None]
    tissue = np.where(inside, np.abs(random.uniform(0.1, 0.9, (12, 32, 32))), 0)
    image = np.stack([tissue, 1 - tissue, 4 * (tissue - 0.5) ** 2], axis=-1) * inside[..., None]
    image = np.repeat(2 * image - 1, slices, axis=-1).astype("float32")
    if slices > 1:  # only the centre slice is the image
        image[..., [k for k in range(3 * slices) if k % slices != slices // 2]] = 0.3
    return Examples.of({"image": image, "subject": np.repeat(np.arange(6), 2), "slice_index": np.tile([0, 1], 6)})


class Model:
    """Draws the truth, or grey."""

    averaged = contextlib.nullcontext

    def __init__(self, grey=False, **changes):
        self.grey, self.config = grey, config(**changes)

    def cross_reconstruct(self, image, available):
        made = np.moveaxis(image.reshape(*image.shape[:3], 3, -1), 3, 1)  # (N, M, H, W, slices)
        made = np.repeat(made[:, None], 3, axis=1)
        return np.zeros_like(made) if self.grey else made

    def encode_all(self, image, available):
        anatomy = np.zeros((len(image), 3, 32, 32, 4), "float32")
        anatomy[..., 0] = 1
        return {"anatomy": anatomy, "code": np.zeros((len(image), 3, 2), "float32")}


@pytest.mark.parametrize("neighbours", [0, 1])
def test_perfect_reconstructions_are_perfect_by_the_centre_slice_and_grey_ones_are_not(neighbours):
    train, test = subjects(0, 1 + 2 * neighbours), subjects(1, 1 + 2 * neighbours)
    rows = test.spread(100)
    found = margin.reconstruction_metrics(Model(neighbours=neighbours), train, test, rows)
    assert value(found, "ssim_brain") == pytest.approx(1) and value(found, "mean_absolute_error_brain") == 0
    assert set(found["ssim"]["per_target"]) == set(NAMES)
    grey = margin.reconstruction_metrics(Model(grey=True, neighbours=neighbours), train, test, rows)
    assert value(grey, "ssim_brain") < 0.3


def test_a_background_that_is_drawn_well_does_not_make_up_for_the_brain():
    def drawn(wrong):
        """The truth, with what is `wrong` of the brain (N, H, W) 0.4 brighter."""
        model = Model()
        truth = model.cross_reconstruct

        def cross_reconstruct(image, available):
            inside = (image[..., 0] + image[..., 1] > -2)[:, None, None, :, :, None]
            return truth(image, available) + np.where(wrong(inside), 0.4, 0)

        model.cross_reconstruct = cross_reconstruct
        found = margin.reconstruction_metrics(model, subjects(0), subjects(1), np.arange(12))
        return [value(found, name) for name in ("psnr", "psnr_brain")]

    (whole, brain), everywhere = drawn(lambda inside: inside), -20 * np.log10(0.2)
    assert brain == pytest.approx(everywhere) and whole > brain + 2
    assert drawn(lambda inside: inside | True) == pytest.approx([everywhere] * 2)


def test_a_table_gives_what_no_affine_map_does_and_a_map_what_is_affine():
    found = margin.reconstruction_metrics(Model(), subjects(0), subjects(1), np.arange(12))
    table, affine = (found[f"ssim_brain_{kind}"]["per_target"] for kind in ("lookup", "affine"))
    assert table["FLAIR"] > 0.95 > affine["FLAIR"] + 0.2
    assert table["T2"] < 1 and affine["T2"] < 1  # from FLAIR, of which two tissues have one value


def test_what_is_missing_is_not_measured():
    arrays = {name: values for name, values in subjects(1).sample(12).items() if name != "row"}
    arrays["available"] = np.tile([1, 1, 0], (12, 1))
    found = margin.reconstruction_metrics(Model(), subjects(0), Examples.of(arrays), np.arange(12))
    assert set(found["ssim"]["per_target"]) == {"T1", "T2"}
    codes_found = margin.codes_of(Model(), Examples.of(arrays), np.arange(12))
    assert set(codes_found["modality"]) == {0, 1} and len(codes_found["slice"]) == 24


class Drawer(Model):
    """Its anatomy is the tissue, of which T1 and T2 tell all and FLAIR the half; it draws any modality of it.

    With `from_t1_alone` the others tell nothing.
    """

    def __init__(self, from_t1_alone=False):
        super().__init__()
        self.from_t1_alone = from_t1_alone
        self.typical_codes = SimpleNamespace(mean=np.eye(3, dtype="float32"))

    def anatomy(self, image, modality):
        bright = ops.convert_to_numpy(image) / 2 + 0.5
        tissue = (bright, 1 - bright, 0.5 + np.sqrt(bright) / 2)[modality]
        return np.full_like(tissue, 0.5) if modality and self.from_t1_alone else tissue

    def foreground(self, image):
        return (ops.convert_to_numpy(image) > -1).any(axis=-1, keepdims=True)

    def decode(self, anatomy, code):
        anatomy = np.repeat(anatomy, len(code) // len(anatomy), axis=0)
        every = np.concatenate([anatomy, 1 - anatomy, 4 * (anatomy - 0.5) ** 2], axis=-1)
        return (2 * every * (anatomy > 0) - 1) @ code[:, None, :, None]


def test_from_every_subset_what_is_missing_is_drawn_and_the_subject_is_found():
    found = margin.subset_metrics(Drawer(), subjects(0), subjects(1), np.arange(12))
    names = ("ssim_brain_missing", "psnr_brain_missing", "subset_retrieval", "ssim_brain_missing_lookup")
    for name in names:
        assert set(found[name]["per_subset"]) == {"T1", "T2", "FLAIR", "T1+T2", "T1+FLAIR", "T2+FLAIR"}
    drawn, table = (found[f"ssim_brain_missing{of}"]["per_subset"] for of in ("", "_lookup"))
    for subset in ("T1", "T2", "T1+T2"):
        assert drawn[subset] == pytest.approx(1, abs=1e-4)
        assert found["subset_retrieval"]["per_subset"][subset] == 1
        assert table[subset] > 0.95
    assert max(drawn["FLAIR"], table["FLAIR"]) < 0.8  # of two tissues it has one intensity
    (figure,) = margin.draw_subsets(found)
    assert figure.image.ndim == 3 and not margin.draw_subsets({})


def test_subsets_without_the_modality_that_shows_the_anatomy_find_no_subject():
    found = margin.subset_metrics(Drawer(from_t1_alone=True), subjects(0), subjects(1), np.arange(12))
    by_subset = found["subset_retrieval"]["per_subset"]
    assert min(by_subset["T1"], by_subset["T1+T2"], by_subset["T1+FLAIR"]) > 0.5
    assert max(by_subset["T2"], by_subset["FLAIR"], by_subset["T2+FLAIR"]) < 0.3
    assert found["ssim_brain_missing"]["per_subset"]["T2"] < 0.3


@pytest.mark.backend("torch")
def test_what_a_model_draws_of_a_subset_is_what_its_verb_gives():
    from tests.tiny import MARGIN
    from tfdisent.systems.margin import Margin, MarginConfig

    model = Margin(MarginConfig(**MARGIN | {"modalities": NAMES}, mask_background=True))
    test = subjects(1)
    found = margin.subset_metrics(model, subjects(0), test, np.arange(12))["psnr_brain_missing"]["per_subset"]
    image = test.take(np.arange(12))["image"]
    for subset, target in (("T1+FLAIR", 1), ("T1+T2", 2)):
        exists = np.array([[name in subset.split("+") for name in NAMES]] * 12, "float32")
        made = ops.convert_to_numpy(model.complete(image, target, exists)["image"])[..., 0]
        likeness = margin.likeness(made, image[..., target], margin.brain(image))
        assert found[subset] == pytest.approx(likeness["psnr_brain"].mean(), rel=1e-4)


def test_subsets_need_slices_of_all_modalities():
    arrays = {name: values for name, values in subjects(1).sample(12).items() if name != "row"}
    arrays["available"] = np.tile([1, 1, 0], (12, 1))
    found = margin.subset_metrics(Drawer(), subjects(0), Examples.of(arrays), np.arange(12))
    assert [entry["reason"] for entry in found.values()] == 2 * ["no test slice has all modalities"]


def test_codes_hold_maxima_and_means_of_windows_and_shares_in_the_brain():
    anatomy = np.random.default_rng(0).uniform(size=(2, 8, 16, 3))
    highest, mean = margin.windows(anatomy, 8)
    for half in (0, 1):
        part = anatomy[:, :, 8 * half : 8 * half + 8]
        np.testing.assert_allclose(highest.reshape(2, 2, 3)[:, half], part.max((1, 2)))
        np.testing.assert_allclose(mean.reshape(2, 2, 3)[:, half], part.mean((1, 2)))
    found = margin.codes_of(Model(), subjects(1), np.arange(12))
    np.testing.assert_allclose(found["share"], np.eye(4)[[0] * 36])
    assert value(margin.entropy_metrics(found), "anatomy_entropy") == 0


@pytest.mark.parametrize("has", [("mask",), ("pet",), ()])
def test_networks_downstream_are_measured_where_the_data_have_what_they_are_to_make(has, monkeypatch, tmp_path):
    asked = []
    for name in ("measure_segmentation", "measure_pet"):
        monkeypatch.setattr(margin.missing_inputs, name, lambda *given, name=name: asked.append((name, given[4:])))
    for name in ("reconstruction_metrics", "subset_metrics", "codes_of", "leak_metrics", "subject_metrics"):
        monkeypatch.setattr(margin, name, lambda *given: {})
    for name in ("margin_metrics", "entropy_metrics"):
        monkeypatch.setattr(margin, name, lambda *given: {})
    for name in ("draw_figures", "draw_codes", "draw_subsets"):
        monkeypatch.setattr(margin, name, lambda *given: [])
    arrays = {k: v for k, v in subjects(0).sample(12).items() if k != "row"}
    both = Examples.of(arrays | {name: np.zeros((12, 32, 32, 1)) for name in has})
    labels = ("background", "lesion")
    settings = {"judge_directory": tmp_path, "judge_kind": "inception", "seed": 3, "keep": "kept"}
    margin.evaluate_run(Model(), lambda split: both, SimpleNamespace(mask_labels=labels), **settings)
    expected = {
        "mask": ("measure_segmentation", (labels, "inception", 3, "kept")),
        "pet": ("measure_pet", ("inception", 3)),
    }
    assert asked == [expected[name] for name in has]
