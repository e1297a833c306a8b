"""Peak memory of evaluation as data sets grow: it must not depend on the number of slices.

    python -m benchmarks.evaluation_memory --sizes=1000,40000 [--systems=drai,unified] [--folder=DIR]

Prepared folders of so many training slices and a tenth as many test slices of 128 x 128 x 4 are written, which takes
2.6 GB for 40,000 slices, and each is evaluated by an untrained, tiny model in a process of its own. Judges and the
segmentor see every slice once, in place of the several times that a result needs; nothing else is left out.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

SHAPE = (128, 128, 4)
MODALITIES = ("T1", "T1ce", "T2", "FLAIR")
SAMPLES = 100  # images that are generated, and test slices that are translated


def write(folder: pathlib.Path, num_train: int) -> None:
    """A prepared folder whose slices are squares on noise; 20 slices are a subject."""
    import tensorflow as tf

    from tfdisent import files
    from tfdisent.data import Manifest
    from tfdisent.data.records import encode

    folder.mkdir(parents=True)
    labels = ("small", "large")
    common = {"dataset": "squares", "version": "1", "image_shape": SHAPE, "modalities": MODALITIES}
    common |= {"labels": labels, "condition_names": labels, "mask_labels": ("background", "lesion")}
    plain, splits = Manifest(**common), {}
    noise = np.random.default_rng(0).integers(0, 60, (16, *SHAPE), dtype="uint8")
    for split, count in (("train", num_train), ("test", max(40, num_train // 10))):
        path = folder / f"squares-{split}.tfrecord-00000-of-00001"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for k in range(count):
                image, mask = noise[k % 16].copy(), np.zeros((*SHAPE[:2], 1), "uint8")
                image[:8] = 0
                top, left, side = 20 + k % 37, 20 + k % 53, 10 + 12 * (k % 2)
                mask[top : top + side, left : left + side] = 1
                image[mask[..., 0] > 0] = 120 + 30 * np.arange(4)
                subject = f"{split}{k // 20:05d}"
                example = {"image": image, "mask": mask, "label": k % 2, "subject": subject, "slice_index": k % 20}
                writer.write(encode({**example, "key": f"{subject}-{k:06d}", "num_slices": 20}, plain))
        shard = {"name": path.name, "num_examples": count, "bytes": path.stat().st_size, "sha256": files.sha256(path)}
        splits[split] = {
            "subjects": [],
            "num_examples": count,
            "label_counts": {"small": count - count // 2, "large": count // 2},
            "shards": [shard],
        }
    files.write_text(folder / "manifest.json", Manifest(**common, splits=splits).to_json())


def evaluate(system: str, folder: pathlib.Path) -> dict:
    """Evaluates a tiny model on a folder, and returns what this process has needed at most, in MiB."""
    from tfdisent.data import Manifest
    from tfdisent.evaluation import drai, unified
    from tfdisent.experiment.run import examples_of
    from tfdisent.systems.drai import DRAI, DRAIConfig
    from tfdisent.systems.unified import Unified, UnifiedConfig

    fit_classifier = unified.fit_classifier
    for module in (drai, unified):
        module.fit_classifier = lambda *given, **settings: fit_classifier(*given, **{**settings, "epochs": 1})
    unified.SEGMENTOR_SIZE, unified.SEGMENTOR_FIT = {"filters": 4, "num_levels": 3}, {"epochs": 1, "batch_size": 64}
    if system == "drai":
        few = dict.fromkeys(("generator_filters", "encoder_filters", "discriminator_filters"), 2)
        few |= dict.fromkeys(("condition_units", "code_units", "joint_units", "regressor_units"), 4)
        config = DRAIConfig(image_size=SHAPE[0], channels=3, num_conditions=2, content_dim=4, style_dim=5, **few)
        model = DRAI(config)
    else:
        model = Unified(UnifiedConfig(image_size=SHAPE[0], modalities=MODALITIES, filters=2, discriminator_filters=2))

    def read(split):
        examples = examples_of(folder, split)
        if system == "unified":
            return examples
        return examples.mapped(lambda batch: {**batch, "image": batch["image"][..., :3]})  # its figures are in colour

    module, start = {"drai": drai, "unified": unified}[system], time.perf_counter()
    with tempfile.TemporaryDirectory() as judges:
        metrics, _ = module.EVALUATION.evaluate_run(
            model,
            read,
            Manifest.read(folder),
            judge_directory=judges,
            judge_kind="convnet",
            num_samples=SAMPLES,
            log=lambda message: print(message, file=sys.stderr, flush=True),
        )
    return {
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": time.perf_counter() - start,
        "failed": [name for name, entry in metrics.items() if entry.get("failed")],
    }


def main() -> None:
    """Writes the folders, evaluates each in a process of its own, and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,40000")
    parser.add_argument("--systems", default="drai,unified")
    parser.add_argument("--folder", default=None, help="where the folders are kept; by default nowhere")
    parser.add_argument("--one", nargs=2, metavar=("SYSTEM", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if given.one:
        print(json.dumps(evaluate(given.one[0], pathlib.Path(given.one[1]))))
        return
    with tempfile.TemporaryDirectory() as spare:
        for size in map(int, given.sizes.split(",")):
            folder = pathlib.Path(given.folder or spare) / f"slices-{size}"
            if not (folder / "manifest.json").is_file():
                write(folder, size)
            for system in given.systems.split(","):
                command = [sys.executable, "-m", "benchmarks.evaluation_memory", "--one", system, str(folder)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                print(f"{system}, {size} training slices: {done.stdout.splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
