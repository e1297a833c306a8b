"""The flags of a training run, which several commands take."""

from typing import Any

from absl import flags

from tfdisent.commands.command import assignments


def define_data_dirs(values: flags.FlagValues, data_dir: str | None = "data", about_default: str = "") -> None:
    """Defines where data lie."""
    flags.DEFINE_string("data_dir", data_dir, f"Folder of prepared data sets.{about_default}", flag_values=values)
    flags.DEFINE_string("raw_dir", None, "Folder or table of the raw data, to prepare them first.", flag_values=values)


def define_data(values: flags.FlagValues, data_dir: str | None = "data", about_default: str = "") -> None:
    """Defines where data lie and how they are prepared."""
    define_data_dirs(values, data_dir, about_default)
    flags.DEFINE_multi_string(
        "data",
        [],
        "option=value of the data set's preparation, see `tfdisent prepare --help`; may be repeated.",
        flag_values=values,
    )


def define_measuring(values: flags.FlagValues) -> None:
    """Defines how a trained model is measured."""
    flags.DEFINE_enum(
        "judge",
        None,
        ["convnet", "inception"],
        "Classifier behind FID and IS; default: inception for preset paper, else convnet.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_samples",
        None,
        "Generated images to measure; default: 5000 for preset paper, else 2000.",
        flag_values=values,
    )


def define_select(values: flags.FlagValues, default: str | None = "last", about_default: str = "") -> None:
    """Defines which weights are measured and exported."""
    flags.DEFINE_enum(
        "select",
        default,
        ["last", "best"],
        f"Weights that are measured and exported: the last, or the best on the split val.{about_default}",
        flag_values=values,
    )


def define_judge_dir(values: flags.FlagValues) -> None:
    """Defines where the networks that judge images lie."""
    flags.DEFINE_string(
        "judge_dir",
        None,
        "Folder of the networks that judge images, to share them among runs on one data set; default: "
        "<run_dir>/judges.",
        flag_values=values,
    )


def define_training(values: flags.FlagValues) -> None:
    """Defines how a model is trained."""
    flags.DEFINE_string("preset", "quick", "Settings to start from: quick, small or paper.", flag_values=values)
    flags.DEFINE_integer(
        "steps",
        None,
        "Training steps in total, over all runs of the command; default: those of the preset.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "epochs", None, "In place of --steps: passes over the training split in total.", flag_values=values
    )
    flags.DEFINE_integer(
        "batch_size", None, "Images in a step, over all devices; default: that of the preset.", flag_values=values
    )
    flags.DEFINE_string("devices", "1", "Number of devices, or 'all'; of each host.", flag_values=values)
    flags.DEFINE_enum("mixed_precision", None, ["bfloat16"], "Compute the networks in bfloat16.", flag_values=values)
    flags.DEFINE_multi_string("set", [], "field=value of the model's config; may be repeated.", flag_values=values)
    flags.DEFINE_integer("checkpoint_every", 500, "Steps between checkpoints.", flag_values=values)
    flags.DEFINE_integer("sample_every", 500, "Steps between sample pictures.", flag_values=values)
    flags.DEFINE_integer(
        "gradient_every",
        None,
        "Steps between measurements of each loss term's share of the gradient's norm; by default none.",
        flag_values=values,
    )


def training_settings(given: Any) -> dict[str, Any]:
    """Fields of `Settings` from the flags of `define_data`, `define_training` and `define_measuring`."""
    return {
        "data_dir": given.data_dir,
        "raw_dir": given.raw_dir,
        "data": assignments("data", given.data),
        "preset": given.preset,
        "steps": given.steps,
        "epochs": given.epochs,
        "batch_size": given.batch_size,
        "devices": given.devices,
        "mixed_precision": given.mixed_precision,
        "changes": assignments("set", given.set),
        "checkpoint_every": given.checkpoint_every,
        "sample_every": given.sample_every,
        "gradient_every": given.gradient_every,
        "judge": given.judge,
        "num_samples": given.num_samples,
    }
