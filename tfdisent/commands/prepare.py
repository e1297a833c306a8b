"""Prepares a data set: tfdisent prepare --dataset=NAME [--data_dir=DIR --raw_dir=DIR --<option>=VALUE ...]

Options of the data sets, given as further flags:

  ham10000      --size=64 --classes=mel,nv --split=auto|official|seeded --test_fraction=0.15
                --crop_fraction=0.75 --lesions=table|image --seed=0
  lidc          --size=64 --patch=48 --resample=mm|matrix|none --pixel_size=1.0 --slices=centre|all
                --min_readers=3 --agreement=0.5 --thresholds=3,5.5,3,3,3,3 --size_unit=mm|pixels
                --window=-1000,400 --split=auto|paper|seeded --first_test_case=899
                --test_fraction=0.15 --seed=0 --max_gigabytes=1
  lidc_patches  --size=64 --patch=48 --slices=all|centre --thresholds=3,5.5,3,3,3,3
                --test_fraction=0.25 --seed=0
  chaos         --phase=in|out|both --candidates=3 --size=192 --pixel_size=1.89
                --split=auto|paper|seeded --test_fraction=0.15 --seed=0 --max_gigabytes=1
  bids          --mask=ENDING --brain_mask=ENDING --select=ENTITY,... --domain=site --label=group
  brats         --protocol=unified|margin|plain --fold=0 --unlabelled=false
  ixi           --modality=T1|T2|PD --sites=HH,IOP --image_suffix= --mask_suffix=
                --approximate=false
  manifest      --condition=COLUMN,... --allow_outside=false --own_masks=false
                --raw_dir is a table: subject, modality, image, ...
  msseg         --split=leave_one_out|official --fold=0 --images=preprocessed|raw --rater=0
  retouch       --resample=nearest|linear|none --vendors=Cirrus,Spectralis,Topcon
  and for each of the last six, with defaults of its own (tfdisent/datasets/volumes.py says more):
                --size=HxW --pixel_spacing=0 --slice_range=FIRST,LAST --min_foreground=1
                --foreground=nonzero|otsu --background=0 --neighbours=0 --n4=0
                --dtype=auto|int16|uint8|float32|float16 --nan=fail|zero --max_oblique=20
                --planes=axial,coronal,sagittal --orientation=canonical|as_acquired
                --allow_missing=false --modalities=T1,T2 --max_gigabytes=1
                --mask_labels=background,lesion --mask_codes=0,1
                --test_fraction=0.2 --val_fraction=0 --seed=0

Phantoms, made without --raw_dir; num_train, num_test and num_val are images of skin and nodule, else subjects:

  skin_phantom     --size=64 --num_train=5000 --num_test=1000 --num_val=0 --seed=0
  nodule_phantom   --size=64 --num_train=5000 --num_test=1000 --num_val=0 --seed=0 --window=-1000,400
  pet_phantom      as brain_phantom, but for --contrasts=T1,FLAIR --pet=true
  healthy_phantom  as brain_phantom, but for --contrasts=T1,T2 --tumour=0.0
  brain_phantom    --size=128 --num_train=60 --num_test=20 --num_val=0 --slices_per_subject=8 --seed=0
                   --contrasts=T1,T1ce,T2,FLAIR --scanners=scanner_a --paired=none|test|all
                   --tumour=1.0 --lesions=0.0 --mask=pathology|tissue|tissue_and_pathology --neighbours=0
                   --lesion_size=1.0 --clean=false --pet=false
  cardiac_phantom  --size=128 --num_train=60 --num_test=20 --num_val=0 --slices_per_subject=6 --scar=0.5
                   --candidates=1 --reference=cine|LGE --shuffled=0 --seed=0
  abdomen_phantom  --size=128 --num_train=60 --num_test=20 --num_val=0 --slices_per_subject=8
                   --candidates=1 --reference=T1|T2 --shuffled=0 --misalignment=11 --seed=0
  retina_phantom   --size=256 --num_train=60 --num_test=20 --num_val=0 --slices_per_subject=8 --seed=0
                   --vendors=spectralis,cirrus --paired=none|test|all --fluids=IRF,SRF,PED --fluid=0.7

And of every data set, for cross-validation: --folds=K --fold=0 cuts the subjects of train, val and test into K folds,
of which number 0 tests.

--dataset=NAME --dry_run without --raw_dir says where to get the data and what the folder must look like.
--engine=beam prepares under Apache Beam (extra [beam]: pip install '.[beam]' in a checkout; tfdisent/datasets/beam.py
says more), with --runner=NAME and --runner_option=--flag=value for the runner's own flags.
An interrupted preparation continues where it stopped when the same command is given again.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfdisent import datasets
from tfdisent.commands.command import Command, UsageError, quiet, run_command
from tfdisent.experiment import catalogue


def define(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("dataset", None, "Which data set; `--dataset=help` lists them.", flag_values=values)
    flags.DEFINE_string("raw_dir", None, "Folder or table of the raw data.", flag_values=values)
    flags.DEFINE_string("data_dir", "data", "Folder of prepared data sets.", flag_values=values)
    flags.DEFINE_integer("workers", None, "Processes; default: one a core.", lower_bound=1, flag_values=values)
    flags.DEFINE_enum(
        "on_error", "fail", ["fail", "skip"], "Stop at bad input, or leave it out and list it.", flag_values=values
    )
    flags.DEFINE_enum(
        "engine", "pool", ["pool", "beam"], "Processes of this machine, or Apache Beam.", flag_values=values
    )
    flags.DEFINE_string("runner", "DirectRunner", "Beam's runner.", flag_values=values)
    flags.DEFINE_multi_string(
        "runner_option",
        [],
        "A flag of Beam's runner, as --runner_option=--flag=value; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "hash_subjects", False, "Write digests, under a secret key, for the subjects' names.", flag_values=values
    )
    flags.DEFINE_string(
        "hash_key_file",
        None,
        "The key of --hash_subjects, made if it does not exist; default: tfdisent/subjects.key in ~/.config.",
        flag_values=values,
    )
    flags.DEFINE_bool("dry_run", False, "Show what would be written, and write nothing.", flag_values=values)
    flags.DEFINE_bool(
        "verify",
        False,
        "Check every shard against the manifest, after preparing what is missing.",
        flag_values=values,
    )


def execute(given: Any, others: Sequence[str]) -> None:
    """Prepares as the flags say; the other arguments are the data set's options."""
    if given.dataset == "help":
        print(catalogue.about())
        return
    if given.dataset is None:
        raise UsageError(f"Give --dataset, one of: {', '.join(sorted(datasets.DATASETS))}.")
    options = _options(others)
    with quiet(given):
        datasets.make_builder(given.dataset, options)  # its checks, and the import of TensorFlow
        from tfdisent.data import Manifest

    if given.dry_run:
        print(datasets.dry_run(given.dataset, given.raw_dir, **options))
        return
    folder = datasets.prepare(
        given.dataset,
        given.data_dir,
        given.raw_dir,
        workers=given.workers,
        on_error=given.on_error,
        hash_subjects=given.hash_subjects,
        hash_key_file=given.hash_key_file,
        engine=given.engine,
        runner=given.runner,
        runner_options=given.runner_option,
        **options,
    )
    manifest = datasets.verify(folder) if given.verify else Manifest.read(folder)
    counts = ", ".join(f"{name} {entry['num_examples']}" for name, entry in manifest.splits.items())
    print(f"{folder}: {counts}, {len(manifest.skipped)} skipped" + (", verified" if given.verify else ""))


def _options(arguments: Sequence[str]) -> dict[str, str]:
    options = {}
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not (argument.startswith("--") and equals):
            raise UsageError(f"Expected options as --name=value, received {argument!r}.")
        options[name] = value
    return options


def run(argv: Sequence[str] | None = None, text: str = __doc__) -> None:
    """Runs the command on arguments, by default those of the process, and ends the process."""
    run_command(Command("tfdisent prepare", text, define, execute, takes_options=True), argv)
