"""The mutation campaign's lists fit the tree, and what does not fit is refused."""

import ast
import collections

import pytest

from tests.campaigns.mutate import ROOT, SYSTEMS, Mutation, mutated, mutations_of

EVERY = [mutation for system in SYSTEMS for mutation in mutations_of(system)]


def test_every_mutation_fits_the_tree_and_has_a_name_of_its_own():
    for mutation in EVERY:
        mutated(mutation)
    assert not [name for name, count in collections.Counter(m.name for m in EVERY).items() if count > 1]


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_system_has_at_least_forty(system):
    assert len(mutations_of(system)) >= 40


def test_every_test_that_is_to_kill_one_exists():
    for node in {mutation.test for mutation in EVERY}:
        file, name = node.split("::")
        names = {item.name for item in ast.parse((ROOT / file).read_text("utf-8")).body if hasattr(item, "name")}
        assert name.partition("[")[0] in names, node


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("absent", "there", "found it 0 times"),
        ("line", "lines", "found it 2 times"),
        ("a = 1", "a = 1", "another in its place"),
        ("a = 1", "a = (1", "expected Python in some.py"),
    ],
)
def test_a_text_that_is_not_there_once_or_makes_no_python_is_refused(tmp_path, old, new, message):
    (tmp_path / "some.py").write_text("a = 1  # line\nb = 2  # line\n")
    with pytest.raises(ValueError, match=f"one: .*{message}"):
        mutated(Mutation("one", "some.py", old, new, "a test"), tmp_path)


def test_a_text_that_is_there_once_is_replaced(tmp_path):
    (tmp_path / "some.py").write_text("a = 1\nb = 2\n")
    assert mutated(Mutation("one", "some.py", "a = 1", "a = 3", "a test"), tmp_path) == "a = 3\nb = 2\n"
