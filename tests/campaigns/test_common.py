"""What the campaigns share: counts add up over sessions, and stops are told apart from failures."""

import json
import os
import signal
import time

import pytest

from tests.campaigns import common

pytestmark = pytest.mark.backend("torch")


def test_a_table_that_is_there_is_continued(tmp_path):
    row = {"backend": "torch", "fault": "SIGKILL", "tries": 2, "lost": 0, "slowest (s)": 0.5}
    common.Table(tmp_path / "of/counts.json").add(row)
    table = common.Table(tmp_path / "of/counts.json")
    table.add(row | {"tries": 3, "lost": 1, "slowest (s)": 0.25})
    table.add(row | {"fault": "SIGINT"})
    assert json.loads((tmp_path / "of/counts.json").read_text()) == table.rows
    assert table.rows == [row | {"tries": 5, "lost": 1}, row | {"fault": "SIGINT"}]


def test_two_campaigns_may_add_to_one_table(tmp_path):
    one, other = (common.Table(tmp_path / "counts.json") for _ in range(2))
    one.add({"fault": "SIGKILL", "tries": 1})
    other.add({"fault": "SIGKILL", "tries": 2})
    one.add({"fault": "SIGINT", "tries": 1})
    assert common.Table(tmp_path / "counts.json").rows == [
        {"fault": "SIGKILL", "tries": 3},
        {"fault": "SIGINT", "tries": 1},
    ]


def test_draws_differ_from_session_to_session_and_are_the_same_for_the_same_table(tmp_path):
    table = common.Table(tmp_path / "counts.json")
    first, again = (common.Table(tmp_path / "counts.json").rng(0).random() for _ in range(2))
    table.add({"fault": "SIGKILL", "tries": 1})
    assert first == again != table.rng(0).random()
    assert first != common.Table(tmp_path / "none.json").rng(1).random()


def test_rows_take_turns_until_each_has_its_tries(tmp_path):
    table = common.Table(tmp_path / "counts.json")
    table.add({"fault": "a", "tries": 2})
    turns = []
    for row in table.in_turn([{"fault": "a"}, {"fault": "b"}], tries=3):
        turns.append(row["fault"])
        table.add(row | {"tries": 1})
    assert turns == ["b", "b", "a", "b"]
    assert not list(table.in_turn([{"fault": "a"}], tries=3))
    assert not list(table.in_turn([{"fault": "a"}], tries=9, minutes=0))


def test_a_table_is_shown_in_markdown(tmp_path, capsys):
    table = common.Table(tmp_path / "counts.json")
    table.add({"fault": "SIGKILL", "tries": 1})
    table.show()
    assert "| fault | tries |\n|---|---|\n| SIGKILL | 1 |\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "number, status", [("SIGKILL", -signal.SIGKILL), ("SIGTERM", 128 + signal.SIGTERM), ("SIGINT", 128 + signal.SIGINT)]
)
def test_a_stop_is_told_by_the_exit_status(tmp_path, number, status):
    def work():
        while True:
            time.process_time()

    assert common.stopped(work, tmp_path / "log", after=0.02, number=getattr(signal, number)) == status


def test_failures_and_ends_before_the_stop_are_told_too(tmp_path):
    def fail():
        raise ValueError("the reason")

    assert common.stopped(fail, tmp_path / "log", after=60, number=signal.SIGKILL) == 1
    assert "the reason" in (tmp_path / "log").read_text()
    assert common.stopped(lambda: None, tmp_path / "log", after=60, number=signal.SIGKILL) == 0


def test_what_a_process_started_counts_as_its_work(tmp_path):
    def work():
        if os.fork() == 0:
            while True:
                time.process_time()
        time.sleep(600)

    pid = common.forked(work, tmp_path / "log")
    assert common.ended(pid, 60, work=0.03) is None and common.worked(pid) > 0.03
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert common.worked(pid) == 0
