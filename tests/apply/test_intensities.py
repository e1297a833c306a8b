"""Values of volumes and results: as in training, in a range of their own, with and without background."""

import dataclasses

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from tests.apply.scans import SIZE, brain, expected, save, save_model, values
from tfdisent.apply import Options, apply
from tfdisent.apply.intensities import beyond, finished, labelled, normalized, scale_like, scale_of, stacked
from tfdisent.apply.model import load_model
from tfdisent.data.pipeline import load
from tfdisent.datasets.builder import Unit
from tfdisent.datasets.preparation import prepare
from tfdisent.datasets.volumes import Scans, VolumeBuilder
from tfdisent.intensity import scale
from tfdisent.volumes import Volume, read_nifti
from tfdisent.volumes.planes import through_planes


def test_the_background_can_be_translated_too(negative, tmp_path):
    source = save(tmp_path / "in/scan.nii", brain())
    apply(negative, source, tmp_path / "out", Options(target=["T2"], background="translate"))
    made, array = values(tmp_path / "out/scan_T2.nii.gz"), values(source)
    assert (made[array == 0] == 1).all()


def test_images_as_scanned_keep_what_is_dark(identity, tmp_path):
    array = np.where(brain(), brain(), 30)
    source = save(tmp_path / "in/a.nii", array)
    apply(identity, source, tmp_path / "out", Options(foreground="otsu", normalize="zscore"))
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
    """Also in volumes whose background is not 0."""
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
    """A subject with a volume, as training would get it."""

    name = "scan"
    raw_help = "A file a.nii."

    def index(self, raw_dir):
        return [Unit("one", "one", Scans({"T1": str(raw_dir / "a.nii")}))]

    def info(self, raw_dir):
        return self.manifest(self.units(raw_dir), description="", licence="")

    def splits(self, raw_dir):
        return {"train": self.units(raw_dir)}


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
    options = Options(planes="axial", background="translate", pixel_spacing=1)
    apply(model, source, tmp_path / "out", options)
    made = read_nifti(tmp_path / "out/a_translate.nii.gz").array
    made = made if normalize == "zscore" else 2 * made - 1
    assert len(seen) >= 14
    for index, image in seen.items():
        np.testing.assert_allclose(made[index], image[3:29, 4:24, 0], atol=1e-3)


@dataclasses.dataclass(frozen=True)
class MaskedScan(Scan):
    def index(self, raw_dir):
        image, mask = {"T1": str(raw_dir / "a.nii")}, str(raw_dir / "mask.nii")
        return [Unit("one", "one", Scans(image, brain_mask=mask))]


@pytest.mark.parametrize("normalize", ["volume", "percentile", "zscore"])
def test_a_background_other_than_0_is_what_it_was_in_training(normalize, tmp_path):
    array = brain()
    inside = array > 0
    scores = np.where(inside, (array - array[inside].mean()) / array[inside].std(), -2.5)
    source = save(tmp_path / "in/a.nii", scores.astype(np.float32))
    folder = prepare(Scan(size=SIZE), tmp_path / "data", tmp_path / "in", workers=1)
    options = {"normalize": normalize, "shuffle": False, "drop_remainder": False, "metadata": True}
    batch = next(iter(load(folder, "train", **options)))
    image = dict(zip(batch["slice_index"].numpy().tolist(), batch["image"].numpy(), strict=True))[8]
    scan = normalized(read_nifti(source), load_model(_model(tmp_path, {"normalize": normalize})))
    np.testing.assert_array_equal(scan.inside, ndimage.binary_fill_holes(inside.T[:, ::-1, ::-1]))
    bounds = (-np.inf, np.inf) if normalize == "zscore" else (-1, 1)
    np.testing.assert_allclose(scan.array[8].clip(*bounds), image[3:29, 4:24, 0], atol=2e-3)
    np.testing.assert_allclose(image[0, 0, 0], scan.background, atol=2e-3)


def test_slices_as_acquired_are_those_of_training_also_resampled(tmp_path):
    a = np.radians(53)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (1, 1, 8), (-20, 30, 11)
    (tmp_path / "in").mkdir()
    source = tmp_path / "in/a.nii"
    nibabel.save(nibabel.Nifti1Image(brain(shape=(52, 60, 7)), affine), source)
    builder = Scan(size=SIZE, orientation="as_acquired", pixel_spacing=2.0)
    folder = prepare(builder, tmp_path / "data", tmp_path / "in", workers=1)
    options = {"normalize": "volume", "shuffle": False, "drop_remainder": False, "metadata": True}
    batch = next(iter(load(folder, "train", **options)))
    found = dict(zip(batch["slice_index"].numpy().tolist(), batch["image"].numpy(), strict=True))
    volume = read_nifti(source, orientation="as_acquired")
    slices = []

    model = load_model(_model(tmp_path, {"normalize": "volume", "pixel_spacing": 2.0}))

    def remember(images):
        slices.extend(model.run(images[..., None])["image"])
        return images

    scan = normalized(volume, model)
    through_planes(
        scan.array, remember, SIZE, spacing=volume.spacing, pixel_spacing=2.0, planes=("axial",), constant=-1.0
    )
    assert len(found) == 5  # the first and the last slice are empty
    for index, image in found.items():
        np.testing.assert_allclose(slices[index], image, atol=4e-3)  # stored are whole numbers, rounded once an axis


@pytest.mark.parametrize("normalize", ["volume", "percentile", "zscore"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_range_is_that_of_pixels_of_the_models_size_as_in_training(masked, normalize, tmp_path):
    """Where pixels become larger, extremes become smaller, and what is bright in one voxel alone is in range again."""
    array = brain(shape=(52, 60, 7)).astype(np.float32)
    bright = np.random.default_rng(3).random(array.shape) < 0.02
    array[bright & (array > 0)] *= 4
    source = save(tmp_path / "in/a.nii", array)
    inside = read_nifti(source).array > 0
    mask = inside if masked else None
    save(tmp_path / "in/mask.nii", (array > 0).astype(np.uint8))
    builder = (MaskedScan if masked else Scan)(size=SIZE, pixel_spacing=2.0, dtype="float32")
    folder = prepare(builder, tmp_path / "data", tmp_path / "in", workers=1)
    options = {"normalize": normalize, "shuffle": False, "drop_remainder": False, "metadata": True}
    batch = next(iter(load(folder, "train", **options)))
    zero, unit = (float(value) for value in scale(batch["intensity"][0, 0].numpy(), normalize))
    known = {"normalize": normalize, "image_dtype": "float32"}
    models = [
        load_model(_model(tmp_path / name, known | more)) for name, more in (("2", {"pixel_spacing": 2.0}), ("", {}))
    ]
    (found, on_the_files_grid) = (scale_of(read_nifti(source), model, mask) for model in models)
    np.testing.assert_allclose(found, (zero, unit), rtol=1e-5)
    assert on_the_files_grid.unit > 1.05 * unit
    assert scale_like(source, tmp_path / "in/mask.nii" if masked else None, models[0]) == found
    # Nor is anything cut off before it is brought to these pixels.
    volume, seen = read_nifti(source), []

    def remember(images):
        seen.extend(models[0].run(images[..., None])["image"])
        return images

    scan = normalized(volume, models[0], mask)
    through_planes(
        scan.array,
        remember,
        SIZE,
        spacing=volume.spacing,
        pixel_spacing=2.0,
        planes=("axial",),
        constant=scan.background,
    )
    for index, image in zip(batch["slice_index"].numpy().tolist(), batch["image"].numpy(), strict=True):
        np.testing.assert_allclose(seen[index], image, atol=1e-4)


def _model(folder, data):
    return save_model(folder / "model", lambda image: image, card={"data": data})


def test_outside_of_a_mask_is_what_it_was_in_training(identity, tmp_path):
    """Such as in volumes of z-scores, where 0 is the mean and not the background."""
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
    options = Options(planes="axial", background="translate", mask=mask, pixel_spacing=1)
    apply(model, source, tmp_path / "out", options)
    made = 2 * read_nifti(tmp_path / "out/a_translate.nii.gz").array - 1
    for index, image in seen.items():
        np.testing.assert_allclose(made[index], image[3:29, 4:24, 0], atol=1e-3)


# --- several inputs ---


def seen(model, **arrays):
    return stacked({name: normalized(Volume(array, np.eye(4)), model) for name, array in arrays.items()}, model)


def test_each_input_is_normalised_by_itself(segmenter):
    model = load_model(segmenter)
    one, other = brain().T, brain(1).T * 30 + 2 * (brain(1).T > 0)
    stack = seen(model, T2=other, T1=one)
    for index, array in enumerate((one, other)):
        low, high = array[array > 0].min(), array.max()
        inside = array > 0
        wanted = 2 * (array[inside] - low) / (high - low) - 1
        np.testing.assert_allclose(stack.array[..., index][inside], wanted, atol=1e-5)
    assert stack.available == (1, 1) and stack.array.shape == (*one.shape, 2)


@pytest.mark.parametrize(("normalize", "filling"), [("volume", -1), ("slice", -1), ("zscore", 0)])
def test_a_missing_input_is_filled_with_what_it_was_in_training(normalize, filling, segmenter):
    model = load_model(segmenter, normalize=normalize)
    stack = seen(model, T2=brain().T)
    assert stack.available == (0, 1) and stack.background[0] == filling
    assert (stack.array[..., 0] == filling).all() and stack.array[..., 1].std() > 0.1


def test_anatomy_is_where_any_input_has_it(segmenter):
    one, other = np.zeros((2, 4, 5, 6), np.float32)
    one[1, 1:3, 2], other[2, 2, 2:4] = (3, 4), (5, 9)
    stack = seen(load_model(segmenter), T1=one, T2=other)
    np.testing.assert_array_equal(stack.anatomy, (one > 0) | (other > 0))
    np.testing.assert_array_equal(stack.inside, stack.anatomy)
    made = np.where(one > 0, np.float32(0.5), np.nan)
    assert beyond(made, stack) == 0.5
    image = finished(made, stack, load_model(segmenter), None, True)
    np.testing.assert_array_equal(image, np.where(one > 0, 0.75, 0))


def test_labels_are_the_likeliest_classes_and_0_where_there_is_no_answer_or_background(segmenter):
    volume = np.zeros((1, 1, 5), np.float32)
    volume[..., 1:] = 1, 2, 3, 4
    stack = seen(load_model(segmenter), T1=volume)
    made = np.array([[0, 1, 0], [0.2, 0.3, 0.5], [0.4, 0.35, 0.25], [0, 1, 0], [np.nan] * 3], np.float32)[None, None]
    found = labelled(made, stack, True)
    assert found.dtype == np.uint8 and found.ravel().tolist() == [0, 2, 0, 1, 0]
    assert labelled(made, stack, False).ravel().tolist() == [1, 2, 0, 1, 0]
