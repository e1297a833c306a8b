import numpy as np
import pytest

from tfdisent.data import Manifest, as_arrays, load
from tfdisent.datasets.phantom import (
    AbdomenPhantom,
    BrainPhantom,
    CardiacPhantom,
    HealthyPhantom,
    NodulePhantom,
    PETPhantom,
    RetinaPhantom,
    SkinPhantom,
)
from tfdisent.datasets.preparation import prepare
from tfdisent.datasets.shards import verify
from tfdisent.phantoms import abdomen, brain, cardiac, fields, nodule, retina, skin


def images(num_train, tmp_path, kind=SkinPhantom, **options):
    folder = prepare(kind(num_train, 6, size=16, **options), tmp_path, workers=1)
    return {split: {i.tobytes() for i in as_arrays(folder, split)["image"]} for split in ("train", "test")}


def records(builder):
    """Examples of each split, as dicts, without writing them."""
    return {
        split: [example for unit in units for example in builder.examples(unit)]
        for split, units in builder.splits(None).items()
    }


def prepared(builder, tmp_path):
    folder = prepare(builder, tmp_path, workers=1)
    return verify(folder), as_arrays(folder, "train"), as_arrays(folder, "test")


def test_classes_are_balanced_and_factors_known(tmp_path):
    folder = prepare(SkinPhantom(30, 6, size=16), tmp_path, workers=1)
    manifest = Manifest.read(folder)
    assert manifest.splits["train"]["label_counts"] == {"bkl": 10, "mel": 10, "nv": 10}
    assert manifest.factor_names == skin.FACTORS
    arrays = as_arrays(folder)
    size = arrays["factors"][:, skin.FACTORS.index("size")]
    assert np.corrcoef(size, arrays["mask"].mean((1, 2, 3)))[0, 1] > 0.9


@pytest.mark.parametrize("kind", [SkinPhantom, NodulePhantom])
def test_fewer_images_are_a_part_of_more_and_test_images_stay(tmp_path, kind):
    few, many = images(6, tmp_path, kind), images(12, tmp_path, kind)
    assert few["train"] < many["train"] and few["test"] == many["test"]
    assert many["train"].isdisjoint(many["test"])


@pytest.mark.parametrize("options", [{"num_train": 0}, {"num_test": 0}, {"num_val": -1}, {"size": 8}, {"seed": -1}])
def test_options_out_of_range_are_errors(options):
    with pytest.raises(ValueError, match="skin_phantom: expected"):
        SkinPhantom(**options)


def test_a_third_split_has_images_of_its_own_and_changes_no_other(tmp_path):
    plain = SkinPhantom(6, 6, size=16).splits(None)
    splits = SkinPhantom(6, 6, 3, size=16).splits(None)
    assert "val" not in plain and list(splits) == ["train", "test", "val"]
    assert {split: splits[split] for split in plain} == plain
    assert len(splits["val"]) == 3
    indices = {split: {unit.source[0] for unit in units} for split, units in splits.items()}
    assert indices["val"].isdisjoint(indices["train"] | indices["test"])


def test_subjects_to_choose_settings_on_are_paired_as_those_of_the_test():
    (unit,) = BrainPhantom(num_train=1, num_test=1, num_val=1, size=32, paired="test").splits(None)["val"]
    (tested,) = BrainPhantom(num_train=1, num_test=1, size=32, paired="test").splits(None)["test"]
    assert unit.source[1:] == tested.source[1:]


def test_raw_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="makes its own images"):
        prepare(SkinPhantom(6, 6, size=16), tmp_path, tmp_path)


def test_nodules_have_the_conditions_of_lidc_and_their_window(tmp_path):
    manifest, train, _ = prepared(NodulePhantom(12, 2, size=32), tmp_path)
    assert manifest.condition_names == nodule.CONDITION_NAMES and len(train["condition"][0]) == 17
    assert manifest.splits["train"]["label_counts"] == {"benign": 6, "malignant": 6}
    malignant = manifest.condition_names.index("malignancy_high")
    assert np.array_equal(train["condition"][:, malignant], train["label"])
    assert manifest.image_dtype == "int16"
    example = records(NodulePhantom(1, 1))["train"][0]
    assert tuple(example["intensity"][0, :2]) == nodule.WINDOW
    assert -1024 <= example["image"].min() < -500 and example["image"].dtype == np.int16


def test_lidc_and_its_phantom_name_the_same_things():
    from tfdisent.datasets import lidc

    assert lidc.CONDITIONS == nodule.CONDITION_NAMES and lidc.LABELS == nodule.LABELS


def test_window_comes_from_the_command_line_as_texts():
    assert NodulePhantom(window=("-1350", "150")).window == (-1350.0, 150.0)


def test_brains_have_all_contrasts_of_a_slice_and_the_ids_of_brats(tmp_path):
    builder = BrainPhantom(2, 1, size=48, slices_per_subject=4)
    manifest, train, test = prepared(builder, tmp_path)
    assert manifest.modalities == ("T1", "T1ce", "T2", "FLAIR")
    assert manifest.mask_labels == ("background", "necrosis", "oedema", "enhancing")
    assert train["image"].shape == (8, 48, 48, 4) and manifest.image_dtype == "int16"
    assert set(np.unique(train["mask"])) <= {0, 1, 2, 3} and train["mask"].max() > 0
    examples = [example for unit in builder.splits(None)["train"][:1] for example in builder.examples(unit)]
    assert [e["slice_index"] for e in examples] == [0, 1, 2, 3]
    pixel, gap = brain.FIELD_OF_VIEW / 48, np.ptp(brain.SLICE_RANGE) / 3
    assert examples[0]["spacing"] == pytest.approx((pixel, pixel, gap))
    volume = np.stack([e["image"] for e in examples])
    means = [volume[..., k][volume[..., 0] > 0].mean() for k in range(4)]
    assert examples[0]["intensity"][:, 2] == pytest.approx(means, rel=0.01)
    splits = [set(manifest.splits[name]["subjects"]) for name in ("train", "test")]
    assert splits[0].isdisjoint(splits[1]) and len(test["image"]) == 4


def test_scanners_share_test_subjects_and_no_training_subject():
    scanners = ("scanner_a", "scanner_b")
    builder = BrainPhantom(4, 1, size=32, slices_per_subject=2, scanners=scanners)
    found = records(builder)
    for unit in builder.splits(None)["train"]:
        assert len({example["domain"] for example in builder.examples(unit)}) == 1
    assert {e["domain"] for e in found["train"]} == set(scanners)
    one, two = ([e for e in found["test"] if e["domain"] == name] for name in scanners)
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a["mask"], b["mask"]) and not np.array_equal(a["image"], b["image"])


@pytest.mark.parametrize("paired, counts", [("none", (2, 2)), ("all", (4, 4)), ("test", (2, 4))])
def test_paired_says_who_is_on_every_scanner(paired, counts):
    builder = RetinaPhantom(2, 2, size=32, slices_per_subject=1, paired=paired)
    assert tuple(len(found) for found in records(builder).values()) == counts


def test_masks_of_brains_follow_the_disease():
    names = brain.PATHOLOGY_LABELS
    assert BrainPhantom(tumour=0, lesions=1).info(None).mask_labels == (names[0], names[4])
    assert BrainPhantom(tumour=0.5, lesions=0.5).info(None).mask_labels == names
    assert BrainPhantom(tumour=0).info(None).mask_labels == ()
    assert BrainPhantom(mask="tissue").info(None).mask_labels == brain.TISSUE_LABELS
    builder = BrainPhantom(1, 1, 48, tumour=0, lesions=1, slices_per_subject=6)
    assert set(np.unique([e["mask"] for e in records(builder)["train"]])) == {0, 1}


def test_tissue_and_healthy_brains_can_be_written(tmp_path):
    few = {"size": 32, "slices_per_subject": 2, "contrasts": ("T1", "PET")}
    manifest, train, _ = prepared(BrainPhantom(1, 1, tumour=0, **few), tmp_path)
    assert "mask" not in train and manifest.modalities == ("T1", "PET")
    _, train, _ = prepared(BrainPhantom(1, 1, mask="tissue", **few), tmp_path)
    assert set(np.unique(train["mask"])) == {0, 1, 2, 3}


def test_one_map_can_hold_tissues_and_lesions():
    few = {"size": 48, "slices_per_subject": 4, "contrasts": ("T1",), "tumour": 0, "lesions": 1}
    tissue, disease, both = (
        np.stack([e["mask"] for e in records(BrainPhantom(1, 1, mask=mask, **few))["train"]])
        for mask in ("tissue", "pathology", "tissue_and_pathology")
    )
    assert BrainPhantom(mask="tissue_and_pathology", **few).info(None).mask_labels == (
        *brain.TISSUE_LABELS,
        "lesion",
    )
    assert disease.any() and np.array_equal(both == 4, disease == 1)
    assert np.array_equal(both[disease == 0], tissue[disease == 0])


def test_a_record_can_hold_the_image_without_noise_and_bias():
    few = {"size": 32, "slices_per_subject": 2, "contrasts": ("T1",), "tumour": 0, "scanners": ("scanner_b",)}
    plain, both = (records(BrainPhantom(1, 1, clean=clean, **few))["train"] for clean in (False, True))
    for one, two in zip(plain, both, strict=True):
        assert np.array_equal(one["image"], two["image"]) and "clean" not in one
        difference = two["clean"].astype(float) - two["image"]
        inside = two["image"] > 0
        assert not two["clean"][~inside].any() and 5 < difference[inside].std() < 0.3 * two["image"][inside].mean()


def test_pet_is_high_in_grey_matter_and_in_the_rim_of_a_tumour_and_no_channel_of_the_image():
    few = {"size": 48, "slices_per_subject": 4, "seed": 2}
    plain = records(BrainPhantom(1, 1, contrasts=("T1", "FLAIR"), **few))["train"]
    phantom = PETPhantom(1, 1, **few)
    assert phantom.info(None).modalities == ("T1", "FLAIR")
    found = records(phantom)["train"]
    for one, two in zip(plain, found, strict=True):
        assert np.array_equal(one["image"], two["image"]) and "pet" not in one
    pet, mask = (np.stack([one[name] for one in found])[..., 0] for name in ("pet", "mask"))
    inside = np.stack([one["image"][..., 0] > 0 for one in found])
    assert pet.dtype == np.float32 and pet.min() == -1 and pet.max() == 1
    assert (pet[~inside] == -1).all()
    assert pet[mask == 3].mean() > pet[inside].mean() + 0.2 > pet[mask == 1].mean() + 0.4


def test_the_healthy_phantom_has_no_disease():
    assert HealthyPhantom().info(None).modalities == ("T1", "T2")
    assert HealthyPhantom().info(None).mask_labels == ()


def test_neighbours_of_each_contrast_are_its_slices_below_and_above():
    few = {"size": 32, "slices_per_subject": 3, "contrasts": ("T1", "T2")}
    plain = records(BrainPhantom(1, 1, **few))["train"]
    stacked = records(BrainPhantom(1, 1, neighbours=1, **few))["train"]
    for contrast in range(2):
        stack = [e["image"][..., contrast] for e in plain]
        middle = stacked[1]["image"][..., 3 * contrast : 3 * contrast + 3]
        assert np.array_equal(middle, np.stack(stack, -1))
    assert np.array_equal(stacked[0]["image"][..., 0], stacked[0]["image"][..., 1])
    assert stacked[0]["intensity"].shape == (6, 8)


def test_fractions_say_how_many_subjects_have_a_scar():
    for fraction, low, high in ((0, 0, 0), (0.5, 10, 30), (1, 40, 40)):
        builder = CardiacPhantom(40, 1, size=16, slices_per_subject=1, scar=fraction)
        depth = cardiac.FACTORS.index("scar_depth")
        assert low <= sum(e["factors"][depth] > 0 for e in records(builder)["train"]) <= high


@pytest.mark.parametrize("kind, module", [(CardiacPhantom, cardiac), (AbdomenPhantom, abdomen)])
def test_misaligned_records_hold_both_modalities_and_the_way_between(tmp_path, kind, module):
    builder = kind(1, 1, size=96, slices_per_subject=3, candidates=2)
    manifest, train, _ = prepared(builder, tmp_path)
    assert manifest.modalities == module.MODALITIES and manifest.mask_channels == 3
    assert train["image"].shape == (3, 96, 96, 3) and manifest.image_dtype == "float16"
    examples = records(builder)["train"]
    assert [e["partner_index"].tolist() for e in examples] == [[0, 1], [1, 0], [2, 1]]
    step = 0.45 * module.EXTENT
    for example in examples:
        assert example["partner_distance"] == pytest.approx((0, step))
    for masks, moved in zip(train["mask"], train["displacement"], strict=True):
        first, second = masks[..., 0], masks[..., 1]
        warped = fields.warp(first, moved.astype(np.float32), order=0)
        assert ((warped > 0) == (second > 0)).mean() > 0.98


@pytest.mark.parametrize(
    "kind, options, low, high",
    [
        (AbdomenPhantom, {}, 0.6, 0.8),
        (AbdomenPhantom, {"misalignment": 0.0}, 0.9, 0.99),
        (CardiacPhantom, {}, 0.6, 0.75),
    ],
)
def test_copying_the_labels_of_one_modality_to_the_other_is_as_wrong_as_the_docstring_says(kind, options, low, high):
    builder = kind(8, 1, size=32, slices_per_subject=4, **options)
    found = []
    for unit in builder.splits(None)["train"]:
        masks = np.stack([example["mask"] for example in builder.examples(unit)])
        for label in range(1, len(builder.info(None).mask_labels)):
            one, other = (masks[..., k] == label for k in range(2))
            found.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    assert low < np.mean(found) < high


def test_candidates_beyond_the_stack_repeat_the_last():
    builder = AbdomenPhantom(1, 1, size=32, slices_per_subject=2, candidates=4)
    example = records(builder)["train"][0]
    assert example["partner_index"].tolist() == [0, 1, 1, 1]


def test_a_record_of_the_second_modality_has_candidates_of_the_first_before_it():
    options = {"size": 32, "slices_per_subject": 3, "candidates": 2}
    (plain, turned) = (records(AbdomenPhantom(1, 1, **options, reference=name))["train"] for name in ("T1", "T2"))
    for k, example in enumerate(turned):
        assert example["image"].shape[-1] == 3
        np.testing.assert_array_equal(example["partner_index"], plain[k]["partner_index"])
        np.testing.assert_array_equal(example["image"][..., -1], plain[k]["image"][..., 1])
        for place, n in enumerate(example["partner_index"]):
            np.testing.assert_array_equal(example["image"][..., place], plain[n]["image"][..., 0])
            np.testing.assert_array_equal(example["mask"][..., place], plain[n]["mask"][..., 0])
        np.testing.assert_array_equal(example["intensity"][0], example["intensity"][1])
        np.testing.assert_array_equal(example["intensity"][[0, 2]], plain[k]["intensity"][:2])


def test_shuffled_candidates_are_near_and_of_several_the_right_one_is_at_any_place():
    options = {"size": 16, "slices_per_subject": 10, "shuffled": 2}
    one = [e["partner_index"] for e in records(AbdomenPhantom(2, 1, **options))["train"]]
    apart = {int(n[0]) - k % 10 for k, n in enumerate(one)}
    assert apart == {-2, -1, 0, 1, 2}
    places = set()
    for k, example in enumerate(records(AbdomenPhantom(2, 1, **options, candidates=3))["train"]):
        near = example["partner_index"].tolist()
        assert len(set(near)) == 3 and max(abs(n - k % 10) for n in near) <= 2
        places.add(near.index(k % 10))
    assert places == {0, 1, 2}


def test_retinas_have_fluid_by_its_fraction_and_layers(tmp_path):
    builder = RetinaPhantom(2, 1, size=64, slices_per_subject=3, fluid=1.0, fluids=("SRF",))
    manifest, train, test = prepared(builder, tmp_path)
    assert manifest.domains == ("spectralis", "cirrus")
    assert set(np.unique(train["mask"])) == {0, 2} and manifest.image_dtype == "uint8"
    assert train["boundaries"].shape == (6, len(retina.LAYERS) + 2, 64)
    assert len(test["image"]) == 6 and len(manifest.splits["test"]["subjects"]) == 1
    assert not any(e["mask"].any() for e in records(RetinaPhantom(2, 1, 32, fluid=0))["train"])


@pytest.mark.parametrize(
    "kind, options, message",
    [
        (NodulePhantom, {"num_train": 0}, "nodule_phantom: expected num_train and num_test from 1"),
        (NodulePhantom, {"window": (400, -1000)}, "window as two rising HU"),
        (NodulePhantom, {"window": ("low", "high")}, "window as two rising HU"),
        (BrainPhantom, {"contrasts": ("PD",)}, "contrasts of one or more of T1,T1ce"),
        (BrainPhantom, {"contrasts": ("T1", "T1")}, "each once"),
        (BrainPhantom, {"scanners": ()}, "scanners of one or more of scanner_a"),
        (BrainPhantom, {"paired": "yes"}, "paired of none, test or all, received 'yes'"),
        (BrainPhantom, {"tumour": 1.5}, "tumour of 0 to 1, received 1.5"),
        (BrainPhantom, {"lesions": -1.0}, "lesions of 0 to 1"),
        (BrainPhantom, {"mask": "all"}, "mask of pathology or tissue"),
        (BrainPhantom, {"neighbours": -1}, "neighbours of 0 to 16"),
        (BrainPhantom, {"slices_per_subject": 0}, "slices_per_subject of 1 to 500"),
        (CardiacPhantom, {"scar": 2.0}, "scar of 0 to 1"),
        (CardiacPhantom, {"candidates": 0}, "candidates of 1 to 16"),
        (CardiacPhantom, {"reference": "T1"}, "reference of one of cine, LGE"),
        (CardiacPhantom, {"shuffled": -1}, "shuffled of 0 to 16"),
        (AbdomenPhantom, {"misalignment": -1.0}, "misalignment of 0 to 100 mm"),
        (AbdomenPhantom, {"size": 8}, "abdomen_phantom: expected 16 <= size"),
        (RetinaPhantom, {"vendors": ("topcon",)}, "vendors of one or more of spectralis,cirrus"),
        (RetinaPhantom, {"fluids": ("CME",)}, "fluids of one or more of IRF,SRF,PED"),
        (RetinaPhantom, {"fluid": 2.0}, "fluid of 0 to 1"),
    ],
)
def test_options_of_the_phantoms_out_of_range_are_errors(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    ("kind", "on_grid"), [(CardiacPhantom, {"displacement", "scar"}), (RetinaPhantom, {"boundaries"})]
)
def test_what_lies_on_the_images_grid_is_left_out_where_the_image_is_moved(tmp_path, kind, on_grid):
    folder = prepare(kind(4, 2, size=32, slices_per_subject=1), tmp_path, workers=1)

    def names(**options):
        return set(next(load(folder, "test", batch_size=2, **options).as_numpy_iterator()))

    assert on_grid < names() == names(image_size=32)
    for moved in ({"augment": "flip"}, {"image_size": 16}):
        assert names() - names(**moved) == on_grid
