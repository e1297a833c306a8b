import textwrap

import pytest

from tests.commands.shell import call
from tfdisent import datasets
from tfdisent.commands import prepare


def test_every_data_set_has_a_builder_with_defaults_and_its_options_in_the_help():
    for name in datasets.DATASETS:
        builder = datasets.make_builder(name, {})
        assert builder.name == name
        for option in vars(builder):
            assert f"--{option}=" in prepare.__doc__[prepare.__doc__.index(f"  {name} ") :]


def test_texts_become_the_type_of_their_option():
    builder = datasets.make_builder("ham10000", {"classes": "nv,df", "size": "32", "crop_fraction": "1"})
    assert (builder.classes, builder.size, builder.crop_fraction) == (("df", "nv"), 32, 1.0)


def test_booleans_are_read_from_texts():
    assert datasets.make_builder("manifest", {"allow_missing": "True"}).allow_missing is True
    assert datasets.make_builder("manifest", {"allow_missing": "false"}).allow_missing is False
    with pytest.raises(ValueError, match="of type bool, received 'maybe'"):
        datasets.make_builder("manifest", {"allow_missing": "maybe"})


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("ham", {}, "Unknown data set 'ham'. Known ones are: .*ham10000, .*skin_phantom"),
        ("skin_phantom", {"sise": 3}, "no option 'sise'. Its options are: folds, fold, num_train"),
        ("skin_phantom", {"size": "big"}, "Option size is of type int, received 'big'"),
        ("skin_phantom", {"size": 2.5}, "Option size is of type int"),
    ],
)
def test_unknown_names_and_wrong_values_are_errors(name, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        datasets.prepare(name, tmp_path, **options)


def test_help_and_unknown_names_are_answered_before_anything_heavy_is_imported(run_python):
    code = """
        import runpy, sys

        sys.argv = ["build", ARGUMENT]
        sys.stderr = sys.stdout
        try:
            runpy.run_module("datasets.build", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            print(end.code)
        assert not {"keras", "nibabel", "tensorflow"} & sys.modules.keys()
    """
    helped, unknown = (
        run_python(textwrap.dedent(code).replace("ARGUMENT", repr(argument))) for argument in ("--help", "--dataset=x")
    )
    assert "--dataset" in helped and "skin_phantom" in helped
    known = ", ".join(sorted(datasets.DATASETS))
    assert helped.endswith("\n0\n")
    assert unknown == f"error: Unknown data set 'x'. Known ones are: {known}.\n1\n"


def test_the_command_line_prepares_verifies_and_says_what_is_wrong(tmp_path):
    own = ["--workers=1", "--num_train=9", "--num_test=3", "--size=16"]
    for arguments, status, message in (
        ([], 2, f"error: Give --dataset, one of: {', '.join(sorted(datasets.DATASETS))}."),
        (["--dataset=skin_phantom", "--sise=3"], 1, "error: skin_phantom has no option 'sise'"),
        (["--dataset=skin_phantom", "size"], 2, "error: Expected options as --name=value, received 'size'"),
        (["--dataset=ham10000", "--dry_run"], 0, "ham10000 needs its raw data, given as raw_dir.\nGet "),
        (
            ["--dataset=skin_phantom", "--nodry_run", f"--data_dir={tmp_path}", "--verify", *own],
            0,
            "train 9, test 3, 0 skipped, verified",
        ),
        (
            ["--dataset=skin_phantom", "--dry_run", *own],
            0,
            "train              9         9       8         0  bkl 3, mel 3, nv 3",
        ),
        (["--dataset=help"], 0, "skin_phantom     drawn: dermatoscopic images"),
    ):
        out, err = call(tmp_path, "prepare", *arguments, status=status)
        assert message in (err if status else out)
