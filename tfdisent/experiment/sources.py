"""Trainings from several sources to one target, one after the other: a model for each pair, as the paper has them.

One model for all sources would have to guess on the way back which scanner a slice came from, which the cycle's loss
would teach it to hide in the image.
"""

import dataclasses

from tfdisent import datasets
from tfdisent.data import Manifest
from tfdisent.experiment.reproduction import train
from tfdisent.experiment.settings import Settings
from tfdisent.messages import say

ALL = "all"


def train_from_each(settings: Settings, sources: list[str]) -> list[str]:
    """Trains, evaluates, reports and exports a model from each source, in the order given.

    Runs lie in `<run_dir>/from-<source>`, exports in `<export_dir>/from-<source>`; what is done is not repeated, and
    what was stopped continues.

    Args:
        settings: of all trainings; the target is that of its changes.
        sources: names of domains, or "all" for all but the target.

    Returns:
        The sources that failed; another call tries them again.

    Raises:
        ValueError: a source is not among the domains, is the target, or is there twice; nothing is trained then.
        Stopped: by a signal; the same command continues there.
    """
    every = settings_from_each(settings, sources, domains_of(settings))
    failed = []
    for source, one in every.items():
        say(f"from {source}: {one.folder}")
        if not train(one):
            failed.append(source)
    for source in failed:
        say(f"failed: from {source}; the same command tries it again")
    return failed


def domains_of(settings: Settings) -> tuple[str, ...]:
    """The domains of the data set, which is prepared where it is not yet and must be read to know them."""
    builder = datasets.make_builder(settings.dataset, settings.preparation)
    if not builder.raw_help:
        return tuple(builder.info(None).domains)
    path = datasets.prepare(settings.dataset, settings.data_dir, settings.raw_dir, **settings.preparation)
    return tuple(Manifest.read(path).domains)


def settings_from_each(settings: Settings, sources: list[str], domains: tuple[str, ...]) -> dict[str, Settings]:
    """{source: the settings of its training}, with folders of its own."""
    target = settings.changes.get("target") or (domains[1] if len(domains) > 1 else "")
    if sources == [ALL]:
        sources = [name for name in domains if name != target]
    others = ", ".join(name for name in domains if name != target)
    if (
        target not in domains
        or not sources
        or len(set(sources)) < len(sources)
        or set(sources) - set(others.split(", "))
    ):
        raise ValueError(
            f"Expected --sources of {others}, each once, or all, and a target of {', '.join(domains)}; received "
            f"{', '.join(sources) or 'none'} to {target or 'none'}."
        )
    if "source" in settings.changes:
        raise ValueError("Give --sources=... or --set=source=..., not both.")
    return {
        source: dataclasses.replace(
            settings,
            changes={**settings.changes, "source": source, "target": target},
            run_dir=str(settings.folder / f"from-{source}"),
            export_dir=str(settings.export_folder / f"from-{source}"),
        )
        for source in sources
    }
