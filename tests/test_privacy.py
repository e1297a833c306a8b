"""Nothing that is published names a person or a place on this machine, and what names neither is published as it is."""

import json
import multiprocessing
import os
import pathlib
import stat

import numpy as np
import pytest

from tfdisent import privacy


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("/data/John Doe/scan.nii", "<path>"),
        ("~/scans", "<path>"),
        ("--raw_dir=/data/raw --steps=5", "--raw_dir=<path> --steps=5"),
        ("['/a/b', '/c']", "['<path>', '<path>']"),
        ("host:/data/raw", "host:<path>"),
        ("file:///home/jane/x.csv", "<path>"),
        (r"C:\Users\jane\raw", "<path>"),
        (pathlib.PurePosixPath("/data/raw"), "<path>"),
        ("https://arxiv.org/abs/2012.04764", "https://arxiv.org/abs/2012.04764"),
        ("saved_models/drai/1, q(z|x)/q(c|x), 3 / 4", "saved_models/drai/1, q(z|x)/q(c|x), 3 / 4"),
    ],
)
def test_absolute_paths_are_not_published(text, published):
    assert privacy.publishable({"key": [text]}) == {"key": [published]}


@pytest.mark.parametrize(
    "path",
    [
        "/data/Jane/scan.nii",
        "/scans/Jane Roe/1.nii",  # blanks
        "/scans/Jane van der Roe/1.nii.gz",
        "/scans/Roe,Jane/1.nii",
        "/scans/O'Jane/1.nii",
        "~/Jane",
        "~jane/scans",  # the home folder of a user
        "C:\\Users\\Jane Roe\\raw",
        "D:/scans/Jane",
        "\\\\server\\share\\Jane Roe\\1.nii",
        "//server/share/Jane",
        "file:///home/jane/x.csv",
        "file:jane.csv",
        "smb://server/Jane/scans",
        "sftp://server/Jane",
    ],
)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("cannot read ", ", which is no file."),
        ("cannot read ", ": no such file"),
        ("from '", "'"),
        ("(see ", ")"),
        ("[", "]"),
        ("--data_dir=", " --steps=5"),
        ("first line\n", "\nlast line"),
    ],
)
def test_paths_of_every_kind_are_taken_out_wherever_they_stand(path, before, after):
    shown = privacy.without_paths(before + path + after)
    assert shown == f"{before}[path]{after}"
    assert "jane" not in json.dumps(privacy.publishable({"text": [before + path + after]})).lower()


@pytest.mark.parametrize(
    "text",
    [
        "https://doi.org/10.1/2 (and/or)",
        "see http://localhost:8501/v1/models",
        "tfdisent/privacy.py, runs/drai-skin_phantom",
        "PSNR 25.9 dB, 3/4 of q(z|x)/q(c|x); a / b",
        "<b>bold</b> and </script>",
        "ratio 1:2/3, ~3 of 4",
        "T1/T2 and T2/FLAIR",
        "",
    ],
)
def test_what_is_no_path_stays(text):
    assert privacy.without_paths(text) == text


def test_paths_in_the_folder_become_relative_and_do_not_lead_out_of_it(tmp_path):
    def shown(text):
        return privacy.without_paths(text, inside=tmp_path)

    assert shown(f"see {tmp_path}/figures/a b.png") == "see figures/a b.png"
    assert shown(tmp_path / "metrics.csv") == "metrics.csv"
    assert shown(f"see {tmp_path}/../Jane/1.nii") == "see [path]"
    assert shown(tmp_path.parent / "Jane") == "[path]"


def test_paths_are_taken_out_of_keys_and_of_everything_inside():
    content = {
        "/scans/Jane": {"nested": ["/scans/Jane", {"reason": "no /scans/Jane there"}]},
        "value": np.float32(0.5),
        "none": float("nan"),
        "shape": (1, 2),
    }
    assert privacy.publishable(content) == {
        "<path>": {"nested": ["<path>", {"reason": "no <path> there"}]},
        "value": 0.5,
        "none": None,
        "shape": [1, 2],
    }


@pytest.mark.parametrize("items", [["Jane", "John"], ("Jane", "John"), {"Jane": "1", "John": "2"}, {"Jane", "John"}, 2])
def test_of_subjects_only_the_number_is_told_in_whatever_form_they_come(items):
    for name in privacy.COUNTED:
        published = privacy.publishable({"splits": {"train": {name: items}}, "card": [{name: items}]})
        assert published == {"splits": {"train": {name: 2}}, "card": [{name: 2}]}
    manifest = {"splits": {"test": {"subjects": items, "num_examples": 4}}, "skipped": items, "shards": items}
    assert privacy.data_summary(manifest) == {"test split": "4 examples of 2 subjects", "skipped": 2}


def test_a_single_name_is_counted_too():
    assert privacy.publishable({"skipped": "Jane.jpg", "subjects": None}) == {"skipped": 1, "subjects": 0}


def test_manifest_summary_counts_and_names_nobody():
    manifest = {
        "dataset": "d",
        "seed": 0,
        "citation": "",
        "source": "x",
        "skipped": ["a", "b"],
        "splits": {"test": {"subjects": ["p", "q"], "num_examples": 5, "label_counts": {"mel": 3, "nv": 2}}},
    }
    assert privacy.data_summary(manifest) == {
        "dataset": "d",
        "seed": 0,
        "test split": "5 examples of 2 subjects: mel 3, nv 2",
        "skipped": 2,
    }


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("python -m train.drai --data_dir='/home/Jane Roe' --steps=5", "--data_dir=DATA_DIR --steps=5"),
        ("python -m train.drai --raw_dir=scans/Jane", "--raw_dir=RAW_DIR"),  # relative, and private nevertheless
        ("python -m train.drai --raw_dir scans/Jane --steps 5", "--raw_dir RAW_DIR --steps 5"),
        ("python -m train.drai --data_dir /home/Jane", "--data_dir [path]"),
        ("python -m train.drai /x/Jane --data_dir=data", "[path] --data_dir=data"),
        ("python -m train.drai --set=content_dim=8 '--data=planes=axial coronal'", None),
        ("tfdisent train drai --flagfile=~jane/flags.txt", "--flagfile=FLAGFILE"),
    ],
)
def test_folders_of_a_command_are_told_by_their_flags(command, shown):
    told = privacy.public_command(command)
    assert "jane" not in told.lower()
    assert told == command if shown is None else told.endswith(shown)


def test_a_command_with_an_unpaired_quote_is_told_without_paths():
    assert privacy.public_command("echo 'it /home/Jane/x") == "echo 'it [path]"


def test_a_private_flag_in_any_text_is_told_without_its_value():
    assert privacy.without_paths("run with --raw_dir=scans/Jane --steps=5") == "run with --raw_dir=[path] --steps=5"
    assert privacy.without_paths("--raw_dir 'Jane Roe' first") == "--raw_dir [path] first"
    assert privacy.without_paths(pathlib.PurePosixPath("/Jane")) == "[path]"


def test_the_key_is_made_once_for_the_users_eyes_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    key = privacy.hash_key()
    path = tmp_path / "settings" / "tfdisent" / "subjects.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(key) == 64
    assert privacy.hash_key() == key == privacy.hash_key(path)
    assert privacy.hash_key(tmp_path / "other") != key
    assert os.listdir(path.parent) == ["subjects.key"]


def test_processes_that_make_the_key_at_once_use_the_same(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert len(set(pool.map(privacy.hash_key, [tmp_path / "key"] * 8))) == 1


def test_a_digest_is_the_hmac_of_the_name():
    # RFC 4231, test case 2
    assert privacy.digest(b"Jefe", "what do ya want for nothing?") == "5bdcc146bf60754e"


def test_a_key_that_protects_nobody_is_refused(tmp_path):
    path = tmp_path / "key"
    path.write_text("secret\n")
    path.chmod(0o600)
    with pytest.raises(ValueError, match="key has 6 bytes, expected 32 or more"):
        privacy.hash_key(path)
    path.write_text("x" * 32)
    path.chmod(0o644)
    with pytest.raises(ValueError, match=r"open to other users \(mode 0644\)"):
        privacy.hash_key(path)
    path.chmod(0o600)
    assert privacy.hash_key(path, outside=tmp_path / "data") == b"x" * 32
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link"):
        with pytest.raises(ValueError, match="key lies in .*, which is passed on with the prepared data"):
            privacy.hash_key(path, outside=folder)
