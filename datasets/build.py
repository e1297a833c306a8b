"""Prepares a data set: python -m datasets.build --dataset=NAME --data_dir=DIR [--raw_dir=DIR]

Options of the data sets, given as further flags:

  ham10000      --size=64 --classes=mel,nv --split=auto|official|seeded --test_fraction=0.15
                --crop_fraction=0.75 --seed=0
  skin_phantom  --size=64 --num_train=5000 --num_test=1000 --seed=0
                makes its own images, without --raw_dir

`--dataset=NAME --dry_run` without --raw_dir says where to get the data and what the folder must
look like. An interrupted preparation goes on where it stopped when the same command is given again.
"""

import sys

from absl import app, flags

from datasets import DATASETS, make_builder

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, f"Which data set: {', '.join(sorted(DATASETS))}.")
flags.DEFINE_string("raw_dir", None, "Folder (or table) of the raw data.")
flags.DEFINE_string("data_dir", "data", "Folder of prepared data sets.")
flags.DEFINE_integer("workers", None, "Processes; by default one a core.", lower_bound=1)
flags.DEFINE_enum(
    "on_error", "fail", ["fail", "skip"], "Stop at bad input, or leave it out and list it."
)
flags.DEFINE_bool("hash_subjects", False, "Write digests in place of the subjects' names.")
flags.DEFINE_bool("dry_run", False, "Show what would be written, and write nothing.")
flags.DEFINE_bool(
    "verify", False, "Check every shard against the manifest, after preparing what is missing."
)


def _parse_flags(argv: list[str]) -> list[str]:
    """Leaves flags that are not ours to the data set's options."""
    return FLAGS(argv, known_only=True)


def _options(arguments: list[str]) -> dict[str, str]:
    options = {}
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not (argument.startswith("--") and equals):
            raise ValueError(f"Expected options as --name=value, received {argument!r}.")
        options[name] = value
    return options


def main(argv: list[str]) -> None:
    try:
        if FLAGS.dataset is None:
            raise ValueError(f"Give --dataset, one of: {', '.join(sorted(DATASETS))}.")
        builder = make_builder(FLAGS.dataset, _options(argv[1:]))
        from datasets import builder as engine

        if FLAGS.dry_run:
            print(engine.dry_run(builder, FLAGS.raw_dir))
            return
        folder = engine.prepare(
            builder,
            FLAGS.data_dir,
            FLAGS.raw_dir,
            workers=FLAGS.workers,
            on_error=FLAGS.on_error,
            hash_subjects=FLAGS.hash_subjects,
        )
        manifest = engine.verify(folder) if FLAGS.verify else engine.Manifest.read(folder)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    counts = ", ".join(f"{name} {entry['num_examples']}" for name, entry in manifest.splits.items())
    print(
        f"{folder}: {counts}, {len(manifest.skipped)} skipped"
        + (", verified" if FLAGS.verify else "")
    )


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
