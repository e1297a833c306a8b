"""Apache Beam writes what the pool writes."""

import dataclasses
import sys

import numpy as np
import pytest

from tfdisent import datasets
from tfdisent.data import Manifest
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.phantom import SkinPhantom
from tfdisent.datasets.preparation import prepare, prepared_folder
from tfdisent.datasets.shards import verify

PHANTOM = SkinPhantom(20, 6, size=16)


@dataclasses.dataclass(frozen=True)
class Files(Builder):
    """Three pictures per file of the raw folder, filled with the number in it."""

    name = "files"
    raw_help = "Get files from anywhere."
    num_shards = 2

    def info(self, raw_dir):
        return Manifest(self.name, self.version, (4, 4, 1), labels=("even", "odd"))

    def splits(self, raw_dir):
        units = [Unit(p.stem, f"subject {p.stem}", p) for p in sorted(raw_dir.glob("*.txt"))]
        return {"train": units[2:], "test": units[:2]}

    def examples(self, unit):
        number = int(unit.source.read_text())
        for index in range(3):
            image = np.full((4, 4, 1), number + index, np.uint8)
            yield {"key": f"{unit.key}-{index}", "image": image, "label": number % 2}


@pytest.fixture
def files(tmp_path):
    raw_dir = tmp_path / "raw"
    raw_dir.mkdir()
    for index in range(8):
        (raw_dir / f"n{index}.txt").write_text(str(index))
    return raw_dir


@pytest.fixture
def beam():
    """Skips without Apache Beam; some of its own imports warn, which is not ours to fix."""
    return pytest.importorskip("apache_beam", reason="Apache Beam is not installed")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_beam_and_the_pool_write_the_same_bytes(beam, files, tmp_path):
    for builder, raw_dir in ((PHANTOM, None), (Files(), files)):
        pooled = prepare(builder, tmp_path / "pool", raw_dir, workers=1)
        beamed = prepare(builder, tmp_path / "beam", raw_dir, engine="beam")
        assert contents(beamed) == contents(pooled)
        assert not (beamed / ".partial").exists()
        verify(beamed)


def test_beam_resumes_with_the_shards_that_are_missing(beam, files, tmp_path):
    whole = prepare(Files(), tmp_path / "whole", files, workers=1)
    (files / "n7.txt").write_text("?")
    with pytest.raises(ValueError, match="files, n7: invalid literal"):
        prepare(Files(), tmp_path, files, engine="beam")
    folder = prepared_folder(Files(), tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.tfrecord-*")}
    assert len(kept) == 3  # of four shards
    (files / "n7.txt").write_text("7")
    assert contents(prepare(Files(), tmp_path, files, engine="beam")) == contents(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_beam_skips_and_lists_bad_units_as_the_pool_does(beam, files, tmp_path):
    (files / "n7.txt").write_text("seven")
    folders = [
        prepare(Files(), tmp_path / engine, files, workers=1, engine=engine, on_error="skip")
        for engine in ("pool", "beam")
    ]
    assert contents(folders[0]) == contents(folders[1])
    assert [entry["key"] for entry in Manifest.read(folders[1]).skipped] == ["n7"]


def test_an_unknown_runner_or_engine_is_an_error(beam, tmp_path):
    with pytest.raises(ValueError, match="NoRunner"):
        prepare(PHANTOM, tmp_path, engine="beam", runner="NoRunner")
    with pytest.raises(ValueError, match="engine to be 'pool' or 'beam', received 'spark'"):
        prepare(PHANTOM, tmp_path, engine="spark")


def test_without_beam_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "tfdisent.datasets.beam", raising=False)
    monkeypatch.delattr(datasets, "beam", raising=False)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[beam\]'"):
        prepare(PHANTOM, tmp_path, engine="beam")
