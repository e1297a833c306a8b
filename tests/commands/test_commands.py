"""What all commands share: help, flags, messages and exit codes."""

import ast
import inspect
import os
import pathlib
import signal
import time

import pytest

from tests.commands.shell import call
from tfdisent import datasets
from tfdisent.commands import augment, evaluate, info, main, prepare, reproduce, train, training, travelling
from tfdisent.commands.command import Command, flag_values, help_text, run_command
from tfdisent.experiment import catalogue
from tfdisent.messages import INTERRUPTED, PARENT, STOPPED, Stopped

COMMANDS = {
    "prepare": Command("prepare", prepare.__doc__, prepare.define, prepare.execute, True),
    "train drai": train.command("drai"),
    "train unified": train.command("unified"),
    "train margin": train.command("margin"),
    "train harmonize": train.command("harmonize"),
    "train mmsdnet": train.command("mmsdnet"),
    "evaluate": Command("evaluate", evaluate.__doc__, evaluate.define, evaluate.execute),
    "reproduce": Command("reproduce", reproduce.__doc__, reproduce.define, reproduce.execute),
    "travelling": Command("travelling", travelling.__doc__, travelling.define, travelling.execute),
    "augment": Command("augment", augment.__doc__, augment.define, augment.execute),
    "info": Command("info", info.__doc__, info.define, info.execute),
}


def test_help_imports_no_framework(run_python):
    code = "import sys; from tfdisent.commands import main; main.run(['--help']); print(*sys.modules)"
    out = run_python(code)
    for verb in main.VERBS:
        assert f"  {verb} " in out
    assert not {"keras", "tensorflow", "numpy", "absl"} & set(out.splitlines()[-1].split())


@pytest.mark.parametrize("verb", main.VERBS)
def test_each_verb_answers_help_without_a_framework(verb, run_python):
    code = f"""
import sys
from tfdisent.commands import main
try:
    main.run([{verb!r}, "--help"])
except SystemExit as end:
    assert not end.code, end.code
print(*sys.modules)
"""
    out = run_python(code)
    assert f"tfdisent {verb}" in out
    assert not {"keras", "tensorflow"} & set(out.splitlines()[-1].split())


def flags_read(command):
    """The flags whose values the command's code reads, that of `training` with it where it is called."""
    functions = [command.execute.func if hasattr(command.execute, "func") else command.execute]
    source = inspect.getsource(functions[0])
    if "training_settings" in source:
        functions.append(training.training_settings)
    trees = [ast.parse(inspect.getsource(function)) for function in functions]
    return {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "given"
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_defines_the_flags_that_it_reads_and_no_others(name):
    command = COMMANDS[name]
    defined = {flag for flag in flag_values(command) if len(flag) > 1} - {"help", "verbosity"}
    system = name.removeprefix("train ")
    unread = {"sources"} if "train" in name and system not in train.FROM_SOURCES else set()
    assert defined == flags_read(command) - unread | train.FIELDS.get(system, {}).keys()
    text = help_text(command)
    for flag in defined:
        assert f"  --{flag}=" in text or f"  --[no]{flag}\n" in text


def test_help_says_the_default_that_a_flag_has():
    text = help_text(COMMANDS["train unified"])
    assert "Default: brain_phantom." in text and "Default: quick." in text and "Default: true." in text
    assert "runs/<model>-<dataset>-<preset>-seed<seed>" in text


def test_data_sets_are_listed_with_a_line_each(tmp_path):
    assert catalogue.ABOUT.keys() == datasets.DATASETS.keys()
    out, _ = call(tmp_path, "train", "unified", "--dataset=help")
    assert [line.split()[0] for line in out.splitlines()] == ["brain_phantom", "brats", "manifest", "bids"]
    out, _ = call(tmp_path, "evaluate", "--dataset=help")
    assert [line.split()[0] for line in out.splitlines()] == sorted(datasets.DATASETS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tarin"], "Expected a verb of prepare, train"),
        (["train", "gan"], "Expected a system of drai, unified, margin, harmonize, mmsdnet; received 'gan'"),
        (["train", "drai", "extra"], "Expected flags of the form --name=value, received 'extra'"),
        (["train", "drai", "--sede=1"], "Unknown flag --sede: give --seed"),
        (["train", "drai", "--judge=crowd"], "--judge=crowd"),
        (["train", "drai", "--seed=one"], "--seed=one"),
        (["train", "drai", "--flagfile=missing.txt"], "missing.txt"),
        (["evaluate"], "Give --run_dir"),
        (["travelling"], "Give --run_dir"),
        (["augment"], "Give --run_dir"),
        (["info"], "Give a run folder"),
    ],
)
def test_arguments_of_another_form_end_with_status_2_and_one_message(arguments, words, tmp_path):
    out, err = call(tmp_path, *arguments, status=2)
    assert words in err and err.count("error:") == 1 and "Traceback" not in err and not out


def ending(execute):
    """The exit code of a command that does this."""
    with pytest.raises(SystemExit) as end:
        run_command(Command("c", "", lambda values: None, execute), [])
    return end.value.code


def test_exit_codes_tell_how_a_command_ended(capsys):
    def raising(error):
        def execute(given, others):
            raise error

        return execute

    assert ending(lambda given, others: None) == 0
    assert ending(lambda given, others: 1) == 1
    assert ending(raising(ValueError("wrong"))) == 1
    assert ending(raising(ImportError("no beam"))) == 1
    assert ending(raising(KeyboardInterrupt())) == INTERRUPTED == 130
    assert ending(raising(Stopped("saved", signal.SIGINT))) == 130
    assert ending(raising(Stopped("saved", signal.SIGTERM))) == STOPPED == 143
    with pytest.raises(IndexError):  # a fault of the code: its traceback is wanted
        run_command(Command("c", "", lambda values: None, lambda given, others: others[0]), [])


def test_sigterm_ends_a_command_as_an_exception_does_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    def execute(given, others):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    assert ending(execute) == STOPPED and cleaned
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_that_is_to_end_with_another_process_gets_sigterm_when_that_has_ended(monkeypatch):
    monkeypatch.setenv(PARENT, "1" if os.getppid() != 1 else "2")  # no parent of this process
    seen = []

    def execute(given, others):
        seen.append(os.environ.get(PARENT))  # what this process starts has another parent
        time.sleep(30)

    began = time.monotonic()
    assert ending(execute) == STOPPED
    assert time.monotonic() - began < 20 and seen == [None]


def test_a_traceback_is_shown_when_asked_for(tmp_path):
    _, err = call(tmp_path, "info", "nothing", status=1)
    assert "Traceback" not in err
    _, err = call(tmp_path, "info", "nothing", "--verbosity=1", status=1)
    assert "Traceback" in err and err.endswith("received 'nothing'.\n")


def test_info_tells_a_data_set_by_name_and_a_prepared_one(tmp_path):
    out, _ = call(tmp_path, "info", "brats", "skin_phantom")
    assert "brain tumours" in out and "test_fraction" in out and "num_train" in out
    call(tmp_path, "prepare", "--dataset=skin_phantom", "--num_train=9", "--num_test=3", "--size=16", "--workers=1")
    out, _ = call(tmp_path, "info", "data/skin_phantom")
    assert "9 images of 9 subjects, bkl 3, mel 3, nv 3" in out and "16 x 16 x 3, uint8" in out


def test_top_level_modules_only_call_a_command():
    root = pathlib.Path(__file__).parents[2]
    for path in (*root.glob("train/*.py"), *root.glob("datasets/*.py")):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        assert len(tree.body) in (1, 3), path
