"""What all commands share: flags that are read once, help, one message for an error, exit codes."""

import contextlib
import difflib
import importlib
import logging as python_logging
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from absl import flags, logging

from tfdisent.messages import (
    INTERRUPTED,
    PARENT,
    STOPPED,
    USAGE,
    USER_ERRORS,
    Stopped,
    end_with,
    say,
    without_startup_noise,
)

# Of every command, after its own.
_SHARED = ("help", "verbosity")


class UsageError(Exception):
    """The arguments are malformed."""


class Command(NamedTuple):
    """A command: what it is called and says of itself, its flags, and what it does.

    Attributes:
        name: as it is typed, such as "tfdisent train".
        text: what --help says before the flags.
        define: defines the command's own flags in an empty `FlagValues`.
        execute: (flags as parsed, other arguments) -> None, or an exit code.
        takes_options: whether flags that the command does not define are left among the other arguments.
    """

    name: str
    text: str
    define: Callable[[flags.FlagValues], None]
    execute: Callable[[Any, list[str]], int | None]
    takes_options: bool = False


def run_command(command: Command, argv: Sequence[str] | None = None) -> None:
    """Runs a command on arguments, by default those of the process, and ends the process with its exit code.

    0 after success, 1 after an error, 2 for malformed arguments, 130 after Ctrl-C, and 143 after SIGTERM. An error of
    the user's is one message, and a traceback too with --verbosity=1.
    """
    given = flag_values(command)
    # As an exception, so that a file being written is removed.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    try:
        if parent := os.environ.pop(PARENT, None):  # not for processes that this one starts
            end_with(int(parent))
        arguments = [command.name, *(sys.argv[1:] if argv is None else argv)]
        others = given(arguments, known_only=command.takes_options)[1:]
        if given.help:
            print(help_text(command))
            sys.exit(0)
        _set_logging(given.verbosity)
        status = command.execute(given, others) or 0
    except flags.UnrecognizedFlagError as error:
        similar = difflib.get_close_matches(error.flagname, list(given), n=1)
        advice = f"give --{similar[0]}, or see --help" if similar else "--help lists those that there are"
        status = _tell(f"Unknown flag --{error.flagname}: {advice}.", USAGE)
    except (flags.Error, UsageError) as error:
        status = _tell(str(error).removeprefix("ERROR:: "), USAGE)
    except Stopped as stop:
        say(str(stop))
        status = INTERRUPTED if stop.signal == signal.SIGINT else STOPPED
    except BrokenPipeError:  # who reads the output, such as `head`, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except KeyboardInterrupt:
        status = _tell("interrupted; the same command continues where it was", INTERRUPTED)
    except (*USER_ERRORS, ImportError) as error:
        if given.verbosity > 0:
            traceback.print_exc()
        status = _tell(str(error), 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(status)


def flag_values(command: Command) -> flags.FlagValues:
    """The command's flags, not parsed yet."""
    values = flags.FlagValues()
    command.define(values)
    flags.DEFINE_bool("help", False, "Show this text.", short_name="h", flag_values=values)
    flags.DEFINE_integer(
        "verbosity", 0, "1 shows the traceback of an error and the messages of TensorFlow.", flag_values=values
    )
    return values


def help_text(command: Command) -> str:
    """What --help prints: the command's text, then each flag with its default."""
    values = flag_values(command)
    names = [name for name in values if len(name) > 1 and name not in _SHARED]
    lines = [command.text.strip(), "", "Flags:"]
    for name in (*sorted(names), *_SHARED):
        lines += _flag_help(values[name])
    lines += _wrapped("--flagfile=FILE", "Reads flags from a file, such as the flags.txt of a run.")
    return "\n".join(lines)


def require_none(others: Sequence[str]) -> None:
    """Raises `UsageError` if there are arguments beside flags."""
    if others:
        raise UsageError(f"Expected flags of the form --name=value, received {' '.join(others)!r}.")


def assignments(flag: str, texts: Iterable[str]) -> dict[str, str]:
    """{name: value} of a flag's texts "name=value".

    Raises:
        UsageError: a text is of another form.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"Expected --{flag}=name=value, received --{flag}={text}.")
        values[name] = value
    return values


def _flag_help(flag: flags.Flag) -> list[str]:
    choices = getattr(flag.parser, "enum_values", None)
    if flag.name == "help":
        head = "--help, -h"
    elif flag.boolean:
        head = f"--[no]{flag.name}"
    else:
        head = f"--{flag.name}={'|'.join(choices) if choices else 'VALUE'}"
    # Without what absl adds: the choices before the text, how to repeat a flag after it.
    text = flag.help.removeprefix(f"<{'|'.join(choices or ())}>: ").partition(";\n")[0]
    if flag.default not in (None, []) and flag.name != "help":
        text += f" Default: {str(flag.default).lower() if flag.boolean else flag.default}."
    return _wrapped(head, text)


def _wrapped(head: str, text: str) -> list[str]:
    return [f"  {head}", *textwrap.wrap(text, 112, initial_indent="      ", subsequent_indent="      ")]


def _tell(message: str, status: int) -> int:
    print(f"error: {message}" if status in (1, USAGE) else message, file=sys.stderr)
    return status


def quiet(given: Any) -> contextlib.AbstractContextManager:
    """The context in which frameworks are imported, without their start-up messages unless --verbosity=1."""
    return without_startup_noise() if given.verbosity < 1 else contextlib.nullcontext()


def load_frameworks(given: Any) -> None:
    """Imports Keras and TensorFlow, without their start-up messages unless --verbosity=1."""
    with quiet(given):
        importlib.import_module("tfdisent.experiment.run")


def _set_logging(verbosity: int) -> None:
    if verbosity < 1:
        logging.set_verbosity(logging.WARNING)
        python_logging.getLogger("tensorflow").setLevel("ERROR")
