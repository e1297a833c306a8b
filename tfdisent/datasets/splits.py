"""Who trains and who tests: subjects by split, drawn by a seed or cut into folds.

Every data set can be cut into folds for cross-validation, by its options `folds` and `fold`:

    units_by_split(dataclasses.replace(builder, folds=5, fold=0), raw_dir)    # fold 0 tests, the others train

The subjects of its splits train, val and test are cut anew, those of each group (class, scanner) evenly, so that each
tests in one fold. Other splits stay as they are.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from tfdisent.datasets.builder import Builder, Unit

CUT = ("train", "val", "test")  # splits whose subjects are cut into folds


def units_by_split(builder: Builder, raw_dir: pathlib.Path | None) -> dict[str, list[Unit]]:
    """The units of a data set by split: by its own, or with `folds` those of fold number `fold`.

    A fold has as many subjects for validation as the data set's own split.

    Raises:
        ValueError: there is no such fold, there are fewer subjects than folds, or none is left to train on.
    """
    fold, folds = builder.fold, builder.folds
    if folds and not (folds >= 2 and 0 <= fold < folds):
        raise ValueError(
            f"{builder.name}: expected folds of 2 or more and fold from 0 to folds - 1, received folds={folds} and "
            f"fold={fold}."
        )
    own = builder.own_folds(raw_dir)
    if fold and not folds and not own:
        raise ValueError(f"{builder.name}: fold={fold} of how many? Give folds=K, which cuts the subjects into K.")
    if folds in (0, own):
        return builder.splits(raw_dir)
    splits = dataclasses.replace(builder, fold=0).splits(raw_dir)  # its own may have fewer folds
    units = [builder.in_split(unit, "train") for split in CUT for unit in splits.get(split, ())]
    groups = {unit.subject: unit.group for unit in units if not unit.problem}
    in_val = {unit.subject for unit in splits.get("val", ()) if not unit.problem}
    try:
        cut = cut_into_folds(groups, fold, folds, len(in_val), builder.seed)
    except ValueError as error:
        raise ValueError(f"{builder.name}: {error}") from error
    dealt = {split: [builder.in_split(unit, split) for unit in of] for split, of in deal(units, cut).items()}
    return dealt | {split: of for split, of in splits.items() if split not in CUT}


def cut_into_folds(
    groups: Mapping[str, str], fold: int, folds: int, num_val: int = 0, seed: int = 0
) -> dict[str, list[str]]:
    """Subjects by split, of which fold number `fold` tests, and of the others `num_val` validate.

    Args:
        groups: {subject: its group}; each group is dealt evenly to the folds.
        fold, folds: which fold tests, and how many there are.
        num_val: subjects of the split "val", which come from the next folds; there is none without them.
        seed: of the order in which a group is dealt.

    Raises:
        ValueError: fewer subjects than folds, or none is left to train on.
    """
    if len(groups) < folds:
        raise ValueError(f"{len(groups)} subjects cannot be cut into {folds} folds. Give fewer folds, or add subjects.")
    random = np.random.default_rng(seed)
    names = sorted(groups)
    order = [
        name
        for group in sorted(set(groups.values()))
        for name in random.permutation([name for name in names if groups[name] == group]).tolist()
    ]
    test, *others = (order[(fold + k) % folds :: folds] for k in range(folds))
    rest = list(itertools.chain(*others))
    if num_val >= len(rest):
        raise ValueError(
            f"{len(groups)} subjects in {folds} folds leave {len(rest)} that do not test, of whom {num_val} would "
            "validate, and nobody to train on. Give more folds, or a smaller split val."
        )
    splits = {"train": rest[num_val:], "val": rest[:num_val], "test": test}
    return {split: subjects for split, subjects in splits.items() if subjects}


def seeded_split(
    subjects: Sequence[str], fractions: Mapping[str, float], seed: int, group: str = ""
) -> dict[str, list[str]]:
    """Subjects by split: those of `fractions` first, drawn by `seed`, and "train" for the rest. `group` names them in
    errors.

    The order of `subjects` and their repetitions make no difference. A split with a fraction above 0 has at least one
    subject, and so has "train".

    Raises:
        ValueError: there are fewer subjects than splits.
    """
    names = sorted(set(subjects))
    wanted = {split: fraction for split, fraction in fractions.items() if fraction > 0}
    if len(names) <= len(wanted):
        raise ValueError(
            f"{len(names)} subjects {f'of {group} ' if group else ''}cannot be split into train, {', '.join(wanted)}. "
            "Add subjects, or set the fractions to 0."
        )
    order = np.random.default_rng(seed).permutation(names).tolist()
    splits, left = {}, len(names) - 1 - len(wanted)
    for split, fraction in wanted.items():
        extra = min(left, max(0, round(fraction * len(names)) - 1))
        splits[split], order, left = order[: extra + 1], order[extra + 1 :], left - extra
    return {"train": order, **splits}


def fold_split(
    subjects: Sequence[str], fold: int, num_folds: int, val_fraction: float, seed: int
) -> dict[str, list[str]]:
    """Subjects by split for cross-validation: shuffled by `seed`, cut into `num_folds` folds of which number `fold`
    tests; of the others the first `val_fraction` validate.

    Raises:
        ValueError: there is no such fold, or it would be empty.
    """
    order = np.random.default_rng(seed).permutation(sorted(set(subjects))).tolist()
    if not 0 <= fold < num_folds:
        raise ValueError(f"Expected fold to be 0 to {num_folds - 1}, received {fold}.")
    if len(order) < num_folds:
        raise ValueError(f"{len(order)} subjects cannot be cut into {num_folds} folds.")
    edges = np.linspace(0, len(order), num_folds + 1).astype(int)
    test, rest = (
        order[edges[fold] : edges[fold + 1]],
        order[: edges[fold]] + order[edges[fold + 1] :],
    )
    num_val = min(len(rest) - 1, max(1, int(val_fraction * len(rest)))) if val_fraction else 0
    splits = {"train": rest[num_val:], "val": rest[:num_val], "test": test}
    return {split: names for split, names in splits.items() if names}


def deal(units: Sequence[Unit], splits: Mapping[str, Sequence[str]]) -> dict[str, list[Unit]]:
    """Units by split from subjects by split. Units with a problem, of subjects in no split, come with "train", where
    they are reported.
    """
    where = {subject: split for split, subjects in splits.items() for subject in subjects}
    dealt: dict[str, list[Unit]] = {split: [] for split in splits}
    for unit in units:
        split = where.get(unit.subject)
        if split is None and unit.problem:
            split = "train"
        if split is not None:
            dealt[split].append(unit)
    return dealt
