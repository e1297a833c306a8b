"""Stacks as acquired through mmsdnet: a table of oblique cine and LGE, label maps of both, and of a new subject."""

import json

import keras
import nibabel
import numpy as np
import pytest

from tests.commands.shell import call
from tests.datasets.raw_volumes import write
from tests.experiment.test_mmsdnet import NARROW, without_compilation  # noqa: F401  a fixture

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")

SHAPE = (40, 30, 3)


def oblique():
    """Affine of a short axis: tilted by 53 and 20 degrees, 1.5 x 1.5 x 8 mm."""
    a, b = np.radians((53.0, 20.0))
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (1.5, 1.5, 8.0), (-20, 30, 11)
    return affine


def write_subject(folder, seed):
    """A ring around a pool, on the LGE two pixels further along the first axis and with the contrasts the other way."""
    x, y, _ = np.indices(SHAPE)
    for name, shift, signals in (("cine", 0, (20, 60, 200)), ("LGE", 2, (120, 20, 70))):
        radius = np.hypot(x - 18 - seed % 3 - shift, y - 15)
        labels = np.select([radius < 5, radius < 9], [500, 200], 0).astype(np.int16)
        noise = np.random.default_rng(seed).integers(0, 10, SHAPE)
        image = np.select([labels == 0, labels == 200], signals[:2], signals[2]) + noise
        write(folder / f"{name}.nii.gz", image.astype(np.int16), oblique())
        write(folder / f"{name}-labels.nii.gz", labels, oblique())


def test_label_maps_of_a_stack_as_acquired_lie_on_its_own_grid(tmp_path):
    rows = ["subject,modality,image,label"]
    for seed in range(4):
        write_subject(tmp_path / f"raw/p{seed}", seed)
        rows += [f"p{seed},{m},p{seed}/{m}.nii.gz,p{seed}/{m}-labels.nii.gz" for m in ("cine", "LGE")]
    (tmp_path / "raw/table.csv").write_text("\n".join(rows) + "\n")
    options = ["orientation=as_acquired", "own_masks=true", "modalities=cine,LGE", "size=48"]
    options += ["mask_labels=background,myocardium,blood", "mask_codes=0,200,500", "test_fraction=0.25"]
    flags = ["--dataset=manifest", "--raw_dir=raw/table.csv", *(f"--data={option}" for option in options)]
    tiny = ["--steps=2", "--batch_size=4", "--set=image_size=48", "--set=filters=2", *NARROW]
    call(tmp_path, "train", "mmsdnet", *flags, *tiny, "--run_dir=r", "--export_dir=m")
    metrics = json.loads((tmp_path / "r/metrics.json").read_text())
    assert not [name for name, found in metrics.items() if found.get("failed")]
    assert 0.3 < metrics["dice_copy"]["value"] < 0.8

    new = tmp_path / "raw/p3"
    inputs = [f"--input={name}={new / name}.nii.gz" for name in ("cine", "LGE")]
    call(tmp_path, "apply", "--model=m/1", *inputs, "--output=out")
    (path,) = (tmp_path / "out").rglob("*.nii.gz")
    made, target = nibabel.load(path), nibabel.load(new / "LGE.nii.gz")
    assert made.shape == target.shape == SHAPE and set(np.unique(made.dataobj)) <= {0, 1, 2}
    np.testing.assert_allclose(made.affine, target.affine, atol=1e-5)
