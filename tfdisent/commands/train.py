"""Trains a system, or what it is compared with: tfdisent train SYSTEM [--dataset=NAME --preset=NAME ...]

The data are prepared where they are not yet; then the model is trained, evaluated, reported and exported. --steps and
--epochs are totals: the same command again continues exactly where it stopped, and with nothing left to do only
evaluates. Settings are values of the model's config: a preset, and --set=field=value.

Systems: drai, unified, margin, harmonize, mmsdnet.

Presets: quick shows the effect in minutes on two CPU cores; small does so with larger images, in about half an hour;
paper is the setting of the paper, which needs a GPU.

Examples:

  tfdisent train drai --dataset=skin_phantom
  tfdisent train drai --dataset=ham10000 --raw_dir=DIR --preset=small
  tfdisent train unified --dataset=brats --raw_dir=DIR --preset=paper --devices=all --mixed_precision=bfloat16
  tfdisent train drai --flagfile=RUN/flags.txt --run_dir=AGAIN
  tfdisent train mmsdnet --folds=3
"""

import functools
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from tfdisent import experiment
from tfdisent.commands import training
from tfdisent.commands.command import Command, quiet, require_none, run_command
from tfdisent.experiment import catalogue
from tfdisent.messages import USAGE

MODELS = {
    "drai": "drai; or what it is compared with: cinfogan, dcinfogan, cavae, dcavae, dai; or DAI with some of DRAI's "
    "terms: selfReg, MIReg, featureCycle, or two of them, as in selfReg+MIReg.",
    "unified": "unified; or what it is compared with: pix2pix, a network for each pair of modalities; tcmgan_T2 (or "
    "another source), from one to all others; or unified with fewer terms: no_disentanglement, "
    "no_adversarial, no_cycle, no_adversarial_cycle, translation_only.",
    "margin": "margin; or what it is compared with: conv_sim, encoders for each modality; conv_adv, a discriminator in "
    "place of the similarity loss; conv_na, neither.",
    "harmonize": "harmonize; or what it is compared with: cyclegan, by the same backbone; cyclegan_resnet, by "
    "CycleGAN's own; s_cyclegan, with segmentation losses; semgan, with semantic dropout too.",
    "mmsdnet": "mmsdnet; or what it is compared with: unet_single, a U-Net of the target; unet_both, of all "
    "modalities; unet_source, of the sources alone; dual_stream, a stream for each modality. With _50, _25, _12 or _0 "
    "at its end each is told that share of the target's labels, as by --target_annotations.",
}
# System -> flags that are fields of its config, and what they say.
FIELDS = {
    "mmsdnet": {
        "target_annotations": "Share of the training subjects whose labels of the target, the last modality, are read: "
        "1.0, 0.5, 0.25, 0.125, 0 or another; listed in RUN/splits. Default: 1.0.",
    }
}
# Systems whose models go from one domain to another, and can be trained from several by one command.
FROM_SOURCES = ("harmonize",)


def define(system: str, values: flags.FlagValues) -> None:
    """Defines the flags of a system's training."""
    first, *_ = catalogue.DATA[system]
    flags.DEFINE_string("model", system, MODELS[system], flag_values=values)
    flags.DEFINE_string("dataset", first, "Which data set; `--dataset=help` lists them.", flag_values=values)
    for name, about in FIELDS.get(system, {}).items():
        flags.DEFINE_string(name, None, about, flag_values=values)
    if system in FROM_SOURCES:
        flags.DEFINE_list(
            "sources",
            [],
            "Scanners to harmonise from, separated by commas, or all: a model for each, to one target (the second "
            "domain, or --set=target=...), trained one after the other in <run_dir>/from-<source>.",
            flag_values=values,
        )
    flags.DEFINE_integer("seed", 0, "Of weights, order, augmentation and noise.", flag_values=values)
    flags.DEFINE_string(
        "run_dir", None, "Folder of the run; default: runs/<model>-<dataset>-<preset>-seed<seed>.", flag_values=values
    )
    flags.DEFINE_integer(
        "folds",
        None,
        "Cross-validation: cuts the subjects into so many folds, each of which tests once, and trains and evaluates a "
        "run for each, RUN/fold-0 and so on; RUN/folds.md has what they say together. Nothing is exported.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "export_dir", None, "Folder of the exports; default: saved_models/<model>-<dataset>.", flag_values=values
    )
    flags.DEFINE_bool(
        "extend",
        False,
        "Go on to another number of steps than the run was planned for where rates or weights follow a schedule over "
        "all steps: from the next step on they are those of a training of the new length, which is not what training "
        "it in one piece gives. Without it such a run is refused.",
        flag_values=values,
    )
    flags.DEFINE_bool("export", True, "Export the trained model.", flag_values=values)
    flags.DEFINE_string(
        "export_format", "savedmodel", "What is exported: savedmodel, or savedmodel,onnx.", flag_values=values
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT of host 0 where several hosts train together (KERAS_BACKEND=jax), each by the same command.",
        flag_values=values,
    )
    flags.DEFINE_integer("num_hosts", 1, "How many hosts train together.", flag_values=values)
    flags.DEFINE_integer("host", 0, "Which of them this is, from 0; host 0 writes.", flag_values=values)
    training.define_data(values)
    training.define_training(values)
    training.define_measuring(values)
    training.define_judge_dir(values)
    training.define_select(values)


def execute(system: str, given: Any, others: Sequence[str]) -> int:
    """Trains as the flags say; returns 1 if a fold or a source failed."""
    require_none(others)
    if given.dataset == "help":
        print(catalogue.about(catalogue.DATA[system]))
        return 0
    fields = {name: getattr(given, name) for name in FIELDS.get(system, {}) if getattr(given, name) is not None}
    shared = training.training_settings(given)
    if twice := fields.keys() & shared["changes"].keys():
        raise ValueError(f"Give --{min(twice)}=... or --set={min(twice)}=..., not both.")
    with quiet(given):
        settings = experiment.Settings(
            system=system,
            model=given.model,
            dataset=given.dataset,
            seed=given.seed,
            run_dir=given.run_dir,
            export_dir=given.export_dir,
            extend=given.extend,
            export=given.export,
            export_format=given.export_format,
            judge_dir=given.judge_dir,
            select=given.select,
            coordinator=given.coordinator,
            num_hosts=given.num_hosts,
            host=given.host,
            **shared | {"changes": {**shared["changes"], **fields}},
        )
    sources = given.sources if system in FROM_SOURCES else []
    if sources and given.folds is not None:
        raise ValueError("Give --sources or --folds, not both; cross-validate each source with --set=source=...")
    if given.folds is not None:
        return 1 if experiment.cross_validate(settings, given.folds) else 0
    if sources:
        return 1 if experiment.train_from_each(settings, sources) else 0
    experiment.train(settings)
    return 0


def command(system: str, text: str = __doc__) -> Command:
    """The command that trains a system."""
    return Command(
        f"tfdisent train {system}", text, functools.partial(define, system), functools.partial(execute, system)
    )


def run(system: str | None = None, argv: Sequence[str] | None = None, text: str = __doc__) -> None:
    """Trains a system, by default the one that the arguments begin with, and ends the process."""
    argv = sys.argv[1:] if argv is None else argv
    if system is None:
        if not argv or argv[0] in ("--help", "-h"):
            print(text.strip())
            sys.exit(0 if argv else USAGE)
        system, *argv = argv
        if system not in catalogue.SYSTEMS:
            print(f"error: Expected a system of {', '.join(catalogue.SYSTEMS)}; received {system!r}.", file=sys.stderr)
            sys.exit(USAGE)
    run_command(command(system, text), argv)
