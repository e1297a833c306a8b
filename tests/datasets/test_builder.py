import dataclasses
import hashlib
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tfdisent import datasets, privacy
from tfdisent.data import Manifest
from tfdisent.datasets import pool
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.phantom import SkinPhantom
from tfdisent.datasets.preparation import dry_run, fingerprint, prepare, prepared_folder
from tfdisent.datasets.shards import verify

PHANTOM = SkinPhantom(160, 8, size=16)


@dataclasses.dataclass(frozen=True)
class Numbers(Builder):
    """A picture per file of the raw folder, filled with the number in it."""

    name = "numbers"
    raw_help = "Get numbers from anywhere."
    num_shards = 2

    size: int = 4

    def info(self, raw_dir):
        return Manifest(self.name, self.version, (self.size, self.size, 1), labels=("even", "odd"))

    def splits(self, raw_dir):
        units = [Unit(p.stem, f"subject {p.stem}", p) for p in sorted(raw_dir.glob("*.txt"))]
        return {"train": units[2:], "test": units[:2]}

    def examples(self, unit):
        number = int(unit.source.read_text())
        yield {"image": np.full((self.size, self.size, 1), number, np.uint8), "label": number % 2}


@pytest.fixture
def numbers(tmp_path):
    raw_dir = tmp_path / "raw"
    raw_dir.mkdir()
    for index in range(8):
        (raw_dir / f"n{index}.txt").write_text(str(index))
    return raw_dir


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_killed_preparation_resumes_and_ends_with_the_same_bytes_for_any_workers(tmp_path):
    phantom = SkinPhantom(480, 8, size=16)
    whole = prepare(phantom, tmp_path / "whole", workers=1)
    options = ["--num_train=480", "--num_test=8", "--size=16", "--workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "datasets.build", "--dataset=skin_phantom", *options]
        + [f"--data_dir={tmp_path / 'killed'}"],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    killed = prepared_folder(phantom, tmp_path / "killed")
    deadline = time.monotonic() + 240
    while process.poll() is None and not list(killed.glob("*.tfrecord-*")):
        if time.monotonic() > deadline:
            break
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    written = contents(killed).keys()
    assert written and "manifest.json" not in written
    times = {
        name: (killed / name).stat().st_mtime_ns for name in written if (killed / f".partial/{name}.json").is_file()
    }
    assert prepare(phantom, tmp_path / "killed", workers=1) == killed
    assert contents(killed) == contents(whole)
    assert {name: (killed / name).stat().st_mtime_ns for name in times} == times  # not written again


def test_an_interruption_leaves_only_whole_shards(tmp_path, monkeypatch):
    original, calls = pool._write, []

    def interrupted(task, counts):
        calls.append(task.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(task, counts)

    monkeypatch.setattr(pool, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(PHANTOM, tmp_path, workers=1)
    folder = prepared_folder(PHANTOM, tmp_path)
    assert contents_of_shards(folder) == sorted(calls[:2])
    prepare(PHANTOM, tmp_path, workers=1)
    assert len(set(calls)) == 16 and len(calls) == 17
    assert not (folder / ".partial").exists()


def test_a_unit_is_read_by_one_thread_of_each_library_that_is_loaded(numbers, tmp_path):
    seen = []

    class Watched(Numbers):
        def examples(self, unit):
            seen.append([library["num_threads"] for library in threadpool_info()])
            yield from super().examples(unit)

    with threadpool_limits(2):
        prepare(Watched(), tmp_path / "data", numbers, workers=1)
        assert 2 in [library["num_threads"] for library in threadpool_info()]
    assert len(seen) == 8 and all(seen) and {count for counts in seen for count in counts} == {1}


def contents_of_shards(folder):
    return sorted(path.name for path in folder.glob("*.tfrecord-*"))


def test_a_whole_folder_is_returned_at_once_and_options_have_their_own(tmp_path, monkeypatch):
    first = prepare(PHANTOM, tmp_path, workers=1)
    monkeypatch.setattr(pool, "_write", None)
    assert prepare(PHANTOM, tmp_path) == first
    folders = {prepared_folder(b, tmp_path) for b in (PHANTOM, SkinPhantom(), SkinPhantom(size=32))}
    assert len(folders) == 3
    assert prepared_folder(SkinPhantom(), tmp_path) == tmp_path / "skin_phantom" / "1.0.0"
    assert Manifest.read(first).options == {
        **{"folds": 0, "fold": 0, "num_train": 160, "num_test": 8, "num_val": 0, "size": 16, "seed": 0},
        "hash_subjects": False,
    }


def test_other_raw_data_under_the_same_options_is_an_error(numbers, tmp_path):
    folder = prepare(Numbers(), tmp_path, numbers, workers=1)
    assert prepare(Numbers(), tmp_path) == prepare(Numbers(), tmp_path, numbers) == folder
    (numbers / "n9.txt").write_text("9")
    with pytest.raises(ValueError, match="prepared from other raw data"):
        prepare(Numbers(), tmp_path, numbers)


def test_what_was_left_of_other_raw_data_is_written_again(numbers, tmp_path):
    (numbers / "n7.txt").write_text("seven")
    with pytest.raises(ValueError, match="numbers, n7: invalid literal"):
        prepare(Numbers(), tmp_path, numbers, workers=1)
    (numbers / "n7.txt").write_text("7")
    (numbers / "n6.txt").write_text("66")
    folder = prepare(Numbers(), tmp_path, numbers, workers=1)
    assert contents(folder) == contents(prepare(Numbers(), tmp_path / "new", numbers, workers=1))


def test_skipped_units_are_listed_and_a_strict_run_does_not_take_them_over(numbers, tmp_path):
    (numbers / "n7.txt").write_text("seven")
    folder = prepare(Numbers(), tmp_path, numbers, workers=1, on_error="skip")
    manifest = verify(folder)
    assert [entry["key"] for entry in manifest.skipped] == ["n7"]
    assert "invalid literal" in manifest.skipped[0]["reason"]
    assert manifest.splits["train"]["num_examples"] == 5
    for index in (0, 1):
        (numbers / f"n{index}.txt").write_text("none")
    with pytest.raises(ValueError, match="nothing of split 'test' could be read"):
        prepare(Numbers(size=5), tmp_path, numbers, workers=1, on_error="skip")
    with pytest.raises(ValueError, match="invalid literal"):
        prepare(Numbers(size=5), tmp_path, numbers, workers=1)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RecursionError("too deep"), RuntimeError("of SimpleITK"), OverflowError("too large"), EOFError()],
)
def test_whatever_reading_one_unit_raises_is_its_own_failure(error, numbers, tmp_path, monkeypatch):
    whole = Numbers.examples

    def examples(self, unit):
        if unit.key == "n7":
            raise error
        yield from whole(self, unit)

    monkeypatch.setattr(Numbers, "examples", examples)
    folder = prepare(Numbers(), tmp_path, numbers, workers=1, on_error="skip")
    (skipped,) = Manifest.read(folder).skipped
    assert skipped["key"] == "n7" and type(error).__name__ in skipped["reason"] and str(error) in skipped["reason"]
    with pytest.raises(ValueError, match=f"numbers, n7: .*{type(error).__name__}"):
        prepare(Numbers(size=5), tmp_path, numbers, workers=1)


def test_hashed_subjects_hide_names_everywhere(numbers, tmp_path):
    (numbers / "n7.txt").write_text("seven")
    options = {"hash_subjects": True, "hash_key_file": tmp_path / "keys" / "mine"}
    folder = prepare(Numbers(), tmp_path / "data", numbers, workers=1, on_error="skip", **options)
    assert folder != prepared_folder(Numbers(), tmp_path / "data")
    for name, content in contents(folder).items():
        assert b"subject n" not in content and b"n7" not in content, name
    subjects = set(Manifest.read(folder).splits["train"]["subjects"])
    assert len(subjects) == 5
    # A list of all names is of no use without the key.
    names = [f"numbers:subject n{index}" for index in range(8)]
    assert not subjects & {hashlib.sha256(name.encode()).hexdigest()[:16] for name in names}
    key = (tmp_path / "keys" / "mine").read_bytes().strip()
    assert subjects < {privacy.digest(key, name) for name in names}


def test_the_same_key_gives_the_same_digests_and_another_key_is_noticed(numbers, tmp_path):
    def prepared(data_dir, key):
        options = {"hash_subjects": True, "hash_key_file": tmp_path / key}
        return prepare(Numbers(), tmp_path / data_dir, numbers, workers=1, **options)

    def subjects(folder):
        return set(Manifest.read(folder).splits["train"]["subjects"])

    folder = prepared("a", "one")
    assert prepared("a", "one") == folder
    assert contents(prepared("b", "one")) == contents(folder)
    assert not subjects(prepared("c", "two")) & subjects(folder)
    with pytest.raises(ValueError, match="prepared from other raw data .*, or with another key"):
        prepared("a", "two")
    with pytest.raises(ValueError, match="hash_key_file is of hash_subjects"):
        prepare(Numbers(), tmp_path / "a", numbers, hash_key_file=tmp_path / "one")


def test_what_a_killed_preparation_leaves_names_nobody_and_goes_with_the_next(numbers, tmp_path, monkeypatch):
    options = {"workers": 1, "hash_subjects": True, "hash_key_file": tmp_path / "key"}

    def killed(tasks, progress, workers):
        pool._write(tasks[0], progress.counts)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pool, "write_shards", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(Numbers(), tmp_path / "data", numbers, **options)
    (plan,) = (tmp_path / "data").rglob("plan.json")
    left = contents(plan.parent)
    assert len(left) == 2
    for name, content in left.items():
        assert not re.search(rb"n\d|subject n", content), name
    (plan.parent / "x.problem").write_text("subject n3")  # as Beam hands an error over, and was killed
    folder = prepare(Numbers(), tmp_path / "data", numbers, **options)
    assert folder == plan.parents[1] and not plan.parent.exists()
    plan.parent.mkdir()  # killed after its last file
    plan.write_text("n3")
    assert prepare(Numbers(), tmp_path / "data", numbers, **options) == folder and not plan.parent.exists()


def test_verify_names_every_bad_shard(tmp_path):
    folder = prepare(PHANTOM, tmp_path, workers=1)
    shards = sorted(folder.glob("*-train.*"))
    verify(folder)
    content = bytearray(shards[0].read_bytes())
    content[500] ^= 1
    shards[0].write_bytes(content)
    shards[1].unlink()
    with pytest.raises(OSError, match=f"(?s){shards[0].name}: its checksum.*{shards[1].name}: missing"):
        verify(folder)


def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(tmp_path):
    builder = SkinPhantom(24, 8, size=64)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(OSError, match="(?s)cannot be written.*the same command resumes"):
            prepare(builder, tmp_path, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = prepared_folder(builder, tmp_path)
    assert not list(folder.glob("*.tfrecord-*")) and not list(folder.glob(".partial/*.tmp"))
    verify(prepare(builder, tmp_path, workers=1))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="(?s)Preparation of .*file.* stopped"):
        prepare(PHANTOM, tmp_path / "file", workers=1)


class Given(Builder):
    """Units as given by a test."""

    name = "given"
    units = ()

    def info(self, raw_dir):
        return Manifest(self.name, self.version, (2, 2, 1))

    def splits(self, raw_dir):
        return {"train": list(self.units[:-1]), "test": list(self.units[-1:])}

    def examples(self, unit):
        if unit.source == "die":
            os._exit(1)
        return iter(unit.source or ())


@pytest.mark.parametrize(
    "units, message",
    [
        ((Unit("a", "p"), Unit("b", "p")), "subject 'p' is in two splits, train and test"),
        ((Unit("a", "p"), Unit("a", "q")), "'a' occurs twice"),
        ((Unit("a", "p"),), "split 'train' is empty"),
        ((Unit("a", "p"), Unit("b", "q")), "a: it gave no example"),
        (
            (Unit("a", "p", [{"image": np.zeros((3, 3, 1), np.uint8)}]), Unit("b", "q")),
            "a: image has shape",
        ),
        (
            (Unit("a", "p", problem="no file"), Unit("c", "r"), Unit("b", "q")),
            "(?s)1 problems.*no file.*skip",
        ),
    ],
)
def test_units_that_cannot_be_are_errors(units, message, tmp_path, monkeypatch):
    monkeypatch.setattr(Given, "units", units)
    with pytest.raises(ValueError, match=message):
        prepare(Given(), tmp_path, workers=1)


def test_missing_raw_data_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="(?s)needs its raw data.*Get numbers"):
        prepare(Numbers(), tmp_path)
    with pytest.raises(FileNotFoundError, match="(?s)does not exist.*Get numbers"):
        prepare(Numbers(), tmp_path, tmp_path / "nowhere")


def test_a_dry_run_without_raw_data_says_where_to_get_it_and_is_no_error(tmp_path):
    assert dry_run(Numbers()) == "numbers needs its raw data, given as raw_dir.\nGet numbers from anywhere."
    assert "https://www.synapse.org/brats" in datasets.dry_run("brats")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        datasets.dry_run("brats", tmp_path / "nowhere")


def test_the_package_prepares_and_verifies_by_name(tmp_path):
    folder = datasets.prepare("skin_phantom", tmp_path, workers=1, num_train=6, num_test=3, size=16)
    assert datasets.verify(folder).splits["train"]["num_examples"] == 6
    assert datasets.prepare.__module__ == "tfdisent.datasets"  # no module has taken its place


def script(tmp_path, text):
    (tmp_path / "script.py").write_text(text)
    command = [sys.executable, str(tmp_path / "script.py")]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, cwd=tmp_path)


def test_a_script_that_every_worker_would_run_again_is_the_first_cause_named(tmp_path):
    text = """
from tfdisent.datasets import prepare
prepare("skin_phantom", "data", workers=2, num_train=16, num_test=4, size=16)
"""
    done = script(tmp_path, text)
    assert done.returncode == 1
    last = [line for line in done.stderr.splitlines() if line.startswith("OSError: Preparation of")][-1]
    assert f'stopped: {tmp_path / "script.py"} has no `if __name__ == "__main__":`' in last


def test_workers_print_no_noise_of_tensorflow(tmp_path):
    text = """
from tfdisent.messages import without_startup_noise
if __name__ == "__main__":
    with without_startup_noise():
        from tfdisent import datasets
        import tensorflow
    datasets.prepare("skin_phantom", "data", workers=2, num_train=16, num_test=4, size=16)
"""
    done = script(tmp_path, text)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("skin_phantom: 20 of 20 units, 20 good, 0 skipped, 0 failed")
    assert all(line.startswith("skin_phantom: ") for line in lines)  # a busy machine gives more of them


def test_a_worker_that_dies_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(Given, "units", tuple(Unit(key, key, "die") for key in "abc"))
    with pytest.raises(OSError, match="A worker process died, probably by lack of memory. Use fewer workers"):
        prepare(Given(), tmp_path, workers=2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("feature", ["image", "condition"])
def test_an_example_that_is_not_finite_is_refused_by_its_key(value, feature, tmp_path, monkeypatch):
    def examples(self, unit):
        for index in range(3):
            example = {"image": np.ones((2, 2, 1), np.float32), "condition": np.zeros(2)}
            if index == 1:
                example[feature].flat[1] = value
            yield {"key": f"{unit.key}/{index}", **example}

    def info(self, raw_dir):
        return Manifest(self.name, self.version, (2, 2, 1), "float32", condition_names=("age", "dose"))

    monkeypatch.setattr(Given, "units", (Unit("a", "p"), Unit("b", "q")))
    monkeypatch.setattr(Given, "examples", examples)
    monkeypatch.setattr(Given, "info", info)
    with pytest.raises(ValueError, match=f"given, a: a/1: {feature} holds 1 values that are not finite"):
        prepare(Given(), tmp_path, workers=1)


@dataclasses.dataclass(frozen=True)
class Slow(Numbers):
    """Each unit says which process reads it, and is not ready before there is a file `go`."""

    name = "slow"

    def examples(self, unit):
        folder = unit.source.parent.parent
        (folder / f"{unit.key}.{os.getpid()}").write_text("")
        while not (folder / "go").exists():
            time.sleep(0.02)
        return super().examples(unit)


PREPARE_SLOWLY = """
import pathlib, sys
from tests.datasets.test_builder import Slow
from tfdisent.datasets.preparation import prepare

if __name__ == "__main__":
    raw, data, workers = sys.argv[1:]
    print(prepare(Slow(), data, pathlib.Path(raw), workers=int(workers)))
"""


@pytest.fixture
def slow(numbers, tmp_path):
    """`slow(workers)` starts a preparation in a process of its own, which is killed after the test."""
    script = tmp_path / "prepare_slowly.py"
    script.write_text(PREPARE_SLOWLY)
    processes = []

    def start(workers):
        command = [sys.executable, script, numbers, tmp_path / "data", str(workers)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        processes.append(
            subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONUNBUFFERED": "1"}, **pipes)
        )
        return processes[-1]

    yield start
    for process in processes:
        with process:  # which closes its pipes and waits
            process.kill()


def readers(folder):
    """The processes that have begun to read a unit of `Slow`."""
    return {int(path.suffix[1:]) for path in folder.glob("n*.*")}


def waiting(process):
    """What a process says when it begins to wait."""
    return next(line for line in process.stdout if "waiting for" in line)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent_and_the_next_preparation_ends_what_it_began(slow, numbers, tmp_path, number):
    process = slow(workers=2)
    until(lambda: len(readers(tmp_path)) == 2)
    workers = readers(tmp_path)
    assert process.pid not in workers and all(map(is_running, workers))
    process.send_signal(number)
    until(lambda: not any(map(is_running, workers)))
    assert process.wait(10) != 0
    (tmp_path / "go").touch()
    folder = prepare(Slow(), tmp_path / "data", numbers, workers=1)
    assert verify(folder).splits["train"]["num_examples"] == 6
    assert not (folder / ".partial").exists()


def test_a_second_preparation_waits_and_takes_the_result_of_the_first(slow, numbers, tmp_path):
    first = slow(workers=1)
    until(lambda: readers(tmp_path))
    second = slow(workers=1)
    message = waiting(second)
    assert f"waiting for process {first.pid} on" in message and "preparation" in message
    (tmp_path / "go").touch()
    folders = {process.communicate(timeout=120)[0] for process in (first, second)}
    assert len(folders) == 1 and {first.returncode, second.returncode} == {0}
    assert readers(tmp_path) == {first.pid}
    folder = prepared_folder(Slow(), tmp_path / "data")
    assert folders == {f"{folder}\n"} and not (folder / ".partial").exists()
    verify(folder)


def test_wrong_arguments_are_errors(tmp_path):
    with pytest.raises(ValueError, match="on_error"):
        prepare(PHANTOM, tmp_path, on_error="ignore")
    with pytest.raises(ValueError, match="workers"):
        prepare(PHANTOM, tmp_path, workers=0)


def test_a_dry_run_is_a_table_and_writes_nothing(tmp_path):
    table = dry_run(PHANTOM, None)
    assert "train            160       160       8         0  bkl 54, mel 53, nv 53" in table
    assert not list(tmp_path.iterdir())


def test_the_dry_run_names_the_first_unit_that_lacks_a_modality_and_shows_notes(monkeypatch):
    units = (
        Unit("b", "q", modalities=("image",), note="a rating is taken as missing"),
        Unit("a", "p", modalities=("other",)),
        Unit("c", "r", modalities=("image",)),
    )
    monkeypatch.setattr(Given, "units", units)
    table = dry_run(Given(), None).splitlines()
    assert "image              2         1  a" in table
    assert "note: a rating is taken as missing" in table
    monkeypatch.setattr(Given, "units", (Unit("a", "p"), Unit("b", "q")))
    assert "modality" not in dry_run(Given(), None)  # where the index does not say


def test_a_split_may_share_subjects_with_the_one_it_is_part_of(tmp_path, monkeypatch):
    image = [{"image": np.zeros((2, 2, 1), np.uint8)}]
    monkeypatch.setattr(Given, "units", (Unit("a", "p", image), Unit("b", "p", image)))
    monkeypatch.setattr(Given, "part_of", {"test": "train"})
    manifest = Manifest.read(prepare(Given(), tmp_path, workers=1))
    assert manifest.splits["train"]["subjects"] == manifest.splits["test"]["subjects"] == ["p"]


def test_progress_counts_good_skipped_and_failed_units(numbers, tmp_path, monkeypatch):
    counted = []
    original = pool.UnitProgress.__exit__

    def exited(progress, *error):
        original(progress, *error)
        counted.append(tuple(progress.counts))

    monkeypatch.setattr(pool.UnitProgress, "__exit__", exited)
    (numbers / "n7.txt").write_text("seven")
    prepare(Numbers(), tmp_path, numbers, workers=1, on_error="skip")
    with pytest.raises(ValueError, match="numbers, n7: invalid literal"):
        prepare(Numbers(size=5), tmp_path, numbers, workers=1)
    assert counted[0] == (7, 1, 0) and counted[1][1:] == (0, 1)


def test_a_link_that_leads_nowhere_is_the_problem_of_its_unit_alone(numbers, tmp_path):
    (numbers / "n7.txt").unlink()
    (numbers / "n7.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(ValueError, match="n7: .*No such file"):
        prepare(Numbers(), tmp_path, numbers, workers=1)
    folder = prepare(Numbers(), tmp_path, numbers, workers=1, on_error="skip")
    assert [entry["key"] for entry in verify(folder).skipped] == ["n7"]
    assert prepare(Numbers(), tmp_path, numbers, workers=1, on_error="skip") == folder
    (tmp_path / "gone.txt").write_text("7")
    with pytest.raises(ValueError, match="prepared from other raw data"):
        prepare(Numbers(), tmp_path, numbers, workers=1, on_error="skip")


def test_a_file_that_vanishes_while_raw_data_is_looked_at_ends_nothing(numbers, monkeypatch):
    monkeypatch.setattr(Numbers, "raw_files", lambda self, raw_dir: [raw_dir / "n0.txt", raw_dir / "vanished.txt"])
    before = fingerprint(Numbers(), numbers)
    assert before == fingerprint(Numbers(), numbers)
    (numbers / "vanished.txt").write_text("")
    assert before != fingerprint(Numbers(), numbers)


def test_a_second_preparation_into_the_raw_folder_finds_the_raw_data_of_the_first(numbers):
    data_dir = numbers / "data"
    folder = prepare(Numbers(), data_dir, numbers, workers=1)
    written = contents(folder)
    assert prepare(Numbers(), data_dir, numbers, workers=1) == folder and contents(folder) == written
    other = prepare(Numbers(size=5), data_dir, numbers, workers=1)
    assert Manifest.read(other).source == Manifest.read(folder).source
