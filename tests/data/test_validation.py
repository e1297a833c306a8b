import json
import random
import shutil

import pytest

from tfdisent.data import Manifest, load

EVIL = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**30, 1.5, float("nan"), float("inf"), "", "..", "/etc/passwd"),
    *("a/b", "a\\b", "x" * 10_000, "\x00", "\ud800", "uint8", "float64", [], {}, [[]], [None], {"": 1}, [-1, 2, 3]),
    *([2**20, 2**20, 2**20], [1] * 100, ["uint8"], {"a": {}}),
)


@pytest.fixture
def entries(volumes):
    return json.loads((volumes[1] / "manifest.json").read_text())


def places(value, path=()):
    """Paths of all that JSON holds."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from places(inner, (*path, name))


def changed(entries, path, change):
    """A copy where `change(container, name)` was applied to what is at a path."""
    copy = json.loads(json.dumps(entries))
    container = copy
    for name in path[:-1]:
        container = container[name]
    change(container, path[-1])
    return copy


def read(folder, entries):
    (folder / "manifest.json").write_text(json.dumps(entries))
    return Manifest.read(folder)


@pytest.mark.parametrize(
    "path, value, message",
    [
        (
            ("splits", "train", "shards", 0, "name"),
            "../x",
            r"splits.train.shards\[0\].name is '../x', expected a file's",
        ),
        (
            ("splits", "train", "shards", 1, "name"),
            "/etc/passwd",
            r"shards\[1\].name is '/etc/passwd', expected a file's",
        ),
        (("splits", "train", "shards", 0, "name"), "..", "expected a file's name without folders"),
        (("splits", "train", "shards", 0, "name"), "a\\b", "expected a file's name without folders"),
        (("splits", "train", "shards", 0, "name"), 7, "expected a text"),
        (("splits", "train", "shards", 0, "bytes"), -1, "bytes is -1, expected a whole number from 0"),
        (("splits", "train", "shards", 0, "sha256"), "0" * 63, "sha256 is .* expected 64 hexadecimal digits"),
        (("splits", "train", "num_examples"), 16, "splits.train.num_examples is 16, expected 15 as in its shards"),
        (("splits", "train", "label_counts", "ill"), 11, "expected 15 in sum"),
        (("splits", "train", "shards"), {}, "splits.train.shards is {}, expected a list"),
        (("image_shape",), [6, 8], r"image_shape is \[6, 8\], expected 3 lengths"),
        (("image_shape", 0), 2**27, "expected at most 268435456 values"),
        (("image_shape", 1), -8, "image_shape is -8, expected a whole number from 1"),
        (("image_shape", 1), True, "image_shape is True, expected a whole number from 1"),
        (("image_dtype",), "float64", "image_dtype='float64'"),
        (("mask_channels",), 0, "mask_channels is 0, expected a whole number from 1"),
        (("labels",), ["ill", "ill"], "expected each name once"),
        (("labels",), "ill", "labels is 'ill', expected a list"),
        (
            ("extra_features", "affine"),
            [[4, 4], "complex64"],
            "affine, its dtype, is 'complex64', expected one of uint8",
        ),
        (
            ("extra_features", "affine"),
            [[4, 2**40], "float32"],
            "affine, its shape, is 1099511627776, expected a whole",
        ),
        (("seed",), "0", "seed is '0', expected a whole number"),
        (("flow",), 1, "the manifest has the unknown 'flow', expected dataset"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(entries, tmp_path, path, value, message):
    with pytest.raises(ValueError, match=f"manifest.json is not a valid manifest: .*{message}"):
        read(tmp_path, changed(entries, path, lambda container, name: container.__setitem__(name, value)))


def test_a_missing_field_is_named(entries, tmp_path):
    for path in [("image_shape",), ("splits", "test", "subjects"), ("splits", "train", "shards", 1, "bytes")]:
        with pytest.raises(ValueError, match=f"lacks {path[-1]}"):
            read(tmp_path, changed(entries, path, lambda container, name: container.pop(name)))


def test_two_splits_have_no_shard_in_common(entries, tmp_path):
    entries["splits"]["test"]["shards"][0]["name"] = entries["splits"]["train"]["shards"][0]["name"]
    with pytest.raises(ValueError, match="expected each shard once"):
        read(tmp_path, entries)


def test_whatever_a_manifest_holds_there_is_a_batch_or_an_error_of_ours(volumes, entries, tmp_path):
    folder = shutil.copytree(volumes[1], tmp_path / "copy")
    draw = random.Random(volumes[0].dtype)
    all_places = [path for path in places(entries) if path]
    refused = 0
    for _ in range(150):
        mutant = entries
        for _ in range(draw.choice((1, 1, 2))):
            path = draw.choice(all_places)
            change = draw.choice(
                (
                    lambda container, name: container.__setitem__(name, draw.choice(EVIL)),
                    lambda container, name: container.pop(name),
                    lambda container, name: container.__setitem__(name, container[name] * 2),
                )
            )
            try:
                mutant = changed(mutant, path, change)
            except (AttributeError, KeyError, IndexError, TypeError):
                continue  # what the first change took away
        try:
            (folder / "manifest.json").write_text(json.dumps(mutant))
            manifest = Manifest.read(folder)
            for split in manifest.splits:
                next(iter(load(folder, split, batch_size=2, metadata=True)))
        except (ValueError, OSError) as error:
            assert str(folder) in str(error) and not isinstance(error, UnicodeError), mutant
            refused += 1
    assert refused > 75


def test_a_manifest_cut_or_flipped_anywhere_is_refused_or_equal(volumes, tmp_path):
    content = (volumes[1] / "manifest.json").read_bytes()
    draw = random.Random(0)
    for _ in range(500):
        mutant = bytearray(content)
        if draw.random() < 0.3:
            mutant = mutant[: draw.randrange(len(mutant))]
        else:
            mutant[draw.randrange(len(mutant))] ^= 1 << draw.randrange(8)
        (tmp_path / "manifest.json").write_bytes(mutant)
        try:
            Manifest.read(tmp_path)
        except ValueError as error:
            assert "manifest.json is not a valid manifest" in str(error)
