"""Trainings from several sources to one target: which they are, where they lie, and what is refused."""

import pytest

from tfdisent import experiment
from tfdisent.experiment import sources

DOMAINS = ("b", "a", "c")


def settings(**changes):
    return experiment.Settings(
        system="harmonize", run_dir="r", export_dir="e", data={"scanners": "scanner_c,scanner_b,scanner_a"}, **changes
    )


def test_each_source_has_a_training_of_its_own_to_the_one_target():
    found = sources.settings_from_each(settings(changes={"filters": 4}), ["c", "b"], DOMAINS)
    assert list(found) == ["c", "b"]
    assert found["c"].changes == {"filters": 4, "source": "c", "target": "a"}
    assert (found["c"].folder.as_posix(), found["c"].export_folder.as_posix()) == ("r/from-c", "e/from-c")
    every = sources.settings_from_each(settings(changes={"target": "c"}), ["all"], DOMAINS)
    assert {source: one.changes["target"] for source, one in every.items()} == {"b": "c", "a": "c"}


@pytest.mark.parametrize(
    ("asked", "changes"), [(["a"], {}), (["b", "b"], {}), (["d"], {}), ([], {}), (["b"], {"target": "d"})]
)
def test_sources_that_are_no_other_domains_are_refused(asked, changes):
    with pytest.raises(ValueError, match="Expected --sources of .*, each once, or all"):
        sources.settings_from_each(settings(changes=changes), asked, DOMAINS)


def test_one_source_and_several_are_not_given_together():
    with pytest.raises(ValueError, match="--sources=... or --set=source=..., not both"):
        sources.settings_from_each(settings(changes={"source": "b"}), ["b"], DOMAINS)


def test_all_are_trained_in_turn_and_those_that_fail_are_named_in_the_end(monkeypatch):
    trained = []

    def train(one):
        trained.append((one.config(domains=("scanner_c", "scanner_b", "scanner_a")).source, one.folder.name))
        return trained[-1][0] != "scanner_c"

    monkeypatch.setattr(sources, "train", train)
    failed = experiment.train_from_each(settings(changes={"target": "scanner_a"}), ["all"])
    assert failed == ["scanner_c"]
    assert trained == [("scanner_c", "from-scanner_c"), ("scanner_b", "from-scanner_b")]
