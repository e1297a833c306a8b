"""Who trains and who tests. What is random here is told by counting, never by names."""

import dataclasses

import pytest

from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.phantom import AbdomenPhantom, BrainPhantom
from tfdisent.datasets.splits import cut_into_folds, fold_split, seeded_split, units_by_split


@dataclasses.dataclass(frozen=True)
class Ten(Builder):
    """Ten subjects of two sites, two sessions each, one of which cannot be read, and one without labels."""

    name = "ten"

    seed: int = 0
    official: bool = False
    known: int = 0

    def info(self, raw_dir):
        raise NotImplementedError

    def own_folds(self, raw_dir):
        return self.known

    def splits(self, raw_dir):
        if self.official:
            self.refuse_folds("the list of the challenge")
        units = [Unit(f"s{n}-{k}", f"s{n}", group="ab"[n % 5 == 0]) for n in range(10) for k in range(2)]
        broken, other = Unit("broken", "broken", problem="no file"), Unit("t0", "t0")
        if self.known:
            return {"train": units[2:], "test": units[:2]} if not self.fold else {"train": units[:2], "test": units[2:]}
        return {"train": [*units[:14], broken], "val": units[14:16], "test": units[16:], "unlabelled": [other]}

    def examples(self, unit):
        return iter(())


def subjects(splits, split):
    return {unit.subject for unit in splits.get(split, ()) if not unit.problem}


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_every_subject_tests_in_one_fold_and_is_in_one_split_of_each(folds):
    cut = [units_by_split(Ten(folds=folds, fold=k), None) for k in range(folds)]
    tested = [subjects(splits, "test") for splits in cut]
    assert sum(map(len, tested)) == 10 and len(set().union(*tested)) == 10
    assert max(map(len, tested)) - min(map(len, tested)) <= 1
    for splits in cut:
        train, val, test = (subjects(splits, split) for split in ("train", "val", "test"))
        assert len(train) + len(val) + len(test) == 10 and not (train & val or train & test or val & test)
        assert len(val) == 1  # as many as the data set's own split has
        assert sum(len(units) for units in splits.values()) == 22  # both sessions, and what is broken


def test_what_is_broken_is_told_and_other_splits_stay():
    splits = units_by_split(Ten(folds=5, fold=2), None)
    assert [unit.key for unit in splits["train"] if unit.problem] == ["broken"]
    assert subjects(splits, "unlabelled") == {"t0"}


def test_a_group_is_dealt_evenly():
    groups = {f"s{n}": "rare" if n < 3 else "common" for n in range(30)}
    for fold in range(3):
        test = cut_into_folds(groups, fold, 3)["test"]
        assert sum(groups[name] == "rare" for name in test) == 1


def test_the_seed_decides_and_the_order_of_names_does_not():
    groups = dict.fromkeys("abcdefghij", "")
    cut = cut_into_folds(groups, 0, 5, 2, seed=1)
    assert cut == cut_into_folds(dict(reversed(groups.items())), 0, 5, 2, seed=1)
    assert cut["test"] != cut_into_folds(groups, 0, 5, 2, seed=2)["test"]


def test_folds_that_the_data_set_knows_by_itself_are_its_own():
    for fold in (0, 1):
        own = Ten(known=2, fold=fold)
        assert units_by_split(own, None) == own.splits(None)
        assert units_by_split(dataclasses.replace(own, folds=2), None) == own.splits(None)
    cut = [subjects(units_by_split(Ten(known=2, folds=3, fold=k), None), "test") for k in range(3)]
    assert [len(test) for test in cut] == [4, 3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 11}, "ten: 10 subjects cannot be cut into 11 folds. Give fewer"),
        ({"folds": 1}, "folds of 2 or more and fold from 0 to folds - 1, received folds=1 and fold=0"),
        ({"folds": 3, "fold": 3}, "received folds=3 and fold=3"),
        ({"fold": 1}, "fold=1 of how many"),
        ({"folds": 3, "official": True}, "folds=3 would cut all subjects anew, but the list of the challenge says who"),
    ],
)
def test_folds_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        units_by_split(Ten(**options), None)


def test_a_split_val_leaves_someone_to_train_on():
    with pytest.raises(ValueError, match="2 subjects in 2 folds leave 1 that do not test, of whom 1 would validate"):
        cut_into_folds({"a": "", "b": ""}, 0, 2, 1)


def test_subjects_of_phantoms_are_cut_and_those_who_test_are_on_every_scanner():
    builder = BrainPhantom(num_train=6, num_test=3, scanners=("scanner_a", "scanner_b"), folds=3)
    cut = [units_by_split(dataclasses.replace(builder, fold=k), None) for k in range(3)]
    assert len(set().union(*(subjects(splits, "test") for splits in cut))) == 9
    for splits in cut:
        assert {len(unit.source[1]) for unit in splits["test"]} == {2}
        assert {len(unit.source[1]) for unit in splits["train"]} == {1}


def test_a_phantom_draws_the_same_subject_wherever_folds_put_it():
    builder = AbdomenPhantom(num_train=2, num_test=1, size=16, slices_per_subject=1)
    own = {unit.key: unit for units in units_by_split(builder, None).values() for unit in units}
    for fold in range(3):
        cut = units_by_split(dataclasses.replace(builder, folds=3, fold=fold), None)
        assert {unit.key: unit for units in cut.values() for unit in units} == own


def test_seeded_splits_depend_on_the_names_and_the_seed_alone():
    names = [f"p{index}" for index in range(20)]
    first = seeded_split(names, {"test": 0.3, "val": 0.1}, 0)
    assert first == seeded_split(names[::-1] * 2, {"test": 0.3, "val": 0.1}, 0)
    assert first != seeded_split(names, {"test": 0.3, "val": 0.1}, 1)
    assert {split: len(found) for split, found in first.items()} == {
        "train": 12,
        "test": 6,
        "val": 2,
    }
    assert sorted(sum(first.values(), [])) == sorted(names)
    small = seeded_split(["a", "b", "c"], {"test": 0.9, "val": 0.01}, 0)
    assert [len(found) for found in small.values()] == [1, 1, 1]
    with pytest.raises(ValueError, match="2 subjects of here cannot be split"):
        seeded_split(["a", "b"], {"test": 0.1, "val": 0.1}, 0, "here")
    assert seeded_split(["a"], {"test": 0, "val": 0}, 0) == {"train": ["a"]}


def test_every_subject_tests_in_one_published_fold():
    names = [f"p{index}" for index in range(13)]
    folds = [fold_split(names, fold, 5, 0.1, 0) for fold in range(5)]
    assert sorted(sum((fold["test"] for fold in folds), [])) == sorted(names)
    for fold in folds:
        assert sorted(sum(fold.values(), [])) == sorted(names) and len(fold["val"]) == 1
    assert "val" not in fold_split(names, 0, 5, 0, 0)
    with pytest.raises(ValueError, match="fold to be 0 to 4"):
        fold_split(names, 5, 5, 0.1, 0)
    with pytest.raises(ValueError, match="3 subjects cannot be cut into 5"):
        fold_split(names[:3], 0, 5, 0.1, 0)
