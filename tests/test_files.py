"""Locks on folders, by processes of their own: one at a time, and free as soon as their owner has ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from tests.conftest import ROOT
from tfdisent.files import locked


@pytest.fixture
def start():
    """`start(code, folder)` runs code as a process, where `folder` is a name; it is killed after the test."""
    started = []

    def run(code: str, folder) -> subprocess.Popen:
        code = f"from tfdisent.files import locked\nfolder = {str(folder)!r}\n{textwrap.dedent(code)}"
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def owner_of(folder):
    """The process that the folder's record names."""
    return json.loads((folder / ".lock.json").read_text())["pid"]


HOLD = """
    with locked(folder, "training"):
        print("has it", flush=True)
        input()
"""
WAIT = """
    with locked(folder, "preparation", wait=True):
        print("has it too", flush=True)
"""


def test_a_folder_that_another_process_has_is_refused_naming_process_host_and_time(tmp_path, start):
    owner = start(HOLD, tmp_path / "run")
    assert owner.stdout.readline() == "has it\n"
    expected = rf"run is in use by process {owner.pid} on {socket.gethostname()} \(training since \d{{4}}-.*\)"
    with pytest.raises(BlockingIOError, match=expected), locked(tmp_path / "run", "training"):
        pass


def test_who_waits_says_once_for_whom_and_goes_on_when_the_folder_is_free(tmp_path, start):
    owner = start(HOLD, tmp_path)
    owner.stdout.readline()
    waiting = start(WAIT, tmp_path)
    said = waiting.stdout.readline()
    assert said.startswith(f"waiting for process {owner.pid} on {socket.gethostname()} (training since ")
    assert waiting.poll() is None
    owner.communicate("\n")
    assert waiting.communicate(timeout=30)[0] == "has it too\n"


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path, start):
    for _ in range(3):
        owner = start(HOLD, tmp_path)
        owner.stdout.readline()
        assert owner_of(tmp_path) == owner.pid
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        with locked(tmp_path, "training"):
            assert owner_of(tmp_path) == os.getpid()


def test_a_waiting_process_goes_on_when_the_owner_is_killed(tmp_path, start):
    owner = start(HOLD, tmp_path)
    owner.stdout.readline()
    waiting = start(WAIT, tmp_path)
    assert "waiting for" in waiting.stdout.readline()
    owner.kill()
    assert waiting.communicate(timeout=30)[0] == "has it too\n"


def test_a_process_that_the_owner_started_does_not_keep_the_lock(tmp_path, start):
    owner = start(
        """
        import subprocess, sys
        with locked(folder, "training"):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            print(child.pid, flush=True)
            input()
        """,
        tmp_path,
    )
    child = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    try:
        with locked(tmp_path, "training"):
            os.kill(child, 0)  # it still runs
            assert owner_of(tmp_path) == os.getpid()
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_record_of_a_killed_owner_is_not_taken_for_that_of_the_present_one(tmp_path, start):
    killed, owner = (start(HOLD, folder) for folder in (tmp_path / "other", tmp_path))
    for process in (killed, owner):
        process.stdout.readline()
    killed.kill()
    killed.wait()
    (tmp_path / ".lock.json").write_text((tmp_path / "other" / ".lock.json").read_text())
    with pytest.raises(BlockingIOError, match="in use by another process"), locked(tmp_path, "training"):
        pass


def test_within_a_thread_blocks_lie_in_one_another_and_the_outermost_frees_the_folder(tmp_path, start):
    with locked(tmp_path, "training"):
        with locked(f"{tmp_path}/../{tmp_path.name}", "evaluation"):
            pass
        waiting = start(WAIT, tmp_path)
        assert f"waiting for process {os.getpid()}" in waiting.stdout.readline()
    assert waiting.communicate(timeout=30)[0] == "has it too\n"


def test_two_threads_of_a_process_do_not_share_a_folder(tmp_path):
    refused = []

    def enter():
        try:
            with locked(tmp_path, "training"):
                pass
        except BlockingIOError as error:
            refused.append(str(error))

    with locked(tmp_path, "training"):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(refused) == 1 and f"process {os.getpid()}" in refused[0]


def test_an_error_inside_frees_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path, "training"):
        raise ZeroDivisionError
    with locked(tmp_path, "training"):
        assert (tmp_path / ".lock.json").is_file()
    assert not (tmp_path / ".lock.json").exists()
