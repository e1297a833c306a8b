"""Prepares a data set: python -m datasets.build --dataset=NAME --data_dir=DIR [--raw_dir=DIR]

Options of the data sets, given as further flags:

  ham10000      --size=64 --classes=mel,nv --split=auto|official|seeded --test_fraction=0.15
                --crop_fraction=0.75 --seed=0
  lidc          --size=64 --patch=48 --resample=mm|matrix|none --pixel_size=1.0 --slices=centre|all
                --min_readers=3 --agreement=0.5 --thresholds=3,5.5,3,3,3,3 --size_unit=mm|pixels
                --window=-1000,400 --split=auto|paper|seeded --first_test_case=899
                --test_fraction=0.15 --seed=0
  lidc_patches  --size=64 --patch=48 --slices=all|centre --thresholds=3,5.5,3,3,3,3
                --test_fraction=0.25 --seed=0
  chaos         --phase=in|out|both --candidates=3 --size=192 --pixel_size=1.89
                --split=auto|paper|seeded --fold=0 --test_fraction=0.15 --seed=0
  bids          --mask=ENDING --brain_mask=ENDING --select=ENTITY,... --domain=site --label=group
  brats         --protocol=unified|margin|plain --fold=0 --unlabelled=false
  ixi           --modality=T1|T2|PD --sites=HH,IOP --image_suffix= --mask_suffix=
                --approximate=false
  manifest      --condition=COLUMN,... --allow_outside=false
                --raw_dir is a table: subject, modality, image, ...
  msseg         --split=leave_one_out|official --fold=0 --images=preprocessed|raw --rater=0
  retouch       --resample=nearest|linear|none --vendors=Cirrus,Spectralis,Topcon
  and for each of the last six, with defaults of its own (tfdisent/datasets/volumes.py says more):
                --size=HxW --pixel_spacing=0 --slice_range=FIRST,LAST --min_foreground=1
                --foreground=nonzero|otsu --background=0 --neighbours=0 --n4=0
                --dtype=auto|int16|float16|uint8 --nan=fail|zero --max_oblique=20
                --planes=axial,coronal,sagittal --allow_missing=false --modalities=T1,T2
                --mask_labels=background,lesion --mask_codes=0,1
                --test_fraction=0.2 --val_fraction=0 --seed=0

Phantoms, made without --raw_dir; num_train and num_test are images of skin and nodule, else subjects:

  skin_phantom     --size=64 --num_train=5000 --num_test=1000 --seed=0
  nodule_phantom   --size=64 --num_train=5000 --num_test=1000 --seed=0 --window=-1000,400
  brain_phantom    --size=128 --num_train=60 --num_test=20 --slices_per_subject=8 --seed=0
                   --contrasts=T1,T1ce,T2,FLAIR --scanners=scanner_a --paired=none|test|all
                   --tumour=1.0 --lesions=0.0 --mask=pathology|tissue --neighbours=0
  cardiac_phantom  --size=128 --num_train=60 --num_test=20 --slices_per_subject=6 --scar=0.5
                   --candidates=1 --seed=0
  abdomen_phantom  --size=128 --num_train=60 --num_test=20 --slices_per_subject=8 --candidates=1
                   --seed=0
  retina_phantom   --size=256 --num_train=60 --num_test=20 --slices_per_subject=8 --seed=0
                   --vendors=spectralis,cirrus --paired=none|test|all --fluids=IRF,SRF,PED --fluid=0.7

`--dataset=NAME --dry_run` without --raw_dir says where to get the data and what the folder must
look like. --engine=beam prepares under Apache Beam (`pip install '.[beam]'` in a checkout;
tfdisent/datasets/beam.py says more), with --runner=NAME and --runner_option=--flag=value for the runner's own flags.
An interrupted preparation resumes where it stopped when the same command is given again.
"""

import sys

from absl import app, flags

from tfdisent.datasets import DATASETS, make_builder, verify
from tfdisent.messages import without_startup_noise

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, f"Which data set: {', '.join(sorted(DATASETS))}.")
flags.DEFINE_string("raw_dir", None, "Folder (or table) of the raw data.")
flags.DEFINE_string("data_dir", "data", "Folder of prepared data sets.")
flags.DEFINE_integer("workers", None, "Processes; by default one a core.", lower_bound=1)
flags.DEFINE_enum("on_error", "fail", ["fail", "skip"], "Stop at bad input, or leave it out and list it.")
flags.DEFINE_enum("engine", "pool", ["pool", "beam"], "Processes of this machine, or Apache Beam.")
flags.DEFINE_string("runner", "DirectRunner", "Beam's runner.")
flags.DEFINE_multi_string("runner_option", [], "A flag of the runner; may be repeated.")
flags.DEFINE_bool("hash_subjects", False, "Write digests in place of the subjects' names.")
flags.DEFINE_bool("dry_run", False, "Show what would be written, and write nothing.")
flags.DEFINE_bool("verify", False, "Check every shard against the manifest, after preparing what is missing.")


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
        with without_startup_noise():
            builder = make_builder(FLAGS.dataset, _options(argv[1:]))
            from tfdisent.data import Manifest
            from tfdisent.datasets import preparation

        if FLAGS.dry_run:
            print(preparation.dry_run(builder, FLAGS.raw_dir))
            return
        folder = preparation.prepare(
            builder,
            FLAGS.data_dir,
            FLAGS.raw_dir,
            workers=FLAGS.workers,
            on_error=FLAGS.on_error,
            hash_subjects=FLAGS.hash_subjects,
            engine=FLAGS.engine,
            runner=FLAGS.runner,
            runner_options=FLAGS.runner_option,
        )
        manifest = verify(folder) if FLAGS.verify else Manifest.read(folder)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    counts = ", ".join(f"{name} {entry['num_examples']}" for name, entry in manifest.splits.items())
    print(f"{folder}: {counts}, {len(manifest.skipped)} skipped" + (", verified" if FLAGS.verify else ""))


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
