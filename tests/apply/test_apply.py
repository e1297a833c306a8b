"""Models with known effects on volumes with known answers: the grid, the planes, images and labels, the command."""

import dataclasses
import errno
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from scipy import ndimage

from tests.apply.scans import KNOWN, brain, expected, save, save_model, values
from tfdisent.apply import Options, apply, results
from tfdisent.apply.model import load_model
from tfdisent.commands import apply as command
from tfdisent.familiarity import Familiar, scan_statistics
from tfdisent.volumes import read_nifti
from tfdisent.volumes.planes import slice_inconsistency

ROOT = pathlib.Path(__file__).parents[2]


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


@pytest.mark.parametrize("is_told_by", ["card", "option"])
def test_an_oblique_stack_is_translated_as_acquired_on_its_own_grid(is_told_by, identity, tmp_path):
    array = brain(shape=(26, 20, 7))
    a, b = np.radians((53, 20))
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (1, 1, 8), (-20, 30, 11)
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "in/sax.nii.gz")
    mask = nibabel.Nifti1Image((array > 0).astype(np.uint8), affine).as_reoriented(np.array([[1, -1], [0, 1], [2, 1]]))
    nibabel.save(mask, tmp_path / "mask.nii.gz")
    with pytest.raises(ValueError, match="sax.nii.gz is oblique: .* orientation=as_acquired takes its own slices"):
        apply(identity, tmp_path / "in", tmp_path / "out", Options(on_error="fail"))
    known = KNOWN | ({"orientation": "as_acquired"} if is_told_by == "card" else {})
    model = save_model(tmp_path / "model", lambda image: image, card={"data": known}, name="harmonize")
    options = {} if is_told_by == "card" else {"orientation": "as_acquired"}
    apply(model, tmp_path / "in", tmp_path / "out", Options(mask=tmp_path / "mask.nii.gz", **options))
    made, given = nibabel.load(tmp_path / "out/sax_harmonize.nii.gz"), nibabel.load(tmp_path / "in/sax.nii.gz")
    np.testing.assert_array_equal(made.affine, given.affine)
    np.testing.assert_allclose(values(made.get_filename()), expected(array), atol=1e-5)
    with pytest.raises(ValueError, match="--planes=all needs slices along the body's axes"):
        apply(model, tmp_path / "in", tmp_path / "out", Options(planes="all", orientation="as_acquired"))


def test_anisotropic_voxels_are_seen_in_the_models_pixels_and_come_back(identity, tmp_path):
    x, y, z = np.meshgrid(np.arange(28) * 0.8, np.arange(24), np.arange(9) * 3.0, indexing="ij")
    smooth = (500 + 300 * np.sin(x / 6) * np.cos(y / 7) * np.cos(z / 8)).astype(np.float32)
    source = save(tmp_path / "in/a.nii", smooth, "RAS", (0.8, 1, 3))
    for size in (0.0, 0.9):
        options = Options(planes="all", overwrite=True, pixel_spacing=size)
        apply(identity, source, tmp_path / "out", options)
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


def seen(array):
    """A scan as the model sees it: (S, H, W) in [-1, 1]."""
    low, high = array[array > 0].min(), array.max()
    return np.where(array > 0, 2 * (array - low) / (high - low) - 1, -1).transpose(2, 1, 0)


def test_a_volume_that_is_unlike_those_of_the_training_is_warned_of(tmp_path, capsys):
    training = np.stack([scan_statistics(seen(brain(seed))) for seed in range(12)])
    card = {"data": KNOWN, "familiar": Familiar.of(training, "Verio").to_card()}
    model = save_model(tmp_path / "model", lambda image: image, card=card)
    like, unlike = brain(20), (brain(21) / 30.0) ** 2
    for name, array in (("like", like), ("unlike", unlike)):
        apply(model, save(tmp_path / f"in/{name}.nii", array), tmp_path / "out", Options(batch_size=5))
        said = capsys.readouterr().out
        assert ("from the 12 training scans of Verio as the farthest" in said) == (name == "unlike"), said
    apply(model, tmp_path / "in/unlike.nii", tmp_path / "all", Options(planes="all"))
    assert "warning" not in capsys.readouterr().out  # of planes without training nothing is known


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


def test_an_exported_system_translates(tmp_path):
    from tfdisent.export import export
    from tfdisent.systems.unified import Unified, UnifiedConfig

    system = Unified(UnifiedConfig(image_size=32, filters=4, discriminator_filters=4, modalities=("T1", "T2")))
    card = {"data": {"normalize": "volume", "pixel_spacing": [1.0, 1.0]}}
    path = export(system, tmp_path / "models", card=card)
    written = json.loads((path / "card.json").read_text())
    assert written["inputs"] == ["image"]
    assert written["outputs"] == {"image": {"kind": "image", "names": ["T1", "T2"]}}
    assert "| output | `image` | image | T1, T2 |" in (path / "README.md").read_text()
    model = load_model(tmp_path / "models")  # the highest version
    assert model.targets == ("T1", "T2") and model.signature == "translate"
    assert model.image_size == (32, 32) and model.pixel_spacing == (1.0, 1.0)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32)).astype(np.float32)
    with system.averaged():
        wanted = np.asarray(system.translate(images[..., None], "T2"))[..., 0]
    # Instance norm of few pixels makes much of rounding errors.
    np.testing.assert_allclose(model.run(images[..., None], "T2")["image"][..., 0], wanted, atol=1e-3)
    assert wanted.std() > 0.02
    source = save(tmp_path / "in/scan.nii.gz", brain())
    apply(path, source, tmp_path / "out", Options(target=["all"]))
    for name in ("T1", "T2"):
        made = values(tmp_path / f"out/scan_{name}.nii.gz")
        assert made.shape == (20, 26, 16) and 0 <= made.min() and made.max() <= 1


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


def test_a_file_that_cannot_be_used_does_not_end_the_folder_and_is_listed(identity, tmp_path, capsys):
    for name in ("a", "b", "c"):
        save(tmp_path / "in" / f"{name}.nii.gz", brain())
    broken = tmp_path / "in/b.nii.gz"
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(ValueError, match="b.nii.gz is truncated"):
        apply(identity, tmp_path / "in", tmp_path / "out", Options(on_error="fail"))
    with pytest.raises(SystemExit) as stop:
        command.run([f"--model={identity}", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"])
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "[2/3] b.nii.gz: failed: " in said and "1 written, 1 skipped, 1 failed" in said
    assert "failed:\n    b.nii.gz: " in said
    assert sorted(os.listdir(tmp_path / "out")) == ["a_harmonize.nii.gz", "c_harmonize.nii.gz"]


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("too deep"), KeyError("x"), PermissionError(13, "No")])
def test_whatever_error_a_file_raises_does_not_end_the_folder(error, identity, tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        save(tmp_path / "in" / f"{name}.nii.gz", brain())
    read = results.read_case

    def reads(case, *arguments, **options):
        if case.label == "a.nii.gz":
            raise error
        return read(case, *arguments, **options)

    monkeypatch.setattr(results, "read_case", reads)
    assert apply(identity, tmp_path / "in", tmp_path / "out") == {"written": 1, "skipped": 0, "failed": 1}
    assert "[1/2] a.nii.gz: failed: " in capsys.readouterr().out


def test_a_full_disk_ends_the_folder_at_once(identity, tmp_path, monkeypatch):
    def full(image, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("a", "b"):
        save(tmp_path / "in" / f"{name}.nii", brain())
    monkeypatch.setattr(nibabel, "save", full)
    with pytest.raises(OSError, match="No space left"):
        apply(identity, tmp_path / "in", tmp_path / "out")


def test_the_first_bytes_of_a_file_say_whether_it_is_gzipped_and_not_its_name(identity, tmp_path):
    plain, packed = save(tmp_path / "plain.nii", brain(), "RAS"), save(tmp_path / "packed.nii.gz", brain(1), "ASL")
    (tmp_path / "in").mkdir()
    plain.rename(tmp_path / "in/plain.nii.gz")
    packed.rename(tmp_path / "in/PACKED.NII")
    assert apply(identity, tmp_path / "in", tmp_path / "out")["written"] == 2
    for name, seed, orientation in (("plain", 0, "RAS"), ("PACKED", 1, "ASL")):
        made = nibabel.load(tmp_path / f"out/{name}_harmonize.nii.gz")
        assert nibabel.aff2axcodes(made.affine) == tuple(orientation)
        whole = read_nifti(tmp_path / f"out/{name}_harmonize.nii.gz").array
        np.testing.assert_allclose(whole, expected(brain(seed)).T[:, ::-1, ::-1], atol=1e-5)


def test_masks_among_the_images_are_left_out_unless_they_are_asked_for(identity, tmp_path, capsys):
    labels = (brain() > 0) * np.int16(3)
    labels[:10] //= 3
    for name in ("s1/T1.nii.gz", "s2/T1_masked.nii"):
        save(tmp_path / "in" / name, brain())
    by_name = ["s1/gt.nii.gz", "s1/T1_seg.nii", "s2/brainmask.nii", "labelsTr/s1.nii.gz", "s2/sub-2_dseg.nii.gz"]
    for name in [*by_name, "s2/truth.nii"]:
        save(tmp_path / "in" / name, labels)
    save(tmp_path / "in/s3.nii.gz", labels.astype(np.float32))
    assert apply(identity, tmp_path / "in", tmp_path / "out") == {"written": 2, "skipped": 2, "failed": 0}
    said = capsys.readouterr().out
    assert "5 left out, masks or label maps by their names (" in said and "--masks_too takes them" in said
    assert "s2/truth.nii: skipped, truth.nii is a mask or label map: all of its values are a few whole numbers" in said
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.nii.gz"))
    assert made == ["s1/T1_harmonize.nii.gz", "s2/T1_masked_harmonize.nii.gz"]
    counts = apply(identity, tmp_path / "in", tmp_path / "out", Options(masks_too=True))
    assert counts == {"written": 7, "skipped": 2, "failed": 0}
    # Named, it is asked for.
    assert apply(identity, tmp_path / "in/s1/gt.nii.gz", tmp_path / "one")["written"] == 1


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
    shutil.copy(source, source.with_name("b.nii.gz"))
    with pytest.raises(ValueError, match=f"None of the 2 cases of .* could be used. The first: a.nii.gz: .*{message}"):
        apply(identity, source.parent, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


# --- several inputs, images and labels ---


def tissue(t1, t2=None):
    """What the segmenter makes of volumes: bright in T1 is 1, bright in T2, if it is there, 2."""
    found = np.zeros(t1.shape, int)
    for label, array in ((1, t1), (2, t2)):
        if array is not None:
            found[array > (array[array > 0].min() + array.max()) / 2] = label
    return found


@pytest.mark.parametrize("planes", ["axial", "all"])
def test_two_inputs_give_an_image_and_labels_on_the_grid_of_the_first(planes, segmenter, tmp_path, capsys):
    t1 = save(tmp_path / "in/s1_T1.nii", brain(), "PSR")
    t2 = save(tmp_path / "in/s1_T2.nii", 7 * brain(1), "RAS")
    apply(segmenter, {"T1": t1, "T2": t2}, tmp_path / "out", Options(planes=planes))
    assert sorted(os.listdir(tmp_path / "out")) == ["s1_segment.nii.gz", "s1_tissue.json", "s1_tissue.nii.gz"]
    assert "[1/1] s1: s1_segment.nii.gz, s1_tissue.nii.gz (" in capsys.readouterr().out
    labels, image = (nibabel.load(tmp_path / f"out/s1_{name}.nii.gz") for name in ("tissue", "segment"))
    for made in (labels, image):
        np.testing.assert_array_equal(made.affine, nibabel.load(t1).affine)
    assert labels.get_data_dtype() == np.uint8 and image.get_data_dtype() == np.float32
    one, other = read_nifti(t1).array, read_nifti(t2).array
    found = read_nifti(labels.get_filename(), labels=True).array
    np.testing.assert_array_equal(found, tissue(one, other))
    assert set(np.unique(found)) == {0, 1, 2}
    mean = (expected(one) + expected(other)) / 2
    np.testing.assert_allclose(read_nifti(image.get_filename()).array, mean, atol=1e-5)
    sidecar = json.loads((tmp_path / "out/s1_tissue.json").read_text())
    assert sidecar == {"labels": {"0": "background", "1": "bright in T1", "2": "bright in T2"}}


def test_cases_of_a_table_may_lack_inputs(segmenter, tmp_path):
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        save(tmp_path / f"{name}.nii", brain(seed))
    (tmp_path / "table.csv").write_text("subject,T2,T1\nboth,b.nii,a.nii\nT1 alone,,c.nii\n")
    counts = apply(segmenter, tmp_path / "table.csv", tmp_path / "out")
    assert counts == {"written": 2, "skipped": 0, "failed": 0}
    a, b, c = (values(tmp_path / f"{name}.nii") for name in "abc")
    np.testing.assert_array_equal(values(tmp_path / "out/both_tissue.nii.gz"), tissue(a, b))
    np.testing.assert_array_equal(values(tmp_path / "out/T1 alone_tissue.nii.gz"), tissue(c))
    np.testing.assert_allclose(values(tmp_path / "out/T1 alone_segment.nii.gz"), expected(c), atol=1e-5)


def test_a_case_has_its_mask_in_the_table(needs_both, tmp_path):
    array = brain()
    mask = (array > 0).astype(np.uint8)
    mask[:, :10] = 0
    save(tmp_path / "a.nii", np.where(array, array, 5000))
    save(tmp_path / "b.nii", np.where(array, 1000 - array, 7))
    save(tmp_path / "m.nii", mask)
    (tmp_path / "table.csv").write_text("subject,T1,T2,mask\ns,a.nii,b.nii,m.nii\n")
    apply(needs_both, tmp_path / "table.csv", tmp_path / "out")
    a, inside = values(tmp_path / "a.nii"), values(tmp_path / "m.nii") > 0
    low, high = a[inside].min(), a[inside].max()
    made = values(tmp_path / "out/s_subtract.nii.gz")
    # The one is the other's negative, so their difference is twice the one, written as (x + 1) / 2.
    wanted = 2 * (a[inside].astype(float) - low) / (high - low) - 1
    np.testing.assert_allclose(made[inside], wanted + 0.5, atol=1e-4)
    assert not made[~ndimage.binary_fill_holes(inside)].any()


def test_labels_of_three_planes_are_taken_from_the_mean_of_their_probabilities(tmp_path):
    """By a model that is the surer of "low" the lower a pixel lies in its image."""

    def function(image):
        low = tf.linspace(0.0, 1.0, 16)[None, :, None, None] + 0 * image
        return {"side": tf.concat([1 - low, low], axis=-1)}

    card = {"data": KNOWN, "outputs": {"side": {"kind": "labels", "names": ["high", "low"]}}}
    model = save_model(tmp_path / "model", function, size=(16, 16), card=card)
    source = save(tmp_path / "in/a.nii", np.random.default_rng(0).uniform(1, 2, (16, 16, 16)).astype(np.float32))
    apply(model, source, tmp_path / "out", Options(planes="all"))
    # Rows run to posterior in axial slices, and to inferior in the two others.
    s, h = np.arange(16)[:, None, None], np.arange(16)[None, :, None]
    mean = np.broadcast_to((h / 15 + 2 * (15 - s) / 15) / 3, (16, 16, 16))
    found = read_nifti(tmp_path / "out/a_side.nii.gz", labels=True).array
    clear = np.abs(mean - 0.5) > 1e-4
    np.testing.assert_array_equal(found[clear], (mean > 0.5)[clear])
    votes = np.broadcast_to(s < 7.5, found.shape)
    assert (found != votes)[clear].mean() > 0.1  # what a vote of the planes' labels would give


def test_what_exists_of_several_results_is_left_as_it_is(segmenter, tmp_path):
    t1 = save(tmp_path / "in/s1_T1.nii", brain())
    apply(segmenter, {"T1": t1}, tmp_path / "out")
    first = tmp_path / "out/s1_segment.nii.gz"
    first.write_bytes(b"mine")
    (tmp_path / "out/s1_tissue.nii.gz").unlink()
    assert apply(segmenter, {"T1": t1}, tmp_path / "out")["written"] == 1
    assert first.read_bytes() == b"mine"
    np.testing.assert_array_equal(values(tmp_path / "out/s1_tissue.nii.gz"), tissue(values(t1)))
    assert apply(segmenter, {"T1": t1}, tmp_path / "out")["skipped"] == 1


def test_targets_and_outputs_both_name_results(tmp_path):
    def function(image, target):
        share = target[:, None, None, :1]
        return {"image": image * share, "edges": image * (1 - share)}

    outputs = {"image": {"kind": "image", "names": ["T1", "T2"]}, "edges": {"kind": "image"}}
    model = save_model(tmp_path / "model", function, targets=2, card={"data": KNOWN, "outputs": outputs})
    source = save(tmp_path / "in/a.nii", brain())
    apply(model, source, tmp_path / "out", Options(target=("all",)))
    names = [f"a_{name}.nii.gz" for name in ("T1", "T1_edges", "T2", "T2_edges")]
    assert sorted(os.listdir(tmp_path / "out")) == names
    t1, t1_edges, t2, t2_edges = (values(tmp_path / "out" / name) for name in names)
    np.testing.assert_array_equal(t1, t2_edges)
    np.testing.assert_array_equal(t2, t1_edges)
    assert t1.std() > 0.1 and t2.max() == 0.5  # 0 of the model's range


def test_what_no_target_changes_is_written_once_and_alone_where_none_is_named(completer, tmp_path, capsys):
    source = {"T1": save(tmp_path / "in/s1_T1.nii", brain())}
    apply(completer, source, tmp_path / "out", Options(target="all"))
    assert capsys.readouterr().out.count("s1_tissue.nii.gz") == 1
    assert sorted(os.listdir(tmp_path / "out")) == [
        "s1_T1.nii.gz",
        "s1_T2.nii.gz",
        "s1_tissue.json",
        "s1_tissue.nii.gz",
    ]
    apply(completer, source, tmp_path / "alone")
    assert sorted(os.listdir(tmp_path / "alone")) == ["s1_tissue.json", "s1_tissue.nii.gz"]
    tissue = values(tmp_path / "alone/s1_tissue.nii.gz")
    np.testing.assert_array_equal(tissue, values(tmp_path / "out/s1_tissue.nii.gz"))
    np.testing.assert_array_equal(tissue, expected(values(source["T1"])) > 0.5)
    (tmp_path / "out/s1_tissue.nii.gz").unlink()  # what is made once is made again without the rest
    before = (tmp_path / "out/s1_T1.nii.gz").stat().st_mtime_ns
    assert apply(completer, source, tmp_path / "out", Options(target="all"))["written"] == 1
    assert (tmp_path / "out/s1_T1.nii.gz").stat().st_mtime_ns == before
    np.testing.assert_array_equal(values(tmp_path / "out/s1_tissue.nii.gz"), tissue)


def test_missing_contrasts_are_those_that_each_case_lacks(completer, tmp_path):
    for name in ("a_T1", "b_T2", "c_T1", "c_T2"):
        save(tmp_path / f"in/{name}.nii", brain(ord(name[0])))
    rows = ["subject,T1,T2", "a,in/a_T1.nii,", "b,,in/b_T2.nii", "c,in/c_T1.nii,in/c_T2.nii"]
    table = tmp_path / "cases.csv"
    table.write_text("\n".join(rows))
    apply(completer, table, tmp_path / "out", Options(target="missing"))
    made = {path.name.removesuffix(".nii.gz") for path in (tmp_path / "out").glob("*.nii.gz")}
    assert made == {"a_T2", "a_tissue", "b_T1", "b_tissue", "c_tissue"}
    a, b = (values(tmp_path / "out" / name) for name in ("a_T2.nii.gz", "b_T1.nii.gz"))
    of_a, of_b = (values(tmp_path / "in" / name) for name in ("a_T1.nii", "b_T2.nii"))
    np.testing.assert_allclose(a[of_a > 0], 1 - expected(of_a)[of_a > 0], atol=1e-5)
    np.testing.assert_allclose(b, expected(of_b), atol=1e-5)


def test_a_case_that_lacks_nothing_is_skipped_where_only_missing_contrasts_are_made(tmp_path, capsys):
    def function(image, target, available):
        return image[..., :1] * target[:, None, None, :1]

    card = {"data": KNOWN, "inputs": ["T1", "T2"], "outputs": {"image": {"kind": "image", "names": ["T1", "T2"]}}}
    model = save_model(tmp_path / "m", function, channels=2, targets=2, available=True, card=card)
    sources = {name: save(tmp_path / f"in/s_{name}.nii", brain(k)) for k, name in enumerate(("T1", "T2"))}
    assert apply(model, sources, tmp_path / "out", Options(target="missing"))["skipped"] == 1
    assert "lacks none of the model's targets" in capsys.readouterr().out
    assert not os.listdir(tmp_path / "out")


def test_a_target_may_be_given_as_text_and_targets_as_any_sequence():
    assert Options(target="T2").target == Options(target=["T2"]).target == ("T2",)
    assert Options(target=["T1", "T2"]) == Options(target=("T1", "T2"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"background": "kept"}, "Expected background to be one of keep, translate; received 'kept'"),
        ({"planes": "coronal"}, "Expected planes to be one of axial, all; received 'coronal'"),
        ({"batch_size": 0}, "Expected batch_size >= 1, received 0"),
    ],
)
def test_an_option_that_does_not_exist_is_an_error(change, message):
    with pytest.raises(ValueError, match=message):
        Options(**change)


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


def test_every_option_is_a_flag_with_its_default_and_its_choices():
    values = flags.FlagValues()
    command.define(values)
    values(["apply"])
    fields = {field.name: field for field in dataclasses.fields(Options)}
    assert set(values) == {*fields, *command.REQUIRED}
    for name, field in fields.items():
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert values[name].value == default and field.metadata["help"] in values[name].help
    values(["apply", "--target=T1", "--target=T2", "--modalities=a,b", "--nooverwrite", "--pixel_spacing=0.5"])
    assert (values.target, values.modalities) == (["T1", "T2"], ["a", "b"])
    assert (values.overwrite, values.pixel_spacing) == (False, 0.5)
    for wrong in ("--planes=coronal", "--batch_size=0", "--pixel_spacing=-1"):
        with pytest.raises(flags.IllegalFlagValueError):
            values(["apply", wrong])


def test_an_input_is_a_path_or_several_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.sources(["scans/T1.nii"]) == "scans/T1.nii"
    assert command.sources(["T1=a.nii", "T2=b=c.nii"]) == {"T1": "a.nii", "T2": "b=c.nii"}
    assert command.sources(["T1=a.nii"]) == {"T1": "a.nii"}
    (tmp_path / "T1=a.nii").touch()
    assert command.sources(["T1=a.nii"]) == "T1=a.nii"  # a file of that name
    with pytest.raises(ValueError, match="--input=NAME=PATH for each of several inputs, received --input=b.nii"):
        command.sources(["T1=a.nii", "b.nii"])
    with pytest.raises(ValueError, match="--input=T1=PATH once, received a.nii and b.nii"):
        command.sources(["T1=a.nii", "T1=b.nii"])


def test_help_says_that_a_model_is_code_that_must_be_trusted():
    assert "A SavedModel is code" in command.__doc__ and "Run only\nmodels that you trust" in command.__doc__


def test_the_command_takes_several_inputs_by_name(segmenter, tmp_path):
    for name, seed in (("T1", 0), ("T2", 1)):
        save(tmp_path / f"s1_{name}.nii", brain(seed))
    inputs = [f"--input={name}={tmp_path}" for name in ("T1", "T2")]
    with pytest.raises(SystemExit) as stop:
        command.run([f"--model={segmenter}", *inputs, f"--output={tmp_path / 'out'}"])
    assert stop.value.code == 0
    t1, t2 = (values(tmp_path / f"s1_{name}.nii") for name in ("T1", "T2"))
    np.testing.assert_array_equal(values(tmp_path / "out/s1_tissue.nii.gz"), tissue(t1, t2))


def test_a_mistake_ends_in_one_message(tmp_path):
    command = ["-m", "tfdisent.apply", f"--model={tmp_path}"]
    process = start(*command, f"--input={tmp_path / 'a.nii'}", "--output=x")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in err
    assert err.strip() == f"error: --input={tmp_path / 'a.nii'} does not exist."
    process = start(*command)
    assert process.communicate(timeout=60)[1].startswith("error: Give --input: Volume")


def test_a_stopped_command_leaves_whole_files_resumes_there_and_needs_no_system(negative, tmp_path):
    array = brain(shape=(60, 70, 50))
    first = save(tmp_path / "in/000.nii", array)
    for number in range(1, 200):
        os.link(first, tmp_path / "in" / f"{number:03d}.nii")
    output = tmp_path / "out"
    flags = [f"--model={negative}", f"--input={tmp_path / 'in'}", f"--output={output}"]
    code = f"""
import sys
from tfdisent.commands import apply
try:
    apply.run([*{flags}, "--target=T2"])
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
