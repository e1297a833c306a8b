"""Runs the commands as a shell would: in a process of their own, or, where that makes no difference, in this one."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys

from tfdisent.commands import main

ROOT = pathlib.Path(__file__).resolve().parents[2]


def call(work_dir, *arguments, status=0):
    """What `tfdisent` prints with these arguments in a folder: (standard output, errors); its status is checked."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(work_dir), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main.run(list(map(str, arguments)))
            ended = 0
        except SystemExit as end:
            ended = end.code or 0
    assert ended == status, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


def start(work_dir, module, *arguments):
    """`python -m module` in a folder, as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=work_dir,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process, status=0):
    """What a process printed: (standard output, errors), once it has ended with this status."""
    try:
        out, err = process.communicate(timeout=280)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == status, out + err
    return out, err
