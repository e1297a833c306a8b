"""Disentanglement systems for medical images: tfdisent VERB [--flag=value ...]; each verb has its own --help."""

import importlib
import sys
from collections.abc import Sequence

from tfdisent._version import __version__
from tfdisent.messages import USAGE

VERBS = {
    "prepare": "prepare a data set, or show what its folder must look like",
    "train": "train a system: prepare, train, evaluate, report and export",
    "evaluate": "measure a trained run again, also on other data",
    "reproduce": "repeat a table or a figure of a paper",
    "travelling": "compare harmonisations on subjects who were scanned on several scanners",
    "augment": "fill up rare classes with synthetic images from a trained run",
    "apply": "run an exported model on whole volumes",
    "info": "describe a run folder, an exported model or a data set",
}


def help_text() -> str:
    """What `tfdisent --help` prints."""
    verbs = "".join(f"  {verb:<10} {summary}\n" for verb, summary in VERBS.items())
    return f"tfdisent {__version__}\n\n{__doc__}\n\n{verbs}\nExample: tfdisent train drai --dataset=skin_phantom"


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the verb that the arguments begin with, by default those of the process, and ends the process."""
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if verb in ("--help", "-h", "help"):
        print(help_text())
    elif verb == "--version":
        print(__version__)
    elif verb in VERBS:
        importlib.import_module(f"tfdisent.commands.{verb}").run(argv=rest)
    else:
        print(f"error: Expected a verb of {', '.join(VERBS)}; received {verb!r}.", file=sys.stderr)
        sys.exit(USAGE)
