"""Cross-validation: what is trained, what is not trained twice, and what the folds say together."""

import json

import pytest

from tests.commands.shell import call
from tfdisent import datasets
from tfdisent.datasets.splits import units_by_split
from tfdisent.evaluation.entries import entry
from tfdisent.experiment import Settings, cross_validate, folds, reproduction
from tfdisent.experiment.folder import flags_text

pytestmark = pytest.mark.backend("tensorflow")


def settings(tmp_path, **others):
    data = {"num_train": "5", "num_test": "2", "slices_per_subject": "2"} | others.pop("data", {})
    return Settings("mmsdnet", data_dir=str(tmp_path / "data"), run_dir=str(tmp_path / "r"), data=data, **others)


@pytest.fixture
def trained(monkeypatch):
    """Stands for training: writes what a finished run leaves, and lists the folds."""
    calls, broken = [], set()

    def train(run):
        fold = int(run.data["fold"])
        calls.append(fold)
        if fold in broken:
            return False
        (run.folder / "splits").mkdir(parents=True, exist_ok=True)
        builder = datasets.make_builder(run.dataset, run.preparation)
        names = [unit.subject for unit in units_by_split(builder, None)["test"]]
        (run.folder / "splits" / "test.txt").write_text("".join(f"{name}\n" for name in names))
        (run.folder / "flags.txt").write_text(flags_text(run))
        metrics = {
            "dice_fused": entry(0.2 + 0.3 * fold, 9, "by hand", per_class={"liver": 0.5}),
            "field_error_relative": entry(None if fold else 0.4, 9, "by hand"),
        }
        (run.folder / "metrics.json").write_text(json.dumps(metrics))
        return True

    monkeypatch.setattr(reproduction, "train", train)
    train.calls, train.broken = calls, broken
    return train


def test_mean_spread_and_what_is_pooled_by_the_subjects_of_each_fold():
    found = folds.summarize(
        [{"dice": 0.2, "error": float("nan")}, {"dice": 0.5}, {"dice": 0.8, "error": 3.0}], [3, 1, 1]
    )
    assert found["dice"] == {
        "mean": pytest.approx(0.5),
        "std": pytest.approx(0.3),
        "pooled": pytest.approx((3 * 0.2 + 0.5 + 0.8) / 5),
        "folds": [0.2, 0.5, 0.8],
    }
    assert found["error"] == {"mean": 3.0, "std": None, "pooled": 3.0, "folds": [None, None, 3.0]}
    assert folds.summarize([{"dice": float("nan")}], [2])["dice"]["pooled"] is None


def test_every_fold_is_trained_once_and_who_tests_where_is_listed(tmp_path, trained, capsys):
    assert cross_validate(settings(tmp_path), 3) == []
    assert trained.calls == [0, 1, 2]
    assert cross_validate(settings(tmp_path), 3) == [] and trained.calls == [0, 1, 2]
    assert capsys.readouterr().out.count("done before") == 3
    head, *rows = (tmp_path / "r" / "test-subjects.csv").read_text().splitlines()
    assert head == "fold,subject" and len({row.split(",")[1] for row in rows}) == 7
    assert [sum(row.startswith(f"{fold},") for row in rows) for fold in range(3)] == [3, 2, 2]
    found = json.loads((tmp_path / "r" / "folds.json").read_text())
    assert found["done"] == [0, 1, 2] and found["test_subjects"] == [3, 2, 2]
    assert found["metrics"]["dice_fused"]["pooled"] == pytest.approx((3 * 0.2 + 2 * 0.5 + 2 * 0.8) / 7)
    assert found["metrics"]["dice_fused/liver"]["mean"] == 0.5
    text = (tmp_path / "r" / "folds.md").read_text()
    assert "| 0.50 ± 0.30 | 0.4571 | 0.2 | 0.5 | 0.8 |" in text and "| 0.4 | 0.4 | 0.4 | – | – |" in text
    assert "--folds=3" in text and "3 of fold 0, 2 of fold 1" in text
    page = (tmp_path / "r" / "folds.html").read_text()
    names = [row.split(",")[1] for row in rows]
    assert "0.50 ± 0.30" in page and str(tmp_path) not in page and not any(name in page + text for name in names)


def test_a_fold_that_fails_is_said_and_tried_again(tmp_path, trained, capsys):
    trained.broken.add(1)
    assert cross_validate(settings(tmp_path), 3) == [1]
    assert "failed: fold 1" in capsys.readouterr().out
    assert json.loads((tmp_path / "r" / "folds.json").read_text())["done"] == [0, 2]
    trained.broken.clear()
    assert cross_validate(settings(tmp_path), 3) == [] and trained.calls == [0, 1, 2, 1]


def test_a_finished_fold_of_other_settings_is_not_passed_over(tmp_path, trained):
    cross_validate(settings(tmp_path), 2)
    cross_validate(settings(tmp_path, steps=7), 2)
    assert trained.calls == [0, 1, 0, 1]


def test_a_subject_that_tests_twice_is_an_error(tmp_path, trained):
    cross_validate(settings(tmp_path), 2)
    (tmp_path / "r/fold-1/splits/test.txt").write_text((tmp_path / "r/fold-0/splits/test.txt").read_text())
    with pytest.raises(ValueError, match="A subject tests in .*fold-0 and in .*fold-1"):
        cross_validate(settings(tmp_path), 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--folds=1"], "--folds of 2 or more, received 1"),
        (["--folds=8"], "7 subjects cannot be cut into 8 folds"),
        (["--folds=2", "--data=fold=1"], "leave out --data=fold="),
        (["--folds=2", "--judge_dir=j"], "Leave out --judge_dir"),
    ],
)
def test_what_cannot_be_cut_is_one_message_before_anything_is_trained(tmp_path, trained, arguments, words):
    data = ["--data=num_train=5", "--data=num_test=2"]
    _, err = call(tmp_path, "train", "mmsdnet", *data, *arguments, status=1)
    assert words in err and "Traceback" not in err
    assert not trained.calls and not (tmp_path / "runs").exists()


def test_the_command_trains_the_folds_in_a_folder_of_their_own(tmp_path, trained):
    call(tmp_path, "train", "mmsdnet", "--data=num_train=2", "--data=num_test=2", "--folds=2")
    assert (tmp_path / "runs/mmsdnet-abdomen_phantom-quick-seed0-folds2/folds.md").is_file()
    trained.broken.add(0)
    call(tmp_path, "train", "mmsdnet", "--data=num_train=2", "--data=num_test=2", "--folds=2", "--seed=1", status=1)
