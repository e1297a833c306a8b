"""The command on volumes with known answers, by models with known effects."""

import dataclasses
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import tensorflow as tf
from nibabel import orientations

from tfdisent.apply import Options, apply, chosen_targets, load_model
from tfdisent.data.pipeline import load
from tfdisent.datasets.builder import Unit
from tfdisent.datasets.preparation import prepare
from tfdisent.datasets.volumes import Scans, VolumeBuilder
from tfdisent.volumes import read_nifti
from tfdisent.volumes.planes import slice_inconsistency

ROOT = pathlib.Path(__file__).parents[1]
KNOWN = {"normalize": "volume", "pixel_spacing": 1.0}
SIZE = (32, 28)


# --- models and volumes ---


def save_model(folder, function, *, targets=0, size=SIZE, card=None, name="translate"):
    """A SavedModel of function(image[, target]) -> image, with a card."""
    module = tf.Module()
    specs = {"image": tf.TensorSpec([None, *size, 1], tf.float32)}
    if targets:
        specs["target"] = tf.TensorSpec([None, targets], tf.float32)
    module.call = tf.function(lambda **inputs: {"image": function(**inputs)})
    signature = module.call.get_concrete_function(**specs)
    tf.saved_model.save(module, str(folder), {name: signature, "serving_default": signature})
    if card is not None:
        (folder / "card.json").write_text(json.dumps({"signatures": {name: {}}, **card}))
    return folder


@pytest.fixture(scope="session")
def identity(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity")
    return save_model(folder, lambda image: image, card={"data": KNOWN}, name="harmonize")


@pytest.fixture(scope="session")
def negative(tmp_path_factory):
    """T1 is what it is, T2 its negative, "T2 / FS" all 1."""

    def function(image, target):
        share = target[:, None, None]
        return image * (share[..., :1] - share[..., 1:2]) + share[..., 2:]

    card = {"data": KNOWN, "config": {"modalities": ["T1", "T2", "T2 / FS"]}}
    return save_model(tmp_path_factory.mktemp("negative"), function, targets=3, card=card)


def brain(seed=0, shape=(20, 26, 16)):
    """A ball of noise with a hole, 100 to 900, in a background of 0; x, y, z."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    values = np.random.default_rng(seed).integers(100, 900, shape)
    return np.where((radius < 0.9) & (radius > 0.15), values, 0).astype(np.int16)


def save(path, array, orientation="LPS", spacing=(1, 1, 1)):
    """Writes an array whose axes run to the right, anterior and superior, as stored otherwise."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -7, -9.5, 4
    image = nibabel.Nifti1Image(array, affine)
    turn = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(orientation))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image.as_reoriented(turn), path)
    return path


def values(path):
    return np.array(nibabel.load(path, mmap=False).dataobj)


def expected(array):
    """What the identity makes of `brain`: its range as 0 to 1, 0 outside."""
    low, high = array[array > 0].min(), array.max()
    inside = np.zeros(array.shape, bool)
    inside[np.abs(array) > 0] = True
    scaled = (array.astype(np.float32) - low) / (high - low)
    return np.where(inside, scaled, 0)


# --- the grid ---


@pytest.mark.parametrize("planes", ["all", "axial"])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "ASL"])
def test_results_lie_exactly_on_the_grid_of_the_source(orientation, planes, identity, tmp_path):
    source = save(tmp_path / "in" / "scan.nii.gz", brain(), orientation)
    counts = apply(identity, source, tmp_path / "out", Options(planes=planes))
    assert counts == {"written": 1, "skipped": 0, "failed": 0}
    made, given = nibabel.load(tmp_path / "out/scan_harmonize.nii.gz"), nibabel.load(source)
    assert made.shape == given.shape and made.get_data_dtype() == np.float32
    np.testing.assert_array_equal(made.affine, given.affine)
    assert nibabel.aff2axcodes(made.affine) == tuple(orientation)
    np.testing.assert_allclose(values(made.get_filename()), expected(values(source)), atol=1e-5)


def test_anisotropic_voxels_are_seen_in_the_models_pixels_and_come_back(identity, tmp_path):
    x, y, z = np.meshgrid(np.arange(28) * 0.8, np.arange(24), np.arange(9) * 3.0, indexing="ij")
    smooth = (500 + 300 * np.sin(x / 6) * np.cos(y / 7) * np.cos(z / 8)).astype(np.float32)
    source = save(tmp_path / "in/a.nii", smooth, "RAS", (0.8, 1, 3))
    for size in (0.0, 0.9):
        options = Options(planes="all", overwrite=True)
        apply(identity, source, tmp_path / "out", options, pixel_spacing=size)
        error = np.abs(values(tmp_path / "out/a_harmonize.nii.gz") - expected(smooth))
        assert error[1:-1, 1:-1, 1:-1].max() < 0.05 and error.mean() < 0.01


def test_a_volume_of_one_slice_goes_in_and_out(identity, tmp_path):
    source = save(tmp_path / "in/a.nii.gz", brain()[:, :, 5:6])
    apply(identity, source, tmp_path / "out")
    made = values(tmp_path / "out/a_harmonize.nii.gz")
    assert made.shape == (20, 26, 1)
    np.testing.assert_allclose(made, expected(values(source)), atol=1e-5)


def test_what_lies_beyond_the_models_images_is_said(identity, tmp_path, capsys):
    source = save(tmp_path / "in/a.nii", brain(shape=(20, 60, 16)))
    apply(identity, source, tmp_path / "out", Options(planes="axial"))
    assert "of its anatomy lies beyond the model's images" in capsys.readouterr().out
    made, truth = values(tmp_path / "out/a_harmonize.nii.gz"), expected(values(source))
    np.testing.assert_allclose(made[:, 14:46], truth[:, 14:46], atol=1e-5)
    assert not made[:, :14].any() and not made[:, 46:].any()


# --- values ---


def test_each_target_is_a_file_of_its_own(negative, tmp_path):
    source = save(tmp_path / "in/scan.nii", brain())
    apply(negative, source, tmp_path / "out", Options(target=["T1", "T2", "T2 / FS"]))
    names = ["scan_T1.nii.gz", "scan_T2-FS.nii.gz", "scan_T2.nii.gz"]
    assert sorted(os.listdir(tmp_path / "out")) == names
    t1, fs, t2 = (values(tmp_path / "out" / name) for name in names)
    array = values(source)
    np.testing.assert_allclose(t1, expected(array), atol=1e-5)
    np.testing.assert_allclose(t2[array > 0], 1 - t1[array > 0], atol=1e-5)
    np.testing.assert_allclose(fs[array > 0], 1, atol=1e-5)
    hole = np.zeros(array.shape, bool)
    hole[6:14, 9:17, 5:11] = array[6:14, 9:17, 5:11] == 0
    assert hole.any() and (t2[hole] == 1).all()  # dark inside of the brain is no background
    assert not t2[(array == 0) & ~hole].any()


def test_the_background_can_be_translated_too(negative, tmp_path):
    source = save(tmp_path / "in/scan.nii", brain())
    apply(negative, source, tmp_path / "out", Options(target=["T2"], background="translate"))
    made, array = values(tmp_path / "out/scan_T2.nii.gz"), values(source)
    assert (made[array == 0] == 1).all()


def test_images_as_scanned_keep_what_is_dark(identity, tmp_path):
    array = np.where(brain(), brain(), 30)
    source = save(tmp_path / "in/a.nii", array)
    apply(identity, source, tmp_path / "out", foreground="otsu", normalize="zscore")
    made, given = values(tmp_path / "out/a_harmonize.nii.gz"), values(source)
    bright = given > given.mean()
    assert made[given == 30].max() < made[bright].min() and (made != 0).all()
    assert np.corrcoef(made.ravel(), given.ravel())[0, 1] == pytest.approx(1, abs=1e-5)


def test_like_gives_the_range_of_another_volume(negative, tmp_path):
    source = save(tmp_path / "in/scan.nii", brain())
    other = save(tmp_path / "t2.nii", brain(1) // 2, "RAS")
    apply(negative, source, tmp_path / "out", Options(target=["T2"], like=other))
    made, t2 = values(tmp_path / "out/scan_T2.nii.gz"), values(other)
    low, high = t2[t2 > 0].min(), t2.max()
    inside = values(source) > 0
    np.testing.assert_allclose(made[inside], low + (high - low) * (1 - expected(values(source))[inside]), rtol=1e-4)
    assert made[0, 0, 0] == 0


def test_the_range_of_another_volume_may_be_that_inside_its_mask(negative, tmp_path):
    source = save(tmp_path / "in/scan.nii", brain())
    array = brain(1) // 2
    other = save(tmp_path / "t2.nii", np.where(array, array, 9000), "RAS")
    mask = save(tmp_path / "mask.nii", (array > 0).astype(np.uint8), "RAS")
    options = Options(target=["T2"], like=other, like_mask=mask)
    apply(negative, source, tmp_path / "out", options)
    inside = values(source) > 0
    made, t2 = values(tmp_path / "out/scan_T2.nii.gz")[inside], array[array > 0]
    # The darkest of the source becomes the brightest of the other.
    assert made.max() == pytest.approx(t2.max(), rel=1e-3)
    assert made.min() == pytest.approx(t2.min(), rel=1e-3)
    with pytest.raises(ValueError, match="give that too"):
        apply(negative, source, tmp_path / "new", Options(target=["T2"], like_mask=mask))


def test_a_mask_says_what_is_brain(identity, tmp_path):
    """As of volumes whose background is not 0."""
    array = brain()
    masks = (array > 0).astype(np.uint8)
    source = save(tmp_path / "in/s1/scan.nii.gz", np.where(array, array, 5000))
    save(tmp_path / "masks/s1/scan.nii", masks)
    apply(identity, tmp_path / "in", tmp_path / "out", Options(mask=tmp_path / "masks"))
    made = values(tmp_path / "out/s1/scan_harmonize.nii.gz")
    stored = np.where(values(source) == 5000, 0, values(source))
    np.testing.assert_allclose(made, expected(stored), atol=1e-5)
    save(tmp_path / "masks/s1/scan.nii", masks[1:])
    with pytest.raises(ValueError, match="mask .* is not on the grid of .*: its shape is"):
        apply(
            identity,
            tmp_path / "in",
            tmp_path / "out",
            Options(mask=tmp_path / "masks", overwrite=True),
        )


@dataclasses.dataclass(frozen=True)
class Scan(VolumeBuilder):
    """Two subjects with the same volume, as training would get it."""

    name = "scan"
    raw_help = "A file a.nii."

    def index(self, raw_dir):
        return [Unit(n, n, Scans({"T1": str(raw_dir / "a.nii")})) for n in ("one", "two")]

    def info(self, raw_dir):
        return self.manifest(self.units(raw_dir), description="", licence="")

    def splits(self, raw_dir):
        return self.seeded_splits(self.units(raw_dir))


@pytest.mark.parametrize("dtype", ["int16", "uint8"])
@pytest.mark.parametrize("foreground", ["nonzero", "otsu"])
@pytest.mark.parametrize("normalize", ["volume", "percentile", "slice", "zscore"])
def test_the_model_sees_what_it_saw_in_training(normalize, foreground, dtype, identity, tmp_path):
    source = save(tmp_path / "in/a.nii", (brain() // (4 if dtype == "uint8" else 1)))
    builder = Scan(size=SIZE, foreground=foreground, dtype=dtype)
    folder = prepare(builder, tmp_path / "data", tmp_path / "in", workers=1)
    options = {"normalize": normalize, "shuffle": False, "drop_remainder": False, "metadata": True}
    batch = next(iter(load(folder, "train", **options)))
    seen = {int(k): image for k, image in zip(batch["slice_index"], batch["image"], strict=True)}

    model = tmp_path / "model"
    card = {"data": {"normalize": normalize, "image_dtype": dtype, "foreground": foreground}}
    save_model(model, lambda image: image, card=card)
    options = Options(planes="axial", background="translate")
    apply(model, source, tmp_path / "out", options, pixel_spacing=1)
    made = read_nifti(tmp_path / "out/a_translate.nii.gz").array
    made = made if normalize == "zscore" else 2 * made - 1
    assert len(seen) >= 14
    for index, image in seen.items():
        np.testing.assert_allclose(made[index], image[3:29, 4:24, 0], atol=1e-3)


@dataclasses.dataclass(frozen=True)
class MaskedScan(Scan):
    def index(self, raw_dir):
        image, mask = {"T1": str(raw_dir / "a.nii")}, str(raw_dir / "mask.nii")
        return [Unit(n, n, Scans(image, brain_mask=mask)) for n in ("one", "two")]


def test_outside_of_a_mask_is_what_it_was_in_training(identity, tmp_path):
    """As of z-scores, of which 0 is the mean and no background."""
    array = brain()
    inside = array > 0
    scores = np.where(inside, (array - array[inside].mean()) / array[inside].std(), -2.5)
    source = save(tmp_path / "in/a.nii", scores.astype(np.float32))
    mask = save(tmp_path / "in/mask.nii", inside.astype(np.uint8))
    builder = MaskedScan(size=SIZE, background=-6)
    folder = prepare(builder, tmp_path / "data", tmp_path / "in", workers=1)
    options = {"shuffle": False, "drop_remainder": False, "metadata": True}
    batch = next(iter(load(folder, "train", **options)))
    seen = {int(k): image for k, image in zip(batch["slice_index"], batch["image"], strict=True)}
    assert (np.asarray(batch["image"]) == -1).mean() > 0.3

    model = tmp_path / "model"
    card = {"data": {"normalize": "volume", "image_dtype": "float16", "background": -6.0}}
    save_model(model, lambda image: image, card=card)
    options = Options(planes="axial", background="translate", mask=mask)
    apply(model, source, tmp_path / "out", options, pixel_spacing=1)
    made = 2 * read_nifti(tmp_path / "out/a_translate.nii.gz").array - 1
    for index, image in seen.items():
        np.testing.assert_allclose(made[index], image[3:29, 4:24, 0], atol=1e-3)


def test_three_planes_are_more_consistent_than_one(tmp_path):
    """A model that multiplies each slice by a gain that its mean decides, as if at random."""

    def function(image):
        mean = tf.reduce_mean(image, axis=(1, 2, 3), keepdims=True)
        return image * (1 + 0.1 * tf.sin(1e4 * mean))

    model = save_model(tmp_path / "model", function, card={"data": KNOWN})
    source = save(tmp_path / "in/a.nii", brain())
    truth = expected(read_nifti(source).array)
    card = {"data": {**KNOWN, "planes": ["axial", "coronal", "sagittal"]}}
    trained_on_all = save_model(tmp_path / "all", function, card=card)
    found = {}
    for planes, path in (("axial", model), ("all", model), ("default", trained_on_all)):
        options = Options(planes=None if planes == "default" else planes, overwrite=True)
        apply(path, source, tmp_path / "out", options)
        made = read_nifti(tmp_path / "out/a_translate.nii.gz").array
        found[planes] = slice_inconsistency(made, truth, mask=truth > 0)
    assert found["axial"] > 0.01 and found["default"] == found["all"]
    # A third would be of gains that do not depend on the voxel; here dark voxels change less.
    assert found["all"] < 0.6 * found["axial"]


# --- folders ---


def test_a_folder_is_gone_through_and_what_is_there_is_left_alone(negative, tmp_path, capsys):
    for name in ("s1/T1.nii.gz", "s2/T1.nii", "s2/T2.nii", "s2/.hidden.nii", "s2/notes.txt"):
        save(tmp_path / "in" / name, brain()) if ".nii" in name else ((tmp_path / "in" / name).write_text("x"))
    output = tmp_path / "in" / "results"
    options = Options(target=["T2"], pattern="T1*")
    counts = apply(negative, tmp_path / "in", output, options)
    assert counts == {"written": 2, "skipped": 0, "failed": 0}
    found = sorted(str(path.relative_to(output)) for path in output.rglob("*.*"))
    assert found == ["s1/T1_T2.nii.gz", "s2/T1_T2.nii.gz"]
    first = output / "s1/T1_T2.nii.gz"
    first.write_bytes(b"mine")
    options = dataclasses.replace(options, target=["T2", "T1"])
    (output / "s2/T1_T1.nii.gz").write_bytes(b"mine")
    capsys.readouterr()
    counts = apply(negative, tmp_path / "in", output, options)
    assert counts == {"written": 1, "skipped": 1, "failed": 0}
    said = capsys.readouterr().out
    assert "[1/2] s1/T1.nii.gz: T1_T1.nii.gz (" in said
    assert "[2/2] s2/T1.nii: skipped, its results are there (see --overwrite)" in said
    assert first.read_bytes() == b"mine" and (output / "s1/T1_T1.nii.gz").stat().st_size > 1000
    apply(negative, tmp_path / "in", output, dataclasses.replace(options, overwrite=True))
    assert first.stat().st_size > 1000


def test_volumes_that_cannot_be_used_are_left_out_and_counted(identity, tmp_path, capsys):
    for name in ("a", "b", "c"):
        save(tmp_path / "in" / f"{name}.nii.gz", brain())
    broken = tmp_path / "in/b.nii.gz"
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(ValueError, match="b.nii.gz is truncated"):
        apply(identity, tmp_path / "in", tmp_path / "out")
    counts = apply(identity, tmp_path / "in", tmp_path / "out", Options(on_error="skip"))
    assert counts == {"written": 1, "skipped": 1, "failed": 1}
    said = capsys.readouterr().out
    assert "[2/3] b.nii.gz: failed: " in said and "1 written, 1 skipped, 1 failed" in said
    assert sorted(os.listdir(tmp_path / "out")) == ["a_harmonize.nii.gz", "c_harmonize.nii.gz"]


def test_nothing_is_left_of_a_result_that_could_not_be_written(identity, tmp_path, monkeypatch):
    def full(image, path):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    source = save(tmp_path / "in/a.nii", brain())
    monkeypatch.setattr(nibabel, "save", full)
    with pytest.raises(OSError, match="No space left"):
        apply(identity, source, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_no_text_of_the_header_is_copied(identity, tmp_path):
    source = save(tmp_path / "in/a.nii", brain())
    image = nibabel.load(source, mmap=False)
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = b"Jane Doe"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nibabel.save(nibabel.Nifti1Image(values(source), None, image.header), source)
    assert source.read_bytes().count(b"Jane Doe") == 5
    apply(identity, source, tmp_path / "out")
    made = nibabel.load(tmp_path / "out/a_harmonize.nii.gz")
    assert not made.header.extensions and b"Jane" not in made.header.binaryblock
    np.testing.assert_array_equal(made.affine, nibabel.load(source).affine)


# --- the model ---


def test_an_exported_system_translates(tmp_path):
    from tfdisent.export import export
    from tfdisent.systems.unified import Unified, UnifiedConfig

    system = Unified(UnifiedConfig(image_size=32, filters=4, discriminator_filters=4, modalities=("T1", "T2")))
    card = {"data": {"normalize": "volume", "pixel_spacing": [1.0, 1.0]}}
    path = export(system, tmp_path / "models", card=card)
    model = load_model(tmp_path / "models")  # the highest version
    assert model.targets == ("T1", "T2") and model.signature == "translate"
    assert model.image_size == (32, 32) and model.pixel_spacing == (1.0, 1.0)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32)).astype(np.float32)
    with system.averaged():
        wanted = np.asarray(system.translate(images[..., None], "T2"))[..., 0]
    # Instance norm of few pixels makes much of rounding errors.
    np.testing.assert_allclose(model.run(images, "T2"), wanted, atol=1e-3)
    assert wanted.std() > 0.02
    source = save(tmp_path / "in/scan.nii.gz", brain())
    apply(path, source, tmp_path / "out", Options(target=["all"]))
    for name in ("T1", "T2"):
        made = values(tmp_path / f"out/scan_{name}.nii.gz")
        assert made.shape == (20, 26, 16) and 0 <= made.min() and made.max() <= 1


def test_the_highest_version_is_taken(identity, tmp_path):
    for version, change in (("2", 0.0), ("10", 1.0)):
        save_model(
            tmp_path / version,
            lambda image, change=change: image * 0 + change,
            card={"data": KNOWN},
        )
    model = load_model(tmp_path)
    assert model.run(np.zeros((1, *SIZE), np.float32)).max() == 1


def test_targets_are_those_of_training(negative):
    model = load_model(negative)
    assert chosen_targets(model, ["T2", "T1", "T2"]) == ("T2", "T1")
    assert chosen_targets(model, ["all"]) == ("T1", "T2", "T2 / FS")
    assert load_model(negative, modalities=["a", "b", "c"]).targets == ("a", "b", "c")
    with pytest.raises(ValueError, match="Unknown --target=FLAIR. .* trained on T1, T2, T2 / FS"):
        chosen_targets(model, ["FLAIR"])
    with pytest.raises(ValueError, match="Give --target, once or more often, of T1, T2"):
        chosen_targets(model, [])


def test_a_model_without_targets_takes_none(identity):
    with pytest.raises(ValueError, match="Leave out --target=T2: the model's harmonize has no"):
        chosen_targets(load_model(identity), ["T2"])


def test_what_the_card_lacks_can_be_given(tmp_path):
    def function(image, target):
        return image * target[:, None, None, :1]

    model = save_model(tmp_path / "bare", function, targets=2)
    with pytest.raises(ValueError, match="does not say how .* Give --normalize=volume|percentile"):
        load_model(model)
    with pytest.raises(ValueError, match="translates to 2 modalities, .*: none. Give --modalities"):
        load_model(model, normalize="volume")
    with pytest.raises(ValueError, match="for them are: T1. Give --modalities"):
        load_model(model, normalize="volume", modalities=["T1"])
    known = {"normalize": "zscore", "modalities": ["T1", "T2"], "pixel_spacing": 2.0}
    found = load_model(model, **known)
    assert found.targets == ("T1", "T2") and found.pixel_spacing == (2.0, 2.0)
    assert load_model(model, **{**known, "pixel_spacing": 0}).pixel_spacing is None


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("{", "card.json is damaged"),
        ("[]", "not a model's card"),
        ('{"data": {"normalize": "rank"}}', "is 'rank'.*Give --normalize="),
        ('{"signatures": {"segment": {}}}', "no signature 'segment'. It offers: .*image. -> image"),
        ('{"data": {"pixel_spacing": [1, "x"]}}', "data.pixel_spacing .*expected millimetres"),
    ],
)
def test_a_card_that_cannot_be_used_is_told(card, message, tmp_path):
    model = save_model(tmp_path / "model", lambda image: image)
    (model / "card.json").write_text(card)
    known = {} if "rank" in card else {"normalize": "volume"}
    with pytest.raises(ValueError, match=message):
        load_model(model, **known)


def test_a_model_that_does_not_turn_images_into_images_says_what_it_offers(tmp_path):
    module = tf.Module()
    spec = {"condition": tf.TensorSpec([None, 3]), "style": tf.TensorSpec([None, 3])}
    module.call = tf.function(lambda condition, style: {"image": (condition + style)[..., None, None]})
    signature = module.call.get_concrete_function(**spec)
    tf.saved_model.save(module, str(tmp_path / "drai"), {"generate": signature})
    (tmp_path / "drai/card.json").write_text('{"signatures": {"generate": {}}}')
    message = r"does not turn images into images: .*offers: generate\(condition, style\) -> image"
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "drai", normalize="volume")


def test_a_model_of_several_channels_says_what_is_expected(tmp_path):
    module = tf.Module()
    module.call = tf.function(lambda image: {"image": image})
    signature = module.call.get_concrete_function(image=tf.TensorSpec([None, 8, 8, 3]))
    tf.saved_model.save(module, str(tmp_path / "model"), {"serving_default": signature})
    with pytest.raises(ValueError, match=r"\(8, 8, 3\) into \(8, 8, 3\), expected .*one\s*channel"):
        load_model(tmp_path / "model", normalize="volume")


def test_a_damaged_model_is_told(identity, tmp_path):
    with pytest.raises(OSError, match="is not a SavedModel: it has no saved_model.pb"):
        load_model(tmp_path, normalize="volume")
    (tmp_path / "saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(OSError, match="is a damaged SavedModel .*Export it again"):
        load_model(tmp_path, normalize="volume")
    (tmp_path / "saved_model.pb").write_bytes((identity / "saved_model.pb").read_bytes())
    with pytest.raises(OSError, match="is a damaged SavedModel"):
        load_model(tmp_path, normalize="volume")


# --- mistakes with volumes ---


def test_a_model_that_fails_is_told(tmp_path):
    source = save(tmp_path / "in/a.nii", brain())
    nothing = save_model(tmp_path / "nan", lambda image: image / 0 * 0, card={"data": KNOWN})
    with pytest.raises(ValueError, match="a.nii: .*finite values, received NaN"):
        apply(nothing, source, tmp_path / "out")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((4, 5, 6, 2), np.float32), "holds 2 volumes"),
        (np.full((4, 5, 6), np.nan, np.float32), "120 of 120 voxels that are not finite.*nan=zero"),
        (np.zeros((4, 5, 6), np.int16), "a.nii.gz: it is all background"),
    ],
)
def test_volumes_that_cannot_be_translated_are_told(array, message, identity, tmp_path):
    source = tmp_path / "in" / "a.nii.gz"
    source.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), source)
    with pytest.raises(ValueError, match=message):
        apply(identity, source, tmp_path / "out")
    with pytest.raises(ValueError, match="None of the volumes in .* could be used"):
        apply(identity, source, tmp_path / "out", Options(on_error="skip"))
    assert not list((tmp_path / "out").iterdir())


def test_inputs_and_outputs_must_not_meet(identity, tmp_path):
    source = save(tmp_path / "in/a.nii", brain())
    for given, output in (
        (source.parent, source.parent),
        (source, source),
        (source, source.parent),
        (source.parent, source.parent / "x" / ".."),
    ):
        (tmp_path / "in/x").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="is the input, or its folder"):
            apply(identity, given, output)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="--output=.*file is a file"):
        apply(identity, source, tmp_path / "file")
    with pytest.raises(OSError, match="Cannot write to --output=.*file/out"):
        apply(identity, source, tmp_path / "file" / "out")
    with pytest.raises(FileNotFoundError, match="--input=.* does not exist"):
        apply(identity, tmp_path / "b.nii", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="No .nii or .nii.gz file in .*='T1"):
        apply(identity, source.parent, tmp_path / "out", Options(pattern="T1*"))
    save(tmp_path / "in/a.nii.gz", brain())
    with pytest.raises(ValueError, match="a.nii.gz would have one name"):
        apply(identity, source.parent, tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_may_not_be_written_to_is_told(identity, tmp_path):
    source = save(tmp_path / "in/a.nii", brain())
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(OSError, match="Cannot write to --output"):
        apply(identity, source, tmp_path / "out")


# --- the command ---


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_help_is_quick():
    def seconds():  # of the processor, as other work may be in the way
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    started = seconds()
    out, _ = start("-m", "tfdisent.apply", "--help").communicate(timeout=60)
    assert seconds() - started < 2
    assert "--target" in out and "--planes" in out and "python -m tfdisent.apply" in out


def test_a_mistake_ends_in_one_message(tmp_path):
    command = ["-m", "tfdisent.apply", f"--model={tmp_path}"]
    process = start(*command, f"--input={tmp_path / 'a.nii'}", "--output=x")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in err
    assert err.strip() == f"error: --input={tmp_path / 'a.nii'} does not exist."
    process = start(*command)
    assert process.communicate(timeout=60)[1].startswith("error: Give --input: Volume")


def test_a_stopped_command_leaves_whole_files_goes_on_there_and_needs_no_system(negative, tmp_path):
    array = brain(shape=(60, 70, 50))
    first = save(tmp_path / "in/000.nii", array)
    for number in range(1, 200):
        os.link(first, tmp_path / "in" / f"{number:03d}.nii")
    output = tmp_path / "out"
    flags = [f"--model={negative}", f"--input={tmp_path / 'in'}", f"--output={output}"]
    code = f"""
import sys
from absl import app
from tfdisent import apply
apply.define_flags()
try:
    app.run(apply.main, ["apply", *{flags}, "--target=T2"])
finally:
    print(*sys.modules)
"""
    process = start("-c", code)
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("[3/200] 002.nii: 002_T2.nii.gz (") for line in lines)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in err
    # A SavedModel needs nothing of what its model was made of.
    loaded = out.splitlines()[-1].split()
    assert "tensorflow" in loaded
    assert not {"tfdisent.systems", "tfdisent.export", "tfdisent.training"} & set(loaded)
    done = sorted(os.listdir(output))
    assert 3 <= len(done) < 200 and all(name.endswith("_T2.nii.gz") for name in done)
    for name in done[:2] + done[-1:]:
        assert values(output / name).shape == array.shape and name[0] != "."
    counts = apply(negative, tmp_path / "in", output, Options(target=["T2"], pattern="00?.nii"))
    assert counts["skipped"] >= 3 and sum(counts.values()) == 10
