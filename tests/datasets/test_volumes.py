import dataclasses
import shutil

import numpy as np
import pytest

from tests.datasets.raw_volumes import LPS_1MM, assert_disjoint, brain, lesion, write
from tfdisent import volumes
from tfdisent.data import Manifest, load
from tfdisent.datasets.builder import Unit
from tfdisent.datasets.preparation import dry_run, prepare
from tfdisent.datasets.shards import verify
from tfdisent.datasets.sources import remembered
from tfdisent.datasets.splits import deal
from tfdisent.datasets.volumes import (
    Scans,
    VolumeBuilder,
)


def first_file(folder, *stems):
    """Path of the first of <stem>.nii.gz and <stem>.nii in a folder, without regard to case; "" if there is none."""
    names = {path.name.lower(): path for path in folder.iterdir()} if folder.is_dir() else {}
    for stem in stems:
        for ending in (".nii.gz", ".nii"):
            if stem.lower() + ending in names:
                return str(names[stem.lower() + ending])
    return ""


@dataclasses.dataclass(frozen=True)
class Heads(VolumeBuilder):
    """Folders with t1, t2, seg and brain, as far as they are there."""

    name = "heads"
    raw_help = "Get heads from anywhere."

    mask_labels: tuple[str, ...] = ("background", "lesion")

    def index(self, raw_dir):
        units = []
        for folder in sorted(path for path in raw_dir.iterdir() if path.is_dir()):
            images = {name: first_file(folder, name) for name in ("t1", "t2")}
            scans = Scans(
                {name: images[name] for name in self.modalities or images},
                first_file(folder, "seg"),
                first_file(folder, "brain"),
                domain="ab"[int(folder.name[1:]) % 2],
            )
            units.append(Unit(folder.name, folder.name, scans))
        return units

    def info(self, raw_dir):
        return self.manifest(self.units(raw_dir), description="Heads.")

    def splits(self, raw_dir):
        return self.seeded_splits(self.units(raw_dir))


@pytest.fixture
def heads(tmp_path):
    """Five subjects on 24 x 20 x 10 voxels of 1 mm."""
    raw = tmp_path / "raw"
    for index in range(5):
        write(raw / f"s{index}/t1.nii.gz", brain(index))
        write(raw / f"s{index}/t2.nii.gz", brain(index, scale=1000))
        write(raw / f"s{index}/seg.nii.gz", lesion())
    return raw


def records(builder, raw, tmp_path, split="train", **options):
    """Records of a split by key, and the manifest."""
    folder = prepare(builder, tmp_path / "data", raw, workers=1, **options)
    verify(folder)
    batches = load(folder, split, batch_size=1, shuffle=False, metadata=True, drop_remainder=False)
    found = {}
    for batch in batches.as_numpy_iterator():
        found[batch["key"][0].decode()] = {name: value[0] for name, value in batch.items()}
    return found, Manifest.read(folder)


def raw_examples(builder, raw, subject="s0"):
    """Examples of one subject before they are encoded, by slice."""
    units = [unit for unit in builder.units(raw) if unit.subject == subject]
    return {example["slice_index"]: example for example in builder.examples(units[0])}


def broken(builder, raw, subject="s0"):
    with pytest.raises(ValueError) as caught:
        raw_examples(builder, raw, subject)
    return str(caught.value)


def test_a_record_holds_a_slice_and_all_that_is_needed_to_put_it_back(heads, tmp_path):
    found, manifest = records(Heads(), heads, tmp_path)
    assert manifest.image_shape == (20, 24, 2) and manifest.image_dtype == "int16"
    assert manifest.modalities == ("t1", "t2") and manifest.domains == ("a", "b")
    assert manifest.options["mask_codes"] == ["0", "1"]
    assert assert_disjoint(Heads().splits(heads)).keys() == {"train", "test"}
    key, record = next(iter(found.items()))
    assert key == f"{record['subject'].decode()}/{record['slice_index']:03d}"
    assert record["num_slices"] == 10 and record["labelled"] == 1
    assert record["available"].tolist() == [1, 1]
    np.testing.assert_allclose(record["spacing"], 1)
    subject = record["subject"].decode()
    assert record["domain"] == int(subject[1:]) % 2
    for slice_index, example in raw_examples(Heads(), heads, subject).items():
        t1, t2 = (brain(int(subject[1:]), scale=scale) for scale in (100, 1000))
        np.testing.assert_array_equal(example["image"][..., 0], t1[:, :, slice_index].T)
        np.testing.assert_array_equal(example["image"][..., 1], t2[:, :, slice_index].T)
        np.testing.assert_array_equal(example["mask"][..., 0], lesion()[:, :, slice_index].T)
    inside = t2[t2 != 0]
    np.testing.assert_allclose(
        record["intensity"][1, :4],
        [inside.min(), inside.max(), inside.mean(), inside.std()],
        rtol=1e-5,
    )


def test_any_number_of_workers_writes_the_same_bytes(heads, tmp_path):
    one = prepare(Heads(), tmp_path / "one", heads, workers=1)
    two = prepare(Heads(), tmp_path / "two", heads, workers=2)
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_empty_slices_are_left_out_and_a_range_is_kept(heads):
    assert list(raw_examples(Heads(), heads)) == list(range(1, 9))
    counts = [np.count_nonzero(brain(0)[:, :, k]) for k in range(10)]
    enough = [k for k in range(10) if counts[k] >= 200]
    assert list(raw_examples(Heads(min_foreground=200), heads)) == enough
    assert list(raw_examples(Heads(slice_range=(4, 6)), heads)) == [4, 5, 6]
    assert list(raw_examples(Heads(slice_range=("8", "99"), min_foreground=0), heads)) == [8, 9]
    message = broken(Heads(min_foreground=5000), heads)
    assert "none of its 10 axial slices has 5000 pixels" in message and str(max(counts)) in message


def test_a_slice_counts_only_if_every_modality_shows_it(heads):
    t2 = brain(0, scale=1000)
    t2[:, :, 4] = 0
    write(heads / "s0/t2.nii.gz", t2)
    assert 4 not in raw_examples(Heads(), heads)


def test_neighbours_come_modality_by_modality(heads):
    builder = Heads(neighbours=1)
    assert builder.info(heads).image_shape == (20, 24, 6)
    examples = raw_examples(builder, heads)
    t1, t2 = brain(0), brain(0, scale=1000)
    for offset in (-1, 0, 1):
        np.testing.assert_array_equal(examples[4]["image"][..., 1 + offset], t1[:, :, 4 + offset].T)
        np.testing.assert_array_equal(examples[4]["image"][..., 4 + offset], t2[:, :, 4 + offset].T)
    rows = examples[4]["intensity"]
    assert (rows[:3] == rows[0]).all() and (rows[3:] == rows[3]).all() and rows[0, 0] != rows[3, 0]
    first = raw_examples(Heads(neighbours=1, min_foreground=0), heads)[0]["image"]
    np.testing.assert_array_equal(first[..., 0], first[..., 1])


def test_slices_are_cut_filled_up_and_resampled(heads):
    cut = raw_examples(Heads(size=(16, 30), background=-7), heads)[4]
    expected = brain(0)[:, :, 4].T[2:18]
    np.testing.assert_array_equal(cut["image"][:, 3:27, 0], expected)
    assert (cut["image"][:, :3] == -7).all() and (cut["image"][:, 27:] == -7).all()
    assert (cut["mask"][:, 3:27, 0] == lesion()[:, :, 4].T[2:18]).all()
    fine = Heads(pixel_spacing=0.5)
    assert fine.info(heads).image_shape == (40, 48, 2)
    example = raw_examples(fine, heads)[4]
    np.testing.assert_allclose(example["spacing"], [0.5, 0.5, 1])
    assert set(np.unique(example["mask"])) == {0, 1}
    assert (example["mask"] == 1).sum() == 64  # 4 x 4 mm


def in_other_planes(builder, raw):
    """Examples of one subject by the end of their key: "004", "coronal/004"."""
    unit = next(unit for unit in builder.units(raw) if unit.subject == "s0")
    return {example["key"].removeprefix("s0/"): example for example in builder.examples(unit)}


def test_coronal_and_sagittal_slices_stand_beside_axial_ones_superior_up(heads):
    builder = Heads(planes=("axial", "coronal", "sagittal"))
    found, axial = in_other_planes(builder, heads), raw_examples(Heads(), heads)
    assert builder.info(heads).image_shape == (20, 24, 2)
    for index, example in axial.items():
        for name, value in example.items():
            np.testing.assert_array_equal(found[f"{index:03d}"][name], value)
    t2, mask = brain(0, scale=1000), lesion()
    coronal, sagittal = found["coronal/008"], found["sagittal/013"]  # rows from above
    np.testing.assert_array_equal(coronal["image"][5:15, :, 1], t2[:, 8, ::-1].T)
    np.testing.assert_array_equal(sagittal["image"][5:15, 2:22, 1], t2[13, :, ::-1].T)
    np.testing.assert_array_equal(coronal["mask"][5:15, :, 0], mask[:, 8, ::-1].T)
    assert coronal["num_slices"] == 20 and sagittal["num_slices"] == 24
    assert sagittal["slice_index"] == 13
    np.testing.assert_array_equal(coronal["intensity"], axial[4]["intensity"])
    kinds = [key.rpartition("/")[0] for key in found]
    assert kinds == sorted(kinds) and set(kinds) == {"", "coronal", "sagittal"}


def test_slices_of_other_planes_have_the_axial_ones_pixels(heads):
    for index in range(5):  # slices 3 mm thick
        for name, scale in (("t1", 100), ("t2", 1000)):
            affine = np.diag([-1.0, -1.0, 3.0, 1.0])
            write(heads / f"s{index}/{name}.nii.gz", brain(index, scale=scale)[:, :, :5], affine)
        (heads / f"s{index}/seg.nii.gz").unlink()
    builder = Heads(planes=("coronal",))
    assert builder.info(heads).image_shape == (15, 24, 2)
    example = in_other_planes(builder, heads)["coronal/010"]
    np.testing.assert_allclose(example["spacing"], 1)
    # The middle of each thick slice is one of the voxels.
    np.testing.assert_array_equal(example["image"][1::3, :, 0], brain(0)[:, 10, 4::-1].T)


def short_axis(raw, degrees=53.0, flip=()):
    """Replaces a heads folder's volumes by stacks of 9 slices of 8 mm that are tilted about two axes; returns T1's
    values (x, y, z). Columns of a subject in `flip` run the other way.
    """
    a, b = np.radians(degrees), np.radians(20.0)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (1.5, 1.5, 8.0), (-20, 30, 11)
    shape = (24, 20, 9)
    for folder in raw.iterdir():
        index = int(folder.name[1:])
        sign = -1 if index in flip else 1
        own = affine @ np.diag([sign, 1, 1, 1])
        write(folder / "t1.nii.gz", brain(index, shape)[::sign], own)
        # On the same grid, stored with its first axis the other way round.
        mirrored = own @ [[-1, 0, 0, 23], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        write(folder / "t2.nii.gz", brain(index, shape, 1000)[::-sign], mirrored)
        write(folder / "seg.nii.gz", lesion(shape)[::sign], own)
    return brain(0, shape), affine


def test_slices_of_an_oblique_stack_are_those_of_the_file_as_acquired(heads, tmp_path):
    stored, affine = short_axis(heads)
    assert "orientation=as_acquired" in broken(Heads(), heads)
    builder = Heads(orientation="as_acquired")
    found, manifest = records(builder, heads, tmp_path)
    assert manifest.image_shape == (20, 24, 2) and manifest.options["orientation"] == "as_acquired"
    example = raw_examples(builder, heads)[4]
    np.testing.assert_array_equal(example["image"][..., 0], stored[:, :, 4].T)
    np.testing.assert_array_equal(example["image"][..., 1], brain(0, (24, 20, 9), 1000)[:, :, 4].T)
    np.testing.assert_array_equal(example["mask"][..., 0], lesion((24, 20, 9))[:, :, 4].T)
    np.testing.assert_allclose(example["spacing"], (1.5, 1.5, 8), rtol=1e-6)
    for record in found.values():
        np.testing.assert_allclose(record["directions"].T * (1.5, 1.5, 8), affine[:3, :3], atol=1e-5)
    assert not any(unit.note for unit in builder.units(heads))


def test_stacks_that_lie_otherwise_than_most_are_noted(heads):
    short_axis(heads, flip=(3,))
    noted = [unit.note for unit in Heads(orientation="as_acquired").units(heads) if unit.note]
    assert len(noted) == 1 and noted[0].startswith("s3: columns, rows and slices run to ")
    assert "those of most to" in dry_run(Heads(orientation="as_acquired"), heads)


def test_files_too_large_are_left_out_by_their_headers(heads, tmp_path):
    write(heads / "s3/t1.nii.gz", brain(3, (60, 60, 60)))
    folder = prepare(Heads(max_gigabytes=1e-4), tmp_path / "data", heads, workers=1, on_error="skip")
    (skipped,) = Manifest.read(folder).skipped
    assert skipped["key"] == "s3" and "s3/t1.nii.gz has the shape" in skipped["reason"]
    assert "raise max_gigabytes" in skipped["reason"]
    assert Manifest.read(folder).image_shape == (20, 24, 2)


def test_a_background_other_than_zero_is_found_said_and_padded_with(heads, capsys):
    values = brain(0).astype(np.float32)
    inside = values != 0
    values[inside] = (values[inside] - values[inside].mean()) / values[inside].std()
    values[~inside] = -3.25
    write(heads / "s0/t1.nii.gz", values)
    write(heads / "s0/t2.nii.gz", np.where(inside, -values, -3.25).astype(np.float32))
    examples = raw_examples(Heads(size="30x30"), heads)
    assert list(examples) == list(range(1, 9))  # the first and the last slice are empty
    image = examples[4]["image"][..., 0]
    assert (image[:5] == -3.25).all() and (image[:, -3:] == -3.25).all()
    np.testing.assert_allclose(examples[4]["intensity"][0, 2:4], (0, 1), atol=1e-3)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "are -3.25, which is taken for its background" in said and "s0/t1.nii.gz" in said


def test_n4_corrects_stacks_of_any_number_of_slices(heads):
    for count in (1, 2, 3, 5, 7):
        for name in ("t1", "t2"):
            write(heads / f"s0/{name}.nii.gz", brain(0, (24, 20, 9))[:, :, 1 : 1 + count])
        (heads / "s0/seg.nii.gz").unlink(missing_ok=True)
        assert len(raw_examples(Heads(n4=4), heads)) == count


def test_a_range_of_slices_is_one_of_axial_slices(heads):
    builder = Heads(planes=("sagittal", "axial"), slice_range=(4, 5))
    keys = list(in_other_planes(builder, heads))
    assert [key for key in keys if "/" not in key] == ["004", "005"]
    assert len(keys) > 12 and keys[0].startswith("sagittal/")


def test_all_planes_are_prepared_and_read(heads, tmp_path):
    found, manifest = records(Heads(planes=("axial", "coronal")), heads, tmp_path)
    assert manifest.options["planes"] == ["axial", "coronal"]
    assert {"/coronal/" in key for key in found} == {True, False}


def test_slices_are_as_large_as_the_largest_unless_told(heads):
    write(heads / "s9/t1.nii.gz", brain(9, (30, 26, 8)))
    write(heads / "s9/t2.nii.gz", brain(9, (30, 26, 8), 1000))
    assert Heads().info(heads).image_shape == (26, 30, 2)
    assert raw_examples(Heads(), heads)[4]["image"].shape == (26, 30, 2)


def test_one_image_of_two_subjects_or_of_two_modalities_is_a_problem(heads):
    shutil.copy(heads / "s1/t1.nii.gz", heads / "s3/t1.nii.gz")
    shutil.copy(heads / "s2/t1.nii.gz", heads / "s2/t2.nii.gz")
    problems = {unit.key: unit.problem for unit in Heads().units(heads) if unit.problem}
    assert problems.keys() == {"s1", "s2", "s3"}
    assert problems["s1"] == problems["s3"]
    assert (
        f"{heads / 's1/t1.nii.gz'} and {heads / 's3/t1.nii.gz'}: one image is t1 of s1 and t1 of s3" in problems["s1"]
    )
    assert "one image is t1 of s2 and t2 of s2" in problems["s2"]
    write(heads / "s3/t1.nii.gz", brain(33))  # label maps may be the same, as those of s1 and s3 are
    assert "s3" not in {unit.key for unit in Heads().units(heads) if unit.problem}


def test_a_preparation_opens_each_file_once_for_its_header_and_once_for_its_content(heads, tmp_path, monkeypatch):
    read, original = [], volumes.read_header

    def counting(path, **options):
        read.append(path)
        return original(path, **options)

    monkeypatch.setattr("tfdisent.datasets.volumes._header", remembered(counting))
    builder = Heads()
    for _ in range(2):
        builder.info(heads), builder.splits(heads), dry_run(builder, heads)
    assert len(read) == len(set(read)) == 10
    write(heads / "s1/t1.nii.gz", brain(9, (30, 26, 10)))  # another file, which is read again
    assert builder.info(heads).image_shape == (26, 30, 2) and len(read) == 11


def test_classes_and_domains_that_are_numbers_sort_as_numbers(heads):
    units = Heads().units(heads)
    units = [
        unit._replace(source=unit.source._replace(label=label, domain=label))
        for unit, label in zip(units, ("10", "2", "1", "2", "10"), strict=True)
    ]
    manifest = Heads().manifest(units)
    assert manifest.labels == manifest.domains == ("1", "2", "10")


def test_names_of_subjects_that_are_nearly_the_same_get_a_note(heads):
    (heads / "s1").rename(heads / "s04")
    notes = {unit.subject: unit.note for unit in Heads().units(heads) if unit.note}
    assert notes == {"s4": "s04 and s4 are taken as two subjects. Write them alike if they are one."}
    assert f"note: {notes['s4']}" in dry_run(Heads(), heads)


def test_where_no_subject_is_left_the_problems_are_told(heads, tmp_path):
    for path in heads.rglob("t2.nii.gz"):
        path.unlink()
    for on_error in ("fail", "skip"):
        with pytest.raises(ValueError, match="(?s)problem: s0 has no t2.*problem: s4 has no t2.*no subject is left"):
            prepare(Heads(), tmp_path / "data", heads, workers=1, on_error=on_error)


def test_integers_are_stored_as_int16_and_fractions_as_float32(heads):
    write(heads / "s1/t1.nii.gz", brain(1) / 64, dtype=np.float32)
    info = Heads().info(heads)
    assert info.image_dtype == "float32"
    assert raw_examples(Heads(), heads, "s1")[4]["image"].dtype == np.float32
    assert raw_examples(Heads(dtype="float16"), heads, "s1")[4]["image"].dtype == np.float16
    assert "s1/t1.nii.gz holds fractions" in broken(Heads(dtype="int16"), heads, "s1")
    write(heads / "s1/t1.nii.gz", brain(1).astype(np.float32), dtype=np.float32)
    assert raw_examples(Heads(dtype="int16"), heads, "s1")[4]["image"].dtype == np.int16
    write(heads / "s2/t1.nii.gz", brain(1).astype(np.int32) * 500, dtype=np.int32)
    message = broken(Heads(dtype="int16"), heads, "s2")
    assert "holds values from 0 to" in message and "Use dtype=float32" in message


def test_unsigned_integers_beyond_int16_lead_to_float32(heads):
    array = brain(1).astype(np.uint16)
    array[10, 10, 4:6] = 65535, 40000
    write(heads / "s1/t1.nii.gz", array, dtype=np.uint16)
    assert "Use dtype=float32" in broken(Heads(), heads, "s1")
    found = raw_examples(Heads(dtype="float32"), heads, "s1")
    assert found[4]["image"].max() == 65535 and found[5]["image"].max() == 40000
    assert "Use dtype=int16" in broken(Heads(dtype="uint8"), heads, "s2")


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e-3, 1, 1e6, 1e12])
@pytest.mark.parametrize("tail", ["none", "hot spot", "offset"])
def test_stored_values_are_those_of_the_file_whatever_their_unit(heads, tmp_path, unit, tail):
    """As of diffusion, perfusion and PET: float maps with a few very large values, or a large constant in them."""
    anatomy, files = brain(0) > 0, {}
    for index in range(5):
        array = np.random.default_rng(index).gamma(2, unit, anatomy.shape)
        if tail == "hot spot":
            array[10, 10, 4] = 1000 * unit
        if tail == "offset":
            array += 100 * unit
        files[f"s{index}"] = np.where(anatomy, array, 0).astype(np.float32)
        write(heads / f"s{index}/t1.nii.gz", files[f"s{index}"], dtype=np.float32)
    builder = Heads(modalities=("t1",), size=(20, 24))
    folder = prepare(builder, tmp_path / "data", heads, workers=1)
    scores = load(folder, batch_size=1, shuffle=False, metadata=True, normalize="zscore")
    for batch in scores.as_numpy_iterator():
        whole = files[batch["subject"][0].decode()].astype(np.float64)
        expected = (whole - whole[anatomy].mean()) / whole[anatomy].std()
        expected = expected[..., batch["slice_index"][0]].T
        assert np.abs(batch["image"][0, ..., 0] - expected).max() < 1e-3
    for number, example in raw_examples(builder, heads, "s1").items():
        stored = example["image"][..., 0].astype(np.float64)
        error = np.abs(stored - files["s1"][..., number].T).max()
        assert error < files["s1"][anatomy].std(dtype=np.float64) / 1000


def test_float16_is_refused_where_it_would_lose_more_than_a_thousandth(heads):
    write(heads / "s1/t1.nii.gz", brain(1) * 1e-9, dtype=np.float32)
    message = broken(Heads(dtype="float16"), heads, "s1")
    assert "s1/t1.nii.gz holds values that float16 rounds by" in message and "Use dtype=float32" in message
    write(heads / "s1/t1.nii.gz", brain(1) * 1e3, dtype=np.float32)
    assert "values from 0 to" in (message := broken(Heads(dtype="float16"), heads, "s1"))
    assert "Use dtype=float32" in message


def test_a_brain_mask_blanks_what_is_outside_and_bounds_the_statistics(heads):
    inside = np.zeros((24, 20, 10), np.uint8)
    inside[8:16, 6:14, 3:7] = 1
    write(heads / "s0/brain.nii.gz", inside)
    examples = raw_examples(Heads(background=-1), heads)
    assert list(examples) == [3, 4, 5, 6]
    image = examples[4]["image"][..., 0]
    assert (image[6:14, 8:16] > 0).all() and (image == -1).sum() == 20 * 24 - 64
    values = brain(0)[inside == 1]
    np.testing.assert_allclose(examples[4]["intensity"][0, 2], values.mean(), rtol=1e-6)


def test_n4_is_applied_before_the_statistics(heads):
    plain, corrected = (raw_examples(Heads(n4=n4), heads)[4] for n4 in (0, 2))
    assert (plain["image"] != corrected["image"]).any()
    assert corrected["image"].dtype == np.int16
    assert plain["intensity"][0, 3] != corrected["intensity"][0, 3]


def test_sagittal_files_give_axial_slices(heads):
    sagittal = np.moveaxis(brain(0), 0, 2)[:, ::-1]
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = -1, -1, -1, 1
    affine[2, 3] = 9
    # (y, z, x) with z mirrored
    for name in ("t1", "t2"):
        write(heads / f"s0/{name}.nii.gz", np.ascontiguousarray(sagittal), affine)
    (heads / "s0/seg.nii.gz").unlink()
    examples = raw_examples(Heads(), heads)
    np.testing.assert_array_equal(examples[4]["image"][..., 0], brain(0)[:, :, 4].T)
    assert examples[4]["labelled"] == 0 and not examples[4]["mask"].any()


def test_a_missing_modality_is_a_problem_or_kept_as_not_available(heads, tmp_path):
    (heads / "s3/t2.nii.gz").unlink()
    unit = next(unit for unit in Heads().units(heads) if unit.subject == "s3")
    assert unit.problem.startswith("s3 has no t2 (beside ") and "allow_missing" in unit.problem
    with pytest.raises(ValueError, match="s3 has no t2"):
        prepare(Heads(), tmp_path, heads, workers=1)
    folder = prepare(Heads(), tmp_path, heads, workers=1, on_error="skip")
    assert [entry["key"] for entry in Manifest.read(folder).skipped] == ["s3"]
    kept = Heads(allow_missing=True)
    example = raw_examples(kept, heads, "s3")[4]
    assert example["available"].tolist() == [1, 0] and not example["image"][..., 1].any()
    assert not example["intensity"][1].any()
    assert "t2                 4         1  s3" in dry_run(kept, heads)
    (heads / "s3/t1.nii.gz").unlink()
    assert next(u for u in kept.units(heads) if u.subject == "s3").problem


def test_grids_that_differ_are_errors_that_name_both_files(heads):
    write(heads / "s0/t2.nii.gz", brain(0, (24, 20, 11)))
    message = broken(Heads(), heads)
    assert "s0/t2.nii.gz is not on the grid of" in message and "s0/t1.nii.gz" in message
    assert "(24, 20, 11), expected (24, 20, 10)" in message
    moved = LPS_1MM.copy()
    moved[0, 3] = 5
    write(heads / "s1/seg.nii.gz", lesion(), moved)
    message = broken(Heads(), heads, "s1")
    assert "s1/seg.nii.gz is not on the grid of" in message and "up to 5 mm elsewhere" in message
    write(heads / "s2/brain.nii.gz", lesion((24, 20, 9)))
    assert "s2/brain.nii.gz is not on the grid of" in broken(Heads(), heads, "s2")


def test_unknown_codes_of_a_mask_are_named_and_known_ones_become_ids(heads):
    labels = np.zeros((24, 20, 10), np.int16)
    labels[:4], labels[4:8], labels[8:12] = 200, 500, 600
    write(heads / "s0/seg.nii.gz", labels)
    message = broken(Heads(), heads)
    assert "s0/seg.nii.gz holds the unknown codes 200 (800 voxels), 500" in message
    parts = ("background", "myocardium", "cavities")
    cardiac = Heads(mask_labels=parts, mask_codes=("0", "200", "500|600"))
    mask = raw_examples(cardiac, heads)[4]["mask"][..., 0]
    np.testing.assert_array_equal(mask[0], [1] * 4 + [2] * 8 + [0] * 12)
    labels[0] = -1
    write(heads / "s0/seg.nii.gz", labels)
    assert "unknown codes -1" in broken(cardiac, heads)


def test_other_bad_files_name_themselves(heads, tmp_path):
    cut = (heads / "s0/t1.nii.gz").read_bytes()
    (heads / "s0/t1.nii.gz").write_bytes(cut[: len(cut) // 2])
    assert "s0/t1.nii.gz is truncated" in broken(Heads(), heads)
    write(heads / "s1/t1.nii.gz", np.zeros((24, 20, 10), np.int16))
    assert "s1/t1.nii.gz is empty" in broken(Heads(), heads, "s1")
    holes = np.where(brain(2) > 150, np.nan, brain(2))
    write(heads / "s2/t1.nii.gz", holes, dtype=np.float32)
    assert "voxels that are not finite" in broken(Heads(), heads, "s2")
    assert np.isfinite(raw_examples(Heads(nan="zero"), heads, "s2")[4]["image"]).all()
    many = Heads(test_fraction=0.4)
    folder = prepare(many, tmp_path / "data", heads, workers=1, on_error="skip")
    assert len(Manifest.read(folder).skipped) == 3


def test_wrong_options_are_errors():
    for options, message in (
        ({"size": "big"}, "size like 240x240"),
        ({"size": "10x20x30"}, "size like"),
        ({"slice_range": ("5",)}, "slice_range like 50,104"),
        ({"slice_range": (9, 5)}, "slice_range like 50,104"),
        ({"dtype": "float64"}, "dtype to be one of auto"),
        ({"nan": "skip"}, "nan to be one of fail, zero"),
        ({"foreground": "mean"}, "foreground to be one of"),
        ({"neighbours": -1}, "neighbours to be 0 to 16"),
        ({"planes": ()}, "planes to be one or more of axial, coronal, sagittal"),
        ({"planes": ("axial", "oblique")}, "planes to be one or more of"),
        ({"planes": ("axial", "axial")}, "each once"),
        ({"orientation": "oblique"}, "orientation to be one of canonical, as_acquired"),
        ({"orientation": "as_acquired", "planes": ("axial", "coronal")}, "planes to be axial"),
        ({"test_fraction": 0.6, "val_fraction": 0.4}, "leave nothing to train on"),
        ({"mask_codes": ("0",)}, "to name the same number of things"),
        ({"mask_codes": ("0", "0")}, "each code once"),
        ({"mask_codes": ("0", "one")}, "to be whole numbers"),
        ({"mask_codes": ("0", "70000")}, "to be 0 to 65535"),
        ({"modalities": ("t1", "t1")}, "each one once"),
    ):
        with pytest.raises(ValueError, match=message):
            Heads(**options)


def test_nothing_found_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="(?s)heads: nothing that fits .*Get heads"):
        Heads().splits(tmp_path)


def test_sessions_of_a_subject_stay_together_and_problems_are_reported_with_train():
    units = [Unit(f"{p}/{s}", p, Scans({})) for p in "abcd" for s in (1, 2)]
    units.append(Unit("e", "e", Scans({}), problem="no file"))
    splits = Heads(test_fraction=0.5).seeded_splits(units)
    assert len(assert_disjoint(splits)["test"]) == 2
    assert [unit.key for unit in splits["train"] if unit.problem] == ["e"]
    assert deal(units, {"train": ["a"]})["train"] == [units[0], units[1], units[-1]]


def test_domains_are_split_alike(heads):
    units = [Unit(f"p{i}", f"p{i}", Scans({}, domain="ab"[i >= 10])) for i in range(20)]
    splits = Heads(test_fraction=0.3).seeded_splits(units, by_domain=True)
    assert sorted(unit.source.domain for unit in splits["test"]) == ["a"] * 3 + ["b"] * 3
