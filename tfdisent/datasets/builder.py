"""What the author of a data set writes: a `Builder`, and its `Unit`s.

A data set is one file with a frozen dataclass derived from `Builder`. Its fields are its options, all with defaults; it
has three methods and nothing else is needed but a line in `tfdisent.datasets.DATASETS`:

    @dataclasses.dataclass(frozen=True)
    class Example(Builder):
        name = "example"                    # folder and command line
        version = "1.0.0"                   # raise it when the bytes of a record change
        raw_help = "Get it from ... The folder must look like ..."      # empty: needs no raw data
        size: int = 64                      # an option

        def info(self, raw_dir):            # what a record looks like
            return Manifest(dataset=self.name, version=self.version, image_shape=..., labels=...)

        def splits(self, raw_dir):
            return {"train": [Unit(key, subject, source), ...], "test": [...]}

        def examples(self, unit):
            yield {"image": ..., "label": "mel"}

`splits` looks at names and tables only. A `Unit` is what is read in one piece: a photograph, or one subject's volumes.
`examples` runs in another process, opens the files and yields one dict per record (`tfdisent.data.records` lists the
features; `subject` and `key` are filled in, but a unit of several examples gives each a `key` of its own). Bad input is
a ValueError or OSError that names the file, the cause and the fix; what `splits` already sees to be bad (a row without
a file) is a unit with `problem` set. What can be done on the fly (flips, normalisation, balance) is not written to
disk. How units become shards is in `tfdisent.datasets.preparation`.
"""

import abc
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from tfdisent.data.records import Manifest
from tfdisent.datasets.sources import files_under


class Unit(NamedTuple):
    """What is read in one piece.

    `key` is unique in the data set. `subject` (patient, lesion) is in one split only. `source` is whatever `examples`
    needs (paths, numbers; it is pickled). `group` is counted by the dry run (class, scanner). `problem` says why the
    unit cannot be read, when the index already shows it. `modalities` are those that the index found for it; the dry
    run names the first unit that lacks one. `note` is what the user should know of a unit that is kept (a rating taken
    as missing).
    """

    key: str
    subject: str
    source: Any = None
    group: str = ""
    problem: str = ""
    modalities: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Builder(abc.ABC):
    """A data set: options as fields, and three methods; the module's docstring shows one.

    Args:
        folds: into how many the subjects are cut for cross-validation (`tfdisent.datasets.splits`); 0 leaves them in
            the data set's own splits.
        fold: which of them tests.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1.0.0"
    raw_help: ClassVar[str] = ""
    num_shards: ClassVar[int] = 8  # of a split; aim at 10 to 200 MB each
    part_of: ClassVar[dict[str, str]] = {}  # a split that may share subjects with another one

    folds: int = dataclasses.field(default=0, kw_only=True)
    fold: int = dataclasses.field(default=0, kw_only=True)

    @abc.abstractmethod
    def info(self, raw_dir: pathlib.Path | None) -> Manifest:
        """What a record looks like, and the words about the data set; preparation fills in the rest."""

    @abc.abstractmethod
    def splits(self, raw_dir: pathlib.Path | None) -> dict[str, list[Unit]]:
        """All units by split, without opening images."""

    def units(self, raw_dir: pathlib.Path | None) -> list[Unit]:
        """All units before they are split, whose problems are told where they leave too few to split."""
        return []

    def own_folds(self, raw_dir: pathlib.Path | None) -> int:
        """How many folds `splits` knows by itself, of which it lets number `fold` test; 0 where it knows none."""
        return 0

    def in_split(self, unit: Unit, split: str) -> Unit:
        """The unit as it is in this split, where folds move it there from another one."""
        return unit

    def refuse_folds(self, what: str) -> None:
        """Raises ValueError if folds are asked for although the data say who tests, which `what` names."""
        if self.folds:
            raise ValueError(
                f"{self.name}: folds={self.folds} would cut all subjects anew, but {what} says who tests. Leave one "
                "of them out."
            )

    @abc.abstractmethod
    def examples(self, unit: Unit) -> Iterator[dict[str, Any]]:
        """The examples of one unit."""

    def raw_files(self, raw_dir: pathlib.Path) -> list[pathlib.Path]:
        """The files whose names and sizes tell this raw data from others: all files in the folder."""
        return files_under(raw_dir)
