import gzip
import os
import pathlib
import shutil

import numpy as np
import pytest

from tests.datasets.raw_volumes import brain, write
from tfdisent.datasets.phantom import SkinPhantom
from tfdisent.datasets.preparation import prepare
from tfdisent.datasets.sources import (
    alike,
    files_under,
    natural,
    one_of_copies,
    one_of_each,
    read_table,
    read_text,
    remembered,
    same_content,
)
from tfdisent.volumes import read_volume


def names(folder):
    return [path.relative_to(folder).as_posix() for path in files_under(folder)]


def touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")


def test_what_other_programs_leave_behind_is_passed_over(tmp_path):
    touch(tmp_path, "a/scan.nii", "b.csv")
    touch(
        tmp_path,
        ".DS_Store",
        "a/._scan.nii",
        "a/Thumbs.db",
        "desktop.ini",
        "~$b.csv",
        "a/.git/x",
        "__MACOSX/a/scan.nii",
    )
    touch(tmp_path, "@eaDir/scan.nii", "$RECYCLE.BIN/scan.nii", "lost+found/scan.nii")
    assert names(tmp_path) == ["a/scan.nii", "b.csv"]


def test_a_prepared_data_set_in_the_raw_folder_is_passed_over_whole_or_not(tmp_path):
    touch(tmp_path, "scan.nii", "data/other.txt", "own/manifest.json")
    prepare(SkinPhantom(6, 3, size=16), tmp_path / "data", workers=1)
    touch(tmp_path, "data/killed/1.0.0/.partial/plan.json", "data/killed/1.0.0/shard")
    assert names(tmp_path) == ["data/other.txt", "own/manifest.json", "scan.nii"]


def test_each_folder_is_read_once_whatever_links_lead_to_it(tmp_path):
    touch(tmp_path / "raw", "b/scan.nii")
    touch(tmp_path / "elsewhere", "scan.nii")
    (tmp_path / "raw/b/up").symlink_to(tmp_path / "raw")
    (tmp_path / "raw/a").symlink_to(tmp_path / "raw/b")
    (tmp_path / "raw/c").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "raw") == ["b/scan.nii", "c/scan.nii"]


def test_a_series_is_read_beside_what_file_browsers_leave(tmp_path):
    from tests.datasets.test_lidc import write_dicom

    for index in range(3):
        write_dicom(tmp_path / f"{index}.dcm", "1.2", index, np.full((8, 8), index))
    expected = read_volume(tmp_path).array
    touch(tmp_path, "Thumbs.db", ".DS_Store", "._0.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path).array, expected)


def test_of_two_files_of_one_role_both_are_named():
    assert one_of_each("p1", {"t1": ["a"], "t2": ["b"]}) == ({"t1": "a", "t2": "b"}, "")
    files, problem = one_of_each("p1", {"t1": ["a"], "t2": ["c.nii.gz", "b.nii"]})
    assert problem == "p1 has two files for t2: b.nii and c.nii.gz. Remove one."
    assert files["t2"] == "b.nii"


def test_copies_count_once_and_files_that_differ_are_named(tmp_path):
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(content)
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert one_of_copies([b, a]) == (a, "")
    assert one_of_copies([b, a, c]) == (a, f"{a} and {c} have one name and differ. Remove one.")


# --- content ---


def volume(path, seed, shape=(60, 60, 60)):
    """More than the samples that are looked at."""
    return str(write(path, brain(seed, shape)))


def test_files_of_one_content_are_found_under_any_name_packed_or_not(tmp_path):
    one, two, other = (volume(tmp_path / f"{name}.nii", seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert same_content([one, two, other]) == [[one, two]]
    packed = []
    for name, level in (("p", 1), ("long-name", 9)):  # of other bytes, and the same content
        packed.append(str(tmp_path / f"{name}.nii.gz"))
        with gzip.open(packed[-1], "wb", compresslevel=level) as file:
            file.write(pathlib.Path(one).read_bytes())
    assert same_content([packed[0], other, packed[1]]) == [packed]
    assert same_content([one, other, packed[0]]) == [[one, packed[0]]]
    link = tmp_path / "link.nii"
    link.symlink_to(other)
    assert same_content([other, str(link)]) == [[other, str(link)]]


def test_files_that_differ_in_one_byte_anywhere_are_not_the_same(tmp_path):
    one = volume(tmp_path / "one.nii", 1)
    content = bytearray(pathlib.Path(one).read_bytes())
    assert len(content) > 6 * 2**16
    for place in (0, 90_000, len(content) // 2, len(content) - 1):  # the second outside of the samples
        changed = content.copy()
        changed[place] ^= 1
        (tmp_path / "two.nii").write_bytes(changed)
        assert same_content([one, tmp_path / "two.nii"]) == []


def test_headers_and_folders_are_compared_by_the_voxels_beside_them(tmp_path):
    for name, value in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / f"{name}.raw").write_bytes(bytes([value]) * 100)
        (tmp_path / f"{name}.mhd").write_text(f"NDims = 3\nElementDataFile = {name}.raw\n")
        touch(tmp_path / f"series-{name}", "1.dcm", "Thumbs.db")
        (tmp_path / f"series-{name}" / "2.dcm").write_bytes(bytes([value]))
    for kind in ("{}.mhd", "series-{}"):
        paths = [str(tmp_path / kind.format(name)) for name in "abc"]
        assert same_content(paths) == [paths[:2]]


def test_series_of_one_content_are_found_under_other_names_of_their_files(tmp_path):
    slices = [bytes([value]) * 3000 for value in range(40)]  # of one size, as those of a series are
    named = {
        "a": lambda index: f"{index:03d}.dcm",
        "reversed": lambda index: f"{99 - index:03d}.dcm",
        "longer": lambda index: f"IMG-{index * 7 % 41:05d}",
    }
    for folder, name in named.items():
        (tmp_path / folder).mkdir()
        for index, content in enumerate(slices):
            (tmp_path / folder / name(index)).write_bytes(content)
    shutil.copytree(tmp_path / "a", tmp_path / "other")
    (tmp_path / "other" / "007.dcm").write_bytes(slices[7][:600] + b"x" + slices[7][601:])  # outside of the samples
    shutil.copytree(tmp_path / "a", tmp_path / "shorter")
    (tmp_path / "shorter" / "007.dcm").unlink()
    assert same_content(sorted(tmp_path.iterdir())) == [[str(tmp_path / name) for name in sorted(named)]]


def test_empty_and_damaged_files_are_the_same_as_none(tmp_path):
    touch(tmp_path, "short.nii.gz", "other.nii.gz")
    for name in ("a.nii", "b.nii", "c.nii.gz", "d.nii.gz"):
        (tmp_path / name).touch()
    damaged = gzip.compress(b"content" * 100)
    for name in ("e.nii.gz", "f.nii.gz"):
        (tmp_path / name).write_bytes(damaged[:12] + b"\xff" * 8 + damaged[20:])
    assert same_content([*files_under(tmp_path), tmp_path / "missing.nii"]) == []


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that were opened to be read, in their order."""
    import builtins
    import io

    found, original = [], builtins.open

    def counting(file, *arguments, **options):
        found.append(os.path.basename(file))
        return original(file, *arguments, **options)

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", counting)
    return found


def test_files_of_different_sizes_are_told_apart_without_being_opened(tmp_path, opened):
    paths = [volume(tmp_path / f"{size}.nii", 1, (60, 60, size)) for size in (50, 60)]
    opened.clear()
    assert same_content(paths) == [] and opened == []
    paths.append(volume(tmp_path / "other.nii", 2))
    opened.clear()
    assert same_content(paths) == [] and sorted(opened) == ["60.nii", "other.nii"]  # a sample of each
    assert same_content(paths) == [] and len(opened) == 2  # which is remembered


def test_what_was_read_is_remembered_until_the_file_changes(tmp_path):
    calls = []
    read = remembered(lambda path: calls.append(path) or pathlib.Path(path).read_text())
    path = tmp_path / "a"
    path.write_text("1")
    assert read(path) == read(str(path)) == "1" and len(calls) == 1
    path.write_text("22")
    assert read(path) == "22" and len(calls) == 2
    folder = tmp_path / "series"
    touch(folder, "1.dcm")
    count = remembered(lambda path: len(os.listdir(path)))
    assert count(folder) == count(folder) == 1
    touch(folder, "2.dcm")
    assert count(folder) == 2


# --- names and tables ---


def test_names_sort_as_people_count():
    assert sorted(["10", "2", "1"], key=natural) == ["1", "2", "10"]
    assert sorted(["a10", "a2", "b1", "a", "-1", "1"], key=natural) == ["1", "-1", "a", "a2", "a10", "b1"]
    assert sorted(["ms", "control"], key=natural) == ["control", "ms"]


def test_names_that_are_nearly_the_same_are_found():
    assert alike(["P1", "p1", "P2", "p1"]) == [["P1", "p1"]]
    assert alike(["001", "1", "10", "100"]) == [["001", "1"]]
    assert alike(["Zoe\u0301", "Zo\u00e9", "zoe"]) == [["Zoe\u0301", "Zo\u00e9"]]
    assert alike(["p 1", "p1 ", "sub-01", "sub-1", "sub-11"]) == [["p 1", "p1 "], ["sub-01", "sub-1"]]
    assert alike(["a_1_2", "a_12", "a12"]) == []


def test_a_table_is_read_with_its_delimiter_and_lines(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('﻿A;b\r\n1;"x;\ny"\r\n\r\n2;ü\r\n'.encode())
    columns, rows = read_table(path, lower=True)
    assert columns == ["a", "b"]
    assert [(row.number, row.values) for row in rows] == [(3, {"a": "1", "b": "x;\ny"}), (5, {"a": "2", "b": "ü"})]


@pytest.mark.parametrize(
    "content, message",
    [
        ("a,b\n1,Zürich\n".encode("latin-1"), "t.csv, line 2: byte 0xfc is not UTF-8 text.*iconv -f LATIN1"),
        ("a,b\n1,2\n".encode("utf-16"), "t.csv, line 1: byte 0xff is not UTF-8.*iconv -f UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "t.csv, line 1: byte 0x00 is not UTF-8.*iconv -f UTF-16"),
        (b"a,b\n1,sc\0n.nii\n", "t.csv, line 2: byte 0x00 is not UTF-8"),
        (b"a,a\n1,2\n", "t.csv has a column twice: a, a"),
        (b"a,b\n1,2,3\n", "t.csv, line 2: 3 values, expected 2"),
        (b'a,b\n"' + b"x" * 200_000 + b'",2\n', "t.csv, line 2: field larger than"),
    ],
)
def test_bad_tables_are_errors_that_name_file_and_line(content, message, tmp_path):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "t.csv")


def test_text_is_read_with_or_without_a_byte_order_mark(tmp_path):
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "t").write_text("ü", encoding=encoding)
        assert read_text(tmp_path / "t") == "ü"


def test_the_same_volume_in_another_folder_is_the_same(tmp_path):
    first = volume(tmp_path / "a" / "T1.nii.gz", 1)
    second = shutil.copy(first, tmp_path / "b.nii.gz")
    assert same_content([first, second]) == [[first, str(second)]]


def test_a_folder_that_vanishes_while_it_is_walked_is_passed_over(tmp_path, monkeypatch):
    touch(tmp_path, "a/one", "b/two", "b/c/three")
    stat = os.stat

    def vanished(path, *args, **kwargs):
        if os.fspath(path) == str(tmp_path / "b"):
            raise FileNotFoundError(path)
        return stat(path, *args, **kwargs)

    monkeypatch.setattr("tfdisent.datasets.sources.os.stat", vanished)
    assert names(tmp_path) == ["a/one"]
