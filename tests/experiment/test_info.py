"""What `tfdisent info` says of a run folder that is not as runs leave it."""

import json

import pytest

from tfdisent.experiment.info import describe


@pytest.fixture
def run_dir(tmp_path):
    record = {
        **{"system": "drai", "model": "drai", "dataset": "skin_phantom", "preset": "quick", "seed": 0},
        **{"data_options": {}, "mixed_precision": None, "config": {"steps": 40}},
    }
    (tmp_path / "config.json").write_text(json.dumps(record))
    (tmp_path / "checkpoints/step-00000030").mkdir(parents=True)
    return tmp_path


def test_other_folders_beside_checkpoints_are_passed_over(run_dir):
    for name in ("step-notes", "step-00000035 (copy)"):
        (run_dir / "checkpoints" / name).mkdir()
    assert "30 of 40" in describe(str(run_dir))


@pytest.mark.parametrize("name", ["config.json", "export.json", "metrics.json"])
def test_a_damaged_file_is_named(run_dir, name):
    (run_dir / name).write_text('{"step": ')
    with pytest.raises(ValueError, match=f"{name} is damaged, it is no JSON"):
        describe(str(run_dir))
