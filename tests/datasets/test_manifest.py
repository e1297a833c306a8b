import shutil

import numpy as np
import pytest

from tests.datasets.raw_volumes import assert_disjoint, brain, lesion, write
from tfdisent.data import as_arrays
from tfdisent.datasets import volumes
from tfdisent.datasets.manifest import Table
from tfdisent.datasets.preparation import prepare
from tfdisent.datasets.shards import verify

HEADER = ("subject", "domain", "modality", "image", "label", "split", "condition:age")
MASKS = {"mask_labels": ("background", "lesion")}


class Raw:
    """A table of four subjects with T1 and FLAIR, beside their files."""

    def __init__(self, folder):
        self.path = folder / "table.csv"
        self.rows = []
        for index in range(4):
            name = f"p{index}"
            for modality, scale in (("T1", 100), ("FLAIR", 1000)):
                write(folder / name / f"{modality}.nii.gz", brain(index, scale=scale))
            write(folder / name / "lesions.nii.gz", lesion())
            split = "test" if index == 3 else "train"
            site = ("Verio", "Aera")[index % 2]
            self.rows.append([name, site, "T1", f"{name}/T1.nii.gz", f"{name}/lesions.nii.gz", split, 40 + index])
            self.rows.append([name, "", "FLAIR", f"{name}/FLAIR.nii.gz", "", "", ""])

    def write(self, header=HEADER, delimiter=",", encoding="utf-8", rows=None):
        lines = [header, *(self.rows if rows is None else rows)]
        text = "\n".join(delimiter.join(map(str, line)) for line in lines) + "\n"
        self.path.write_bytes(text.encode(encoding))
        return self.path

    def without(self, *columns, **options):
        keep = [index for index, name in enumerate(HEADER) if name not in columns]
        rows = [[row[index] for index in keep] for row in self.rows]
        return self.write([HEADER[index] for index in keep], rows=rows, **options)


@pytest.fixture
def raw(tmp_path):
    return Raw(tmp_path / "raw")


def test_a_table_becomes_records(raw, tmp_path):
    table = raw.write()
    folder = prepare(Table(**MASKS), tmp_path / "data", table, workers=1)
    manifest = verify(folder)
    assert manifest.modalities == ("FLAIR", "T1") and manifest.domains == ("Aera", "Verio")
    assert manifest.condition_names == ("age",) and manifest.labels == ()
    assert manifest.splits["test"]["subjects"] == ["p3"]
    assert manifest.splits["train"]["subjects"] == ["p0", "p1", "p2"]
    arrays = as_arrays(folder, "test")
    assert (arrays["condition"] == 43).all() and arrays["mask"].max() == 1
    unit = Table(**MASKS).splits(table)["test"][0]
    example = {e["slice_index"]: e for e in Table(**MASKS).examples(unit)}[4]
    np.testing.assert_array_equal(example["image"][..., 1], brain(3)[:, :, 4].T)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_delimiter_is_seen_from_the_header(delimiter, encoding, raw):
    table = raw.write(delimiter=delimiter, encoding=encoding)
    units = Table(**MASKS).units(table)
    assert [unit.subject for unit in units] == ["p0", "p1", "p2", "p3"]
    assert units[0].source.condition == (40.0,)


def test_without_splits_subjects_are_split_by_the_seed(raw):
    table = raw.without("split")
    found = assert_disjoint(Table(test_fraction=0.5, **MASKS).splits(table))
    assert len(found["train"]) == len(found["test"]) == 2


def test_sessions_stay_with_their_subject(raw):
    rows = [[*row, session] for row in raw.rows for session in ("a", "b")]
    table = raw.write([*HEADER, "session"], rows=rows)
    splits = Table(**MASKS).splits(table)
    assert [unit.key for unit in splits["test"]] == ["p3/a", "p3/b"]
    assert_disjoint(splits)


def test_the_label_is_a_label_map_or_a_class(raw, tmp_path):
    for row in raw.rows:
        row[4] = "ill" if row[0] in ("p0", "p3") else "well"
    folder = prepare(Table(), tmp_path / "data", raw.write(), workers=1)
    manifest = verify(folder)
    assert manifest.labels == ("ill", "well") and manifest.mask_labels == ()
    assert set(as_arrays(folder, "test")["label"]) == {0}
    rows = [[*row, f"{row[0]}/lesions.nii.gz"] for row in raw.rows]
    both = Table(**MASKS).units(raw.write([*HEADER, "mask"], rows=rows))
    assert both[0].source.label == "ill" and both[0].source.mask.endswith("lesions.nii.gz")


def test_conditions_are_named_and_other_columns_are_not_read(raw, tmp_path):
    header, rows = [*HEADER[:-1], "age", "remark"], [[*row, "text"] for row in raw.rows]
    table = raw.write(header, rows=rows)
    folder = prepare(Table(**MASKS), tmp_path / "data", table, workers=1)
    assert verify(folder).condition_names == () and "condition" not in as_arrays(folder, "test")
    note = Table(**MASKS).units(table)[0].note
    assert note.startswith(f"{table}: the columns age, remark are not read")
    chosen = Table(condition=("age",), **MASKS)
    assert chosen.info(table).condition_names == ("age",) and chosen.units(table)[0].source.condition == (40.0,)
    with pytest.raises(ValueError, match="line 2: remark is 'text', expected a number"):
        Table(condition=("remark",), **MASKS).units(table)
    with pytest.raises(ValueError, match="no column 'weight'. Its columns are: subject"):
        Table(condition=("weight",), **MASKS).units(table)


def test_nothing_of_the_tables_name_is_stored(raw, tmp_path):
    table = raw.write().rename(raw.path.with_name("jane_doe.csv"))
    folder = prepare(Table(**MASKS), tmp_path / "data", table, workers=1)
    assert not any(b"jane_doe" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_links_that_leave_the_folder_of_the_table_are_paths_that_leave_it(raw, tmp_path):
    shutil.move(raw.path.parent / "p0", tmp_path / "elsewhere")
    (raw.path.parent / "p0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="line 2: p0/T1.nii.gz leaves the folder of the table"):
        Table(**MASKS).units(raw.write())
    assert not Table(allow_outside=True, **MASKS).units(raw.write())[0].problem
    (raw.path.parent / "p0").unlink()
    shutil.move(tmp_path / "elsewhere", raw.path.parent / "inside")
    (raw.path.parent / "p0").symlink_to(raw.path.parent / "inside")
    assert not Table(**MASKS).units(raw.write())[0].problem


def test_backslashes_are_read_as_slashes(raw):
    expected = Table(**MASKS).units(raw.write())
    for row in raw.rows:
        row[3:5] = (text.replace("/", "\\") for text in row[3:5])
    assert Table(**MASKS).units(raw.write()) == expected


def test_brain_masks_and_folders_and_metaimages_come_by_the_table(raw):
    values = brain(7).transpose(2, 1, 0)
    folder = raw.path.parent / "p0"
    (folder / "t2.raw").write_bytes(np.ascontiguousarray(values).astype("<i2").tobytes())
    (folder / "t2.mhd").write_text("NDims = 3\nDimSize = 24 20 10\nElementType = MET_SHORT\nElementDataFile = t2.raw\n")
    write(folder / "brain.nii.gz", lesion(), np.diag([-1.0, -1, 1, 1]))
    rows = [["p0", "T2", "p0/t2.mhd", "p0/brain.nii.gz"], ["p1", "T2", "p1/T1.nii.gz", ""]]
    table = raw.write(["subject", "modality", "image", "brain_mask"], rows=rows)
    units = Table(test_fraction=0.5).units(table)
    masked, plain = ({e["slice_index"]: e for e in Table().examples(u)} for u in units)
    np.testing.assert_array_equal(plain[4]["image"][..., 0], brain(1)[:, :, 4].T)
    inside = lesion().transpose(2, 1, 0)[4] > 0
    np.testing.assert_array_equal(masked[4]["image"][..., 0], np.where(inside, values[4], 0))
    assert (masked[4]["image"] != 0).sum() == 16


def test_a_background_amid_the_brains_values_is_said_once(raw, monkeypatch, capsys):
    monkeypatch.setattr(volumes, "_told_amid", set())
    folder = raw.path.parent / "p0"
    write(folder / "brain.nii.gz", lesion())
    write(folder / "T1.nii.gz", np.where(lesion() > 0, brain(7) - 150.0, -90.0).astype("float32"))
    rows = [["p0", "T1", "p0/T1.nii.gz", "p0/brain.nii.gz"], ["p1", "T1", "p1/T1.nii.gz", ""]]
    unit = Table(test_fraction=0.5).units(raw.write(["subject", "modality", "image", "brain_mask"], rows=rows))[0]
    for options, said in (({"background": -90.0}, 0), ({}, 1), ({}, 0)):
        list(Table(test_fraction=0.5, **options).examples(unit))
        out = "".join(capsys.readouterr())
        assert out.count("T1.nii.gz becomes 0, which is amid the brain's values") == said, out


def test_a_path_stays_in_the_folder_of_the_table_unless_allowed(raw, tmp_path):
    shutil.move(raw.path.parent / "p0", tmp_path / "p0")
    for path in ("../p0/T1.nii.gz", str(tmp_path / "p0/T1.nii.gz"), "p1/../../p0/T1.nii.gz"):
        raw.rows[0][3] = path
        with pytest.raises(ValueError, match="line 2: .*T1.nii.gz leaves the folder of the table"):
            Table(**MASKS).units(raw.write())
    for row in raw.rows[:2]:
        row[3:5] = f"../p0/{row[2]}.nii.gz", "../p0/lesions.nii.gz"
    unit = Table(allow_outside=True, **MASKS).units(raw.write())[0]
    assert not unit.problem and unit.source.images["T1"] == str(tmp_path / "p0/T1.nii.gz")
    raw.rows[0][3] = str(raw.path.parent / "p1/T1.nii.gz")  # absolute, and inside
    raw.rows[0][4] = raw.rows[1][4] = ""
    raw.rows[1][3] = "p1/FLAIR.nii.gz"
    problem = Table(**MASKS).units(raw.write())[0].problem
    assert "leaves" not in problem and "p1/FLAIR.nii.gz: one image is FLAIR of p0 and FLAIR of p1" in problem


def test_files_that_are_missing_are_problems_of_their_subject(raw, tmp_path):
    (raw.path.parent / "p1/FLAIR.nii.gz").unlink()
    raw.rows.pop(5)  # the FLAIR of p2
    units = {unit.subject: unit.problem for unit in Table(**MASKS).units(raw.write())}
    assert "table.csv, line 4: p1 needs" in units["p1"] and "FLAIR.nii.gz" in units["p1"]
    assert "p2 has no FLAIR" in units["p2"]
    assert not units["p0"] and not units["p3"]
    with pytest.raises(ValueError, match="2 problems"):
        prepare(Table(**MASKS), tmp_path / "data", raw.path, workers=1)


def changed(row, column, value):
    def change(raw):
        raw.rows[row][HEADER.index(column)] = value
        return raw.write()

    return change


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda raw: raw.without("modality"),
            "lacks the column modality. Its columns are: subject",
        ),
        (lambda raw: raw.without("subject", "image"), "lacks the column subject, image"),
        (lambda raw: raw.write(rows=[]), "no lines below its header"),
        (lambda raw: raw.write(("",), rows=[]), "lacks the column"),
        (lambda raw: raw.write([*HEADER[:-1], "split"]), "has a column twice"),
        (lambda raw: raw.write(encoding="utf-16"), "is not UTF-8|lacks the column"),
        (changed(1, "modality", "T1"), "lines 2 and 3: two images of p0, T1"),
        (changed(1, "subject", ""), "line 3: subject is empty"),
        (changed(1, "domain", "Aera"), "lines 2 and 3: p0 has domain 'Verio' and 'Aera'"),
        (changed(1, "label", "p1/lesions.nii.gz"), "lines 2 and 3: p0 has label"),
        (changed(1, "split", "test"), "lines 2 and 3: p0 has split 'train' and 'test'"),
        (changed(0, "split", ""), "gives a split to some subjects, and none to p0"),
        (changed(0, "split", "a/b"), "has the split 'a/b'"),
        (changed(0, "domain", ""), "gives a domain to p1 and none to p0"),
        (changed(0, "condition:age", "old"), "line 2: condition:age is 'old', expected a number"),
        (changed(0, "condition:age", "nan"), "line 2: condition:age is 'nan', expected a number"),
        (changed(0, "image", "a,b"), "line 2: 8 values, expected 7"),
    ],
)
def test_bad_tables_say_what_is_wrong_and_where(spoil, message, raw):
    with pytest.raises(ValueError, match=f"table.csv.*({message})"):
        Table(**MASKS).splits(spoil(raw))


def test_label_maps_need_names_for_their_codes(raw):
    with pytest.raises(ValueError, match="has label maps. Say what they hold.*mask_labels"):
        Table().units(raw.write())


def test_a_subject_in_two_splits_is_an_error_also_by_its_sessions(raw, tmp_path):
    rows = [[*row[:5], split, row[6], split] for row in raw.rows for split in ("train", "test")]
    table = raw.write([*HEADER, "session"], rows=rows)
    with pytest.raises(ValueError, match="lines 2 and 3: p0 has split 'train' and 'test', expected one"):
        prepare(Table(**MASKS), tmp_path / "data", table, workers=1)


def test_each_modality_can_have_a_label_map_of_its_own(raw, tmp_path):
    for row in raw.rows:
        name, modality = row[0], row[2]
        moved = np.roll(lesion(), 2 * (modality == "FLAIR"), axis=0)
        write(raw.path.parent / name / f"{modality}-labels.nii.gz", moved)
        row[4] = f"{name}/{modality}-labels.nii.gz"
    builder = Table(own_masks=True, modalities=("T1", "FLAIR"), **MASKS)
    manifest = builder.info(raw.write())
    assert manifest.mask_channels == 2 and manifest.modalities == ("T1", "FLAIR")
    example = {e["slice_index"]: e for e in builder.examples(builder.splits(raw.path)["test"][0])}[4]
    one, other = np.moveaxis(example["mask"], -1, 0)
    assert example["labelled"] == 1 and one.any() and not np.array_equal(one, other)
    assert np.array_equal(np.sort(one.sum(axis=1)), np.sort(other.sum(axis=1)))  # moved from side to side
    verify(prepare(builder, tmp_path / "data", raw.path, workers=1))


def test_a_subject_without_label_maps_is_unlabelled_and_one_with_some_is_an_error(raw):
    for row in raw.rows:
        row[4] = f"{row[0]}/lesions.nii.gz" if row[0] != "p1" else ""
    builder = Table(own_masks=True, **MASKS)
    (unit,) = [unit for unit in builder.units(raw.write()) if unit.subject == "p1"]
    example = next(iter(builder.examples(unit)))
    assert example["labelled"] == 0 and example["mask"].shape[-1] == 2 and not example["mask"].any()
    raw.rows[0][4] = ""
    with pytest.raises(ValueError, match="line 2: p0 has label maps, and none of T1. With own_masks=true"):
        builder.units(raw.write())
    with pytest.raises(ValueError, match="has label maps. Say what they hold"):
        raw.rows[0][4] = raw.rows[1][4]
        Table(own_masks=True).units(raw.write())


def test_a_folder_is_not_a_table(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a file. raw_dir is a table"):
        Table().splits(tmp_path)


def test_real_patients_come_by_a_table(shared_data, tmp_path):
    table = tmp_path / "ms.csv"
    lines = ["subject,modality,image,label,split"]
    for name, split in (("patient07", "train"), ("patient19", "test")):
        folder = shared_data / "ms_mni" / name
        lines += [
            f"{name},{modality},{folder}/{modality}.nii.gz,{folder}/lesions.nii.gz,{split}"
            for modality in ("T1", "FLAIR")
        ]
    table.write_text("\n".join(lines))
    builder = Table(allow_outside=True, size="224x192", slice_range=(70, 80), **MASKS)
    manifest = verify(prepare(builder, tmp_path / "data", table, workers=1))
    assert manifest.image_dtype == "float32" and manifest.splits["test"]["num_examples"] == 11


def test_other_files_or_another_table_are_other_raw_data(raw, tmp_path):
    table = raw.write()
    folder = prepare(Table(**MASKS), tmp_path / "data", table, workers=1)
    assert prepare(Table(**MASKS), tmp_path / "data", table, workers=1) == folder
    text = table.read_text()
    table.write_text(text.replace("40", "41", 1))  # of the same length
    with pytest.raises(ValueError, match="prepared from other raw data"):
        prepare(Table(**MASKS), tmp_path / "data", table, workers=1)
    table.write_text(text)
    write(table.parent / "p0" / "T1.nii.gz", brain(9, scale=77))
    with pytest.raises(ValueError, match="prepared from other raw data"):
        prepare(Table(**MASKS), tmp_path / "data", table, workers=1)
