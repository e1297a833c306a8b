"""A mutation campaign: wrong lines are put into a copy of the tree, one at a time, and a named test must fail of each.

    .venv/bin/python -m tests.campaigns.mutate                    # all; a table in Markdown on standard output
    .venv/bin/python -m tests.campaigns.mutate --system drai      # those of tests/campaigns/mutations/drai.py
    .venv/bin/python -m tests.campaigns.mutate --only "no gradient reversal for F_c"

The tests run on PyTorch. A mutation whose text is not found exactly once, or whose test does not pass on the tree as it
is, is refused before any is tried. The exit status is 1 if a mutation survives.
"""

import argparse
import collections
import importlib
import os
import pathlib
import shutil
import sys
import tempfile
import time
from typing import NamedTuple

# Of the processes that run the tests; read where libraries are imported.
ENVIRONMENT = {
    "KERAS_BACKEND": "torch",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    **dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"),
}
ROOT = pathlib.Path(__file__).parents[2]
COPIED = ("benchmarks", "tests", "tfdisent", "pyproject.toml")
SYSTEMS = sorted(file.stem for file in (ROOT / "tests" / "campaigns" / "mutations").glob("*.py"))
OPTIONS = ("-x", "-q", "-rs", "--timeout=120", "-p", "no:cacheprovider", "-p", "no:xdist")
FAILED = 1  # pytest's exit status


class Mutation(NamedTuple):
    """A wrong line.

    Attributes:
        name: what is wrong, in words.
        file: path from the root of the repository.
        old: text that stands in the file exactly once.
        new: what takes its place.
        test: the test that must fail, as pytest names it; of a test with parameters, one of them must.
    """

    name: str
    file: str
    old: str
    new: str
    test: str


def mutations_of(system: str) -> list[Mutation]:
    """The mutations of `tests/campaigns/mutations/<system>.py`."""
    rows = importlib.import_module(f"tests.campaigns.mutations.{system}").MUTATIONS
    return [Mutation(*row) for row in rows]


def mutated(mutation: Mutation, root: pathlib.Path = ROOT) -> str:
    """The file's text with the wrong line in it.

    Raises:
        ValueError: the text stands there never or several times, or the result is no Python.
    """
    text = (root / mutation.file).read_text(encoding="utf-8")
    if text.count(mutation.old) != 1 or mutation.old == mutation.new:
        raise ValueError(
            f"{mutation.name}: expected its text once in {mutation.file}, and another in its place; found it "
            f"{text.count(mutation.old)} times: {mutation.old!r}"
        )
    result = text.replace(mutation.old, mutation.new)
    try:
        compile(result, mutation.file, "exec")
    except SyntaxError as error:
        raise ValueError(f"{mutation.name}: expected Python in {mutation.file}, received {error}") from error
    return result


class Tree:
    """A copy of the tree, in which one file at a time is wrong."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        folder.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, folder / name)

    def start(self, tests: list[str], wrong: tuple[str, str] | None = None) -> int:
        """Starts pytest on the copy, with `wrong` being a file and its text; returns the number of the process."""
        if wrong:
            (self.folder / wrong[0]).write_text(wrong[1], encoding="utf-8")
        sys.stdout.flush()
        process = os.fork()
        if not process:
            self._run(tests)
        return process

    def restore(self, file: str) -> None:
        """Puts the right text back."""
        shutil.copy(ROOT / file, self.folder / file)

    @property
    def output(self) -> str:
        """What pytest said."""
        return (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")

    def _run(self, tests: list[str]) -> None:
        """In the child: its modules come from the copy, and nothing of it is left behind."""
        status = 70
        try:
            with open(self.folder / "output.txt", "wb") as file:
                for stream in (1, 2):
                    os.dup2(file.fileno(), stream)
            os.chdir(self.folder)
            for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "tfdisent")]:
                del sys.modules[name]
            sys.dont_write_bytecode = True
            sys.path[:] = [str(self.folder), *(path for path in sys.path if path not in ("", str(ROOT)))]
            import pytest

            import tfdisent

            assert pathlib.Path(tfdisent.__file__).is_relative_to(self.folder), tfdisent.__file__
            status = int(pytest.main([*OPTIONS, f"--rootdir={self.folder}", *tests]))
        finally:
            sys.stdout.flush()
            os._exit(status)


def warm_up() -> None:
    """Imports what every test needs once, so that the processes that run them find it there."""
    os.environ.update(ENVIRONMENT)
    import keras
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.ensemble  # noqa: F401

    keras.utils.set_random_seed(0)


def campaign(mutations: list[Mutation], workers: int, log=print) -> dict[str, tuple[str, float]]:
    """Tries the mutations; returns {name: ("killed", "SURVIVED" or what went wrong, seconds)}."""
    texts = {mutation.name: mutated(mutation) for mutation in mutations}
    with tempfile.TemporaryDirectory() as folder:
        free = [Tree(pathlib.Path(folder, str(number))) for number in range(workers)]
        log(f"The {len(mutations)} tests on the tree as it is")
        named = sorted({mutation.test for mutation in mutations})
        status = os.waitstatus_to_exitcode(os.waitpid(free[0].start(named), 0)[1])
        if status or "SKIPPED" in free[0].output:
            raise ValueError(
                f"Expected the named tests to pass on the tree as it is, received:\n{free[0].output[-6000:]}"
            )
        waiting, running, found = collections.deque(mutations), {}, {}
        while waiting or running:
            while waiting and free:
                mutation, tree = waiting.popleft(), free.pop()
                process = tree.start([mutation.test], (mutation.file, texts[mutation.name]))
                running[process] = mutation, tree, time.monotonic()
            process, status = os.wait()
            mutation, tree, start = running.pop(process)
            verdict = verdict_of(os.waitstatus_to_exitcode(status), tree)
            found[mutation.name] = verdict, time.monotonic() - start
            log(f"{len(found):4d} {verdict}: {mutation.name}")
            tree.restore(mutation.file)
            free.append(tree)
    return found


def verdict_of(status: int, tree: Tree) -> str:
    """What pytest's exit status tells of a mutation."""
    if status == FAILED:
        return "killed"
    return "SURVIVED" if status == 0 else f"pytest ended with {status}: {tree.output[-300:]}"


def table(mutations: dict[str, list[Mutation]], found: dict[str, tuple[str, float]]) -> str:
    """The result in Markdown, by system."""
    lines = []
    for system, rows in mutations.items():
        killed = sum(found[row.name][0] == "killed" for row in rows)
        lines += [
            f"\n## {system}: {killed} of {len(rows)} killed\n",
            "| mutation | file | | test |",
            "|---|---|---|---|",
        ]
        for row in rows:
            file, test = row.file.removeprefix("tfdisent/"), row.test.removeprefix("tests/")
            lines.append(f"| {row.name} | `{file}` | {found[row.name][0]} | `{test}` |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--system", choices=SYSTEMS, action="append", help="one or several; by default all")
    parser.add_argument("--only", action="append", default=[], help="names of mutations, by default all")
    parser.add_argument("--workers", type=int, default=2, help="tests that run at once")
    arguments = parser.parse_args()
    mutations = {system: mutations_of(system) for system in arguments.system or SYSTEMS}
    if arguments.only:
        mutations = {name: [row for row in rows if row.name in arguments.only] for name, rows in mutations.items()}
    every = [row for rows in mutations.values() for row in rows]
    if not every or len({row.name for row in every}) < len(every):
        raise ValueError(f"Expected mutations with names that differ, received {len(every)}.")
    warm_up()
    start = time.monotonic()
    found = campaign(every, arguments.workers, log=lambda message: print(message, file=sys.stderr, flush=True))
    print(table(mutations, found))
    survivors = [name for name, (verdict, _) in found.items() if verdict != "killed"]
    print(f"\n{len(found) - len(survivors)} of {len(found)} killed in {time.monotonic() - start:.0f} s.")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
