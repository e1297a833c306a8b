"""Which files are one case: in a folder, by the names of several inputs, in a table."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest

from tests.apply.scans import brain, save
from tfdisent.apply import Options, apply
from tfdisent.apply.cases import assigned, find_cases, is_mask_by_content, is_mask_by_name, read_case


def test_all_volumes_of_a_folder_are_used_and_results_that_exist_are_left_alone(negative, tmp_path, capsys):
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


# --- several inputs ---


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(source, output, **options):
    """{case: {input: file}}"""
    return {str(case.name): case.files for case in find_cases(source, pathlib.Path(output), **options)}


@pytest.mark.parametrize(
    ("t1", "t2", "case"),
    [
        ("s1_T1.nii.gz", "s1_T2.nii.gz", "s1"),
        ("s1/T1.nii", "s1/T2.nii.gz", "s1"),
        ("T1/s1.nii.gz", "T2/s1.nii.gz", "s1"),
        ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz", "sub-01/anat/sub-01"),
        ("s1_t1_brain.nii.gz", "s1_t2_brain.nii.gz", "s1_brain"),
        ("T1-s1.nii", "T2-s1.nii", "s1"),
    ],
)
def test_files_of_one_folder_are_one_case_where_their_names_differ_by_the_inputs_alone(t1, t2, case, tmp_path):
    folder = touch(tmp_path / "in", t1, t2, "s1_T1ce.nii.gz", "notes.txt", ".T1.nii")
    source = {"T1": folder, "T2": folder}
    assert found(source, tmp_path / "out") == {case: {"T1": folder / t1, "T2": folder / t2}}


@pytest.mark.parametrize(
    ("name", "is_mask"),
    [
        ("gt.nii.gz", True),
        ("s1_seg.nii", True),
        ("aparc+aseg.nii.gz", True),
        ("LesionMask.nii", True),
        ("s1-ground-truth.nii", True),
        ("Masks/s1.nii", True),
        ("s1_T1.nii", False),
        ("T1_masked.nii", False),
        ("segovia_T1.nii", False),
        ("gtx/T1.nii", False),
        ("label_study/s1/T1.nii", False),
    ],
)
def test_masks_are_told_by_words_of_their_names(name, is_mask):
    assert is_mask_by_name(pathlib.PurePath(name)) == is_mask


@pytest.mark.parametrize(
    ("array", "is_mask"),
    [
        (np.arange(32).reshape(2, 4, 4) % 2, True),
        (np.arange(32).reshape(2, 4, 4) % 16 * 100.0, True),
        (np.arange(34).reshape(2, 17, 1) % 17, False),
        (np.arange(32).reshape(2, 4, 4) % 2 / 2, False),
        (np.zeros((2, 4, 4)), False),
        (np.r_[np.zeros(40_000), 0.5].reshape(1, 1, -1), False),
    ],
)
def test_masks_are_told_by_a_few_whole_numbers(array, is_mask):
    assert is_mask_by_content(array) == is_mask


def test_files_of_an_input_that_are_masks_by_their_names_are_left_out(tmp_path):
    folder = touch(tmp_path / "in", "s1_T1.nii", "s1_T2.nii", "s1_T1_mask.nii", "s1_T2_seg.nii")
    source = {"T1": folder, "T2": folder}
    assert list(found(source, tmp_path / "out")) == ["s1"]
    assert sorted(found(source, tmp_path / "out", masks_too=True)) == ["s1", "s1_mask", "s1_seg"]
    touch(tmp_path / "masks", "gt.nii")
    with pytest.raises(FileNotFoundError, match="All 1 volumes in .* are masks or label maps by their names"):
        found(tmp_path / "masks", tmp_path / "out")


def test_folders_of_one_input_each_are_matched_by_the_names_of_their_files(tmp_path):
    one = touch(tmp_path / "one", "a/s1.nii", "s2.nii.gz", "s3.nii")
    other = touch(tmp_path / "other", "a/s1.nii.gz", "s2.nii", "results/s2_T1.nii")
    assert found({"T1": one, "T2": other}, other / "results") == {
        "a/s1": {"T1": one / "a/s1.nii", "T2": other / "a/s1.nii.gz"},
        "s2": {"T1": one / "s2.nii.gz", "T2": other / "s2.nii"},
        "s3": {"T1": one / "s3.nii"},
    }
    assert list(found({"T1": one, "T2": other}, tmp_path / "out", pattern="s2*")) == ["s2"]


def test_files_given_by_name_are_one_case_whatever_they_are_called(tmp_path):
    folder = touch(tmp_path / "s7", "T1.nii.gz", "anything.nii", "s9_T1.nii")
    source = {"T1": folder / "T1.nii.gz", "T2": folder / "anything.nii"}
    assert found(source, tmp_path / "out") == {"s7": source}
    source["T1"] = folder / "s9_T1.nii"
    assert found(source, tmp_path / "out") == {"s9": source}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["s1_T1.nii", "s1_T1.nii.gz", "s1_T2.nii"], "s1_T1.nii and .*s1_T1.nii.gz may both be T1 of s1. Rename"),
        (["s1_T1.nii", "T1_s1.nii", "s1_T2.nii"], "may both be T1 of s1"),
        (["s1_T1.nii", "s1_T1_to_T2.nii"], "s1_T1_to_T2.nii may be T1 and T2 by its name. .* a table"),
        (["s1.nii", "s2.nii"], "s1.nii may be T1 and T2 of s1"),
        (["s1_T1.nii"], "No file in .* is T2 by its name"),
    ],
)
def test_files_that_may_be_one_or_another_are_refused(files, message, tmp_path):
    folder = touch(tmp_path / "in", *files)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        found({"T1": folder, "T2": folder}, tmp_path / "out")


def test_files_and_folders_are_not_mixed_and_lie_apart_from_the_results(tmp_path):
    folder = touch(tmp_path / "in", "s1_T1.nii", "s1_T2.nii")
    with pytest.raises(ValueError, match="T2=.*s1_T2.nii is a file, and others are folders"):
        found({"T1": folder, "T2": folder / "s1_T2.nii"}, tmp_path / "out")
    with pytest.raises(ValueError, match="is the input, or its folder"):
        found({"T1": touch(tmp_path / "other", "s1.nii"), "T2": folder}, folder)
    with pytest.raises(FileNotFoundError, match="--input=T2=.*gone does not exist"):
        found({"T1": folder, "T2": tmp_path / "gone"}, tmp_path / "out")


def test_a_table_says_which_files_are_one_case(tmp_path):
    (tmp_path / "table.csv").write_text(
        f"\ufeffsubject,T1,T2,mask\none,a/x.nii,b.nii.gz,m.nii\nsite/two,,{tmp_path}/c.nii,\n", encoding="utf-8"
    )
    one, two = find_cases(tmp_path / "table.csv", tmp_path / "out")
    assert (one.label, str(one.name), one.mask) == ("one", "one", tmp_path / "m.nii")
    assert one.files == {"T1": tmp_path / "a/x.nii", "T2": tmp_path / "b.nii.gz"}
    assert (two.label, two.files, two.mask) == ("site/two", {"T2": tmp_path / "c.nii"}, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns none; expected subject"),
        ("name,T1\na,b\n", "has the columns name, T1; expected subject"),
        ("subject,T1,T1\na,b,c\n", "each once"),
        ("subject,T1\n", "has no row"),
        ("subject,T1\na,b\na,c\n", "has subject a twice"),
        ("subject,T1\na,b,c\n", "line 2: expected as many cells"),
        ("subject,T1,T2\na,b\n", "line 2: expected as many cells"),
        ("subject,T1\na,b\n ,c\n", "line 3: subject is ''"),
        ("subject,T1\n../a,b\n", "subject is '../a'; expected a name"),
        ("subject,T1\na,\n", "line 2: a has no volume"),
        ("subject,T1\na,out/b.nii\n", "out is the folder of .*b.nii"),
    ],
)
def test_a_table_that_cannot_be_used_is_told(text, message, tmp_path):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        find_cases(tmp_path / "table.csv", tmp_path / "out")


def test_a_table_that_is_no_text_is_told(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"subject,T1\n\xff\xfe,b\n")
    with pytest.raises(ValueError, match="not a table of comma-separated UTF-8 text"):
        find_cases(tmp_path / "table.csv", tmp_path / "out")


def test_a_file_without_a_name_is_the_only_input_of_a_model(tmp_path):
    touch(tmp_path / "in", "a.nii")
    (case,) = find_cases(tmp_path / "in/a.nii", tmp_path / "out")
    assert assigned(case, ("image",)).files == {"image": tmp_path / "in/a.nii"}
    with pytest.raises(
        ValueError, match="takes T1, T2 of each case, received .*a.nii without a name. Give --input=T1="
    ):
        assigned(case, ("T1", "T2"))


def test_an_input_that_the_model_does_not_know_is_an_error_that_lists_those_known(needs_both, tmp_path):
    source = {name: save(tmp_path / f"in/{name}.nii", brain()) for name in ("T1", "FLAIR")}
    with pytest.raises(ValueError, match="Unknown input FLAIR, given for .*FLAIR.nii. The model takes T1, T2"):
        apply(needs_both, source, tmp_path / "out")


def test_an_input_may_be_missing_only_where_the_model_allows_for_it(needs_both, segmenter, tmp_path, capsys):
    for name in ("s1_T1", "s1_T2", "s2_T1"):
        save(tmp_path / f"in/{name}.nii", brain())
    source = dict.fromkeys(("T1", "T2"), tmp_path / "in")
    with pytest.raises(ValueError, match="s2 lacks T2. The model needs T1, T2 of each case"):
        apply(needs_both, source, tmp_path / "out", Options(on_error="fail"))
    assert not list((tmp_path / "out").iterdir())  # it is known before the first case is worked on
    counts = apply(needs_both, source, tmp_path / "out")
    assert capsys.readouterr().out.splitlines()[0].startswith("s2 will fail: s2 lacks T2.")
    assert counts == {"written": 1, "skipped": 0, "failed": 1}
    counts = apply(segmenter, source, tmp_path / "both")
    assert counts == {"written": 2, "skipped": 0, "failed": 0}


def test_a_file_of_a_table_that_does_not_exist_is_told_before_work_begins(segmenter, tmp_path):
    save(tmp_path / "a.nii", brain())
    (tmp_path / "table.csv").write_text("subject,T1,T2\none,a.nii,\ntwo,a.nii,b.nii\n")
    with pytest.raises(FileNotFoundError, match="b.nii, T2 of two, does not exist"):
        apply(segmenter, tmp_path / "table.csv", tmp_path / "out", Options(on_error="fail"))
    assert not list((tmp_path / "out").iterdir())


def test_inputs_of_a_case_must_be_on_one_grid(segmenter, tmp_path):
    t1 = save(tmp_path / "in/s1_T1.nii", brain())
    turned = save(tmp_path / "in/s1_T2.nii", brain(1), "RAS")  # the same voxels in another order
    (case,) = find_cases({"T1": t1, "T2": turned}, tmp_path / "out")
    volumes, mask = read_case(case, ("T1", "T2"), nan="fail", max_oblique=20)
    assert mask is None
    np.testing.assert_array_equal(volumes["T1"].array, brain().T[:, ::-1, ::-1])
    np.testing.assert_array_equal(volumes["T2"].array, brain(1).T[:, ::-1, ::-1])
    for array, spacing, problem in (
        (brain(1)[1:], (1, 1, 1), "its shape is"),
        (brain(1), (1, 1, 1.2), "its corners lie"),
    ):
        other = save(tmp_path / "in/s1_T2.nii", array, spacing=spacing)
        with pytest.raises(ValueError, match=rf"{other} is not on the grid of {t1}: {problem}.*Resample"):
            apply(segmenter, {"T1": t1, "T2": other}, tmp_path / "out")


def test_an_input_without_anatomy_is_named(segmenter, tmp_path):
    for name, array in (("T1", brain()), ("T2", 0 * brain())):
        save(tmp_path / f"in/s1_{name}.nii", array)
    with pytest.raises(ValueError, match="s1_T2.nii: it is all background"):
        apply(segmenter, dict.fromkeys(("T1", "T2"), tmp_path / "in"), tmp_path / "out")
