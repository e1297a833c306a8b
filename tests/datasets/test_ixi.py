import numpy as np
import pytest

from tests.datasets.raw_volumes import assert_disjoint, brain, write
from tfdisent.data import as_arrays
from tfdisent.datasets.ixi import IXI
from tfdisent.datasets.preparation import prepare
from tfdisent.datasets.shards import verify

# As IXI stores T1: first axis posterior, second superior, third right.
PSR = np.array([[0, 0, 1.2, -12], [-0.9375, 0, 0, 10], [0, 0.9375, 0, -5], [0, 0, 0, 1]])
SMALL = {"size": "24x24", "pixel_spacing": 0, "min_foreground": 20, "n4": 0}


def scan(folder, number, site="HH", modality="T1", suffix="", values=None):
    """A sagittal file (y, z, x) of 20 x 10 x 24 voxels."""
    values = brain(number) if values is None else values
    name = f"IXI{number:03d}-{site}-{1000 + number}-{modality}{suffix}.nii.gz"
    return write(folder / name, np.moveaxis(values, 0, 2), PSR)


@pytest.fixture
def ixi(tmp_path):
    """Ten subjects of HH, ten of IOP, two of Guys; T2 of some; files that are none of ours."""
    raw = tmp_path / "raw"
    for number in range(2, 22):
        scan(raw / "IXI-T1", number, "HH" if number < 12 else "IOP")
    scan(raw / "IXI-T1", 30, "Guys"), scan(raw / "IXI-T1", 31, "Guys")
    for number in range(2, 6):
        scan(raw / "IXI-T2", number, modality="T2")
    for name in ("IXI002-HH-1002-DTI-00", "IXI002-HH-1002-MRA", "IXI002-HH-1002-T1-00"):
        write(raw / "other" / f"{name}.nii.gz", brain(0))
    return raw


def examples(builder, raw, subject):
    unit = next(unit for unit in builder.units(raw) if unit.subject == subject)
    return {example["slice_index"]: example for example in builder.examples(unit)}


def test_sites_are_domains_and_both_are_split_alike(ixi, tmp_path):
    builder = IXI(**SMALL)
    splits = builder.splits(ixi)
    found = assert_disjoint(splits)
    assert [len(found[split]) for split in ("train", "test")] == [14, 6]
    assert sorted(unit.group for unit in splits["test"]) == ["HH"] * 3 + ["IOP"] * 3
    folder = prepare(builder, tmp_path / "data", ixi, workers=1)
    manifest = verify(folder)
    assert manifest.domains == ("HH", "IOP") and manifest.modalities == ("T1",)
    assert manifest.image_shape == (24, 24, 1) and manifest.mask_labels == ()
    assert set(as_arrays(folder, "test")["domain"]) == {0, 1}
    everywhere = IXI(sites=("Guys", "HH", "IOP"), test_fraction=0.4, **SMALL)
    assert len(everywhere.units(ixi)) == 22


def test_sagittal_files_become_axial_slices_with_the_nose_up_and_right_on_the_left(ixi):
    values = np.where(brain(2) > 0, 100, 0).astype(np.int16)  # (x, y, z) from left, front, below
    values[4:7, 8:12, 4:6] = 900  # low x of the file's third axis is the patient's left
    values[10:14, 3:6, 4:6] = 500  # low y is in front
    scan(ixi / "IXI-T1", 2, values=values)
    image = examples(IXI(**SMALL), ixi, "IXI002")[4]["image"][..., 0]
    bright_rows, bright_columns = np.nonzero(image == 900)
    front_rows, _ = np.nonzero(image == 500)
    assert bright_columns.min() > 12  # the patient's left is on the right
    assert front_rows.max() < 10 < bright_rows.max()  # in front is up
    np.testing.assert_allclose(examples(IXI(**SMALL), ixi, "IXI002")[4]["spacing"], [0.9375, 1.2, 0.9375], rtol=1e-5)


def test_pixels_are_square_by_default(ixi):
    example = examples(IXI(min_foreground=20, n4=0), ixi, "IXI002")[4]
    assert example["image"].shape == (256, 256, 1)
    np.testing.assert_allclose(example["spacing"], [1, 1, 0.9375])
    shown = np.argwhere(example["image"][..., 0] > 0)
    np.testing.assert_allclose(np.ptp(shown, 0) + 1, [20 * 0.9375 * 0.9, 24 * 1.2 * 0.9], atol=3)


def test_the_modality_is_chosen(ixi):
    builder = IXI(modality="T2", sites=("HH",), **SMALL)
    assert len(builder.units(ixi)) == 4 and builder.info(ixi).modalities == ("T2",)


def test_results_of_other_programs_come_in_by_their_suffix(ixi):
    for number in range(2, 22):
        site = "HH" if number < 12 else "IOP"
        scan(ixi / "IXI-T1", number, site, suffix="_brain")
        tissues = np.where(brain(number) > 0, 1 + brain(number) % 3, 0).astype(np.int16)
        suffix = "_brain_pveseg" if number % 2 else "_pveseg"
        scan(ixi / "fast", number, site, suffix=suffix, values=tissues)
    builder = IXI(image_suffix="_brain", mask_suffix="_pveseg", **SMALL)
    assert builder.foreground == "nonzero" and IXI().foreground == "otsu"
    assert builder.info(ixi).mask_labels == ("background", "CSF", "GM", "WM")
    assert all(unit.source.images["T1"].endswith("_brain.nii.gz") for unit in builder.units(ixi))
    for subject in ("IXI002", "IXI003"):
        example = examples(builder, ixi, subject)[4]
        image, mask = example["image"][..., 0], example["mask"][..., 0]
        np.testing.assert_array_equal(mask, np.where(image > 0, 1 + image % 3, 0))
    next(ixi.rglob("*IXI004*_pveseg.nii.gz")).unlink()
    next(ixi.rglob("*IXI005*-T1_brain.nii.gz")).unlink()
    problems = {unit.subject: unit.problem for unit in builder.units(ixi) if unit.problem}
    assert "IXI004-HH-1004-T1 has no _pveseg" in problems["IXI004"]
    assert "IXI005-HH-1005-T1_brain.nii.gz is missing" in problems["IXI005"]
    assert len(problems) == 2


def test_approximations_say_that_they_are(tmp_path):
    grid = np.indices((48, 48, 40)) - np.array([23.5, 23.5, 19.5])[:, None, None, None]
    radius = np.sqrt((grid**2).sum(0)) * 3  # mm
    head = np.select(
        [radius < 20, radius < 40, radius < 48, radius < 55, radius < 65],
        [750, 500, 250, 40, 700],
        0,
    )
    head = (head + np.random.default_rng(0).normal(0, 10, head.shape)).clip(0).astype(np.int16)
    for number in range(2, 5):
        for site in ("HH", "IOP"):
            path = tmp_path / f"IXI{number + 10 * (site == 'IOP'):03d}-{site}-1000-T1.nii.gz"
            write(path, head, np.diag([3.0, 3, 3, 1]))
    builder = IXI(approximate=True, size="48", pixel_spacing=0, min_foreground=100)
    info = builder.info(tmp_path)
    assert "rough approximations" in info.description and info.options == {}
    example = examples(builder, tmp_path, "IXI002")[20]
    tissues, image = example["mask"][..., 0], example["image"][..., 0]
    assert tissues[24, 24] == 3 and set(np.unique(tissues)) == {0, 1, 2, 3}
    assert not image[tissues == 0].any()  # the scalp is gone


def test_two_files_of_one_scan_are_a_problem_that_names_both(ixi):
    write(ixi / "IXI-T1" / "IXI002-HH-1002-T1.nii", brain(2))
    scan(ixi / "again", 3)
    problems = {unit.subject: unit.problem for unit in IXI(**SMALL).units(ixi) if unit.problem}
    assert problems.keys() == {"IXI002", "IXI003"}
    assert "T1/IXI002-HH-1002-T1.nii and " in problems["IXI002"] and "T1.nii.gz. Remove" in problems["IXI002"]
    assert "IXI-T1/IXI003-HH-1003-T1.nii.gz and " in problems["IXI003"] and "again/IXI003" in problems["IXI003"]
    for folder in ("one", "two"):
        scan(ixi / folder, 4, suffix="_pveseg")
    problems = {unit.subject: unit.problem for unit in IXI(mask_suffix="_pveseg", **SMALL).units(ixi)}
    assert "one/IXI004-HH-1004-T1_pveseg.nii.gz and " in problems["IXI004"]


def test_wrong_options_are_errors():
    for options, message in (
        ({"modality": "MRA"}, "modality to be one of T1, T2, PD"),
        ({"sites": ("Rome",)}, "no site 'Rome', but Guys, HH, IOP"),
        ({"approximate": True, "mask_suffix": "_pveseg"}, "and not both"),
        ({"approximate": True, "modality": "PD"}, "not PD"),
    ):
        with pytest.raises(ValueError, match=message):
            IXI(**options)
