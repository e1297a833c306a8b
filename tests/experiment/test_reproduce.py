"""Tables and figures of a paper: what is trained, what is not trained twice, and what is written."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import keras
import pytest
from PIL import Image

from tests.commands.shell import ROOT, call, finish, start
from tests.experiment.test_run import TINY
from tfdisent.experiment import reproduce, reproduction
from tfdisent.experiment.reproduction import Request, Table, parse_seeds
from tfdisent.papers import paper_of

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")


def write_run(out, dataset, model, seed, value):
    """A finished run whose every metric is `value`."""
    folder = out / f"{dataset}-quick" / f"{model}-seed{seed}"
    (folder / "figures").mkdir(parents=True)
    names = {metric for tables in paper_of("drai").tables.values() for table in tables for metric in table.metrics}
    names |= {f"{name}{end}" for name in names for end in ("_pixels", "_style", "_relative")}
    entry = {"value": value, "std": None, "n": 9, "extractor": "none", "protocol": "by hand"}
    (folder / "metrics.json").write_text(json.dumps(dict.fromkeys(names, entry)))
    config = {"config": {"image_size": 32, "steps": 7, "batch_size": 2}}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("hybrids-of-two-images", "retrieval", "retrieval-2"):
        Image.new("RGB", (8, 8)).save(folder / "figures" / f"{name}.png")


def test_a_count_of_seeds_or_a_list_of_them():
    assert parse_seeds("3") == [0, 1, 2]
    assert parse_seeds("5,0") == [5, 0]
    assert parse_seeds("7,") == [7]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2,1", "names 1 more than once"),
        ("0", "at least one seed"),
        (",", "at least one seed"),
        ("-1,2", "none below 0"),
        ("three", "received 'three'"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_seeds(text)


def test_a_finished_table_is_written_without_training(tmp_path, capsys):
    for seed, value in ((0, 0.2), (1, 0.4)):
        for model, by in (("drai", 0), ("dai", 1), ("dcinfogan", 2), ("dcavae", 3)):
            for dataset in ("skin_phantom", "nodule_phantom"):
                write_run(tmp_path, dataset, model, seed, value + by)
        checkpoint = tmp_path / f"skin_phantom-quick/drai-seed{seed}/checkpoints/step-00003600"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text(json.dumps({"step": 3600, "seconds": 60 * (12 + 2 * seed)}))
    assert reproduce("drai", table=3, seeds=2, run_dir=str(tmp_path)) == []
    said = capsys.readouterr().out
    assert "16 runs, 16 of them done before" in said
    text = (tmp_path / "table-3.md").read_text()
    skin = re.search(r"\| DRAI \| 0.30 ± 0.14 \(best\) \| 0.210 ± 0.01 \| 0.30 ± 0.14 \| (.*) \| (.*) \| 2 \|", text)
    assert [float(cell.split(" ± ")[0]) for cell in skin.groups()] == [3600, 13]
    # Without checkpoints nobody knows.
    assert "| DRAI | 0.30 ± 0.14 (best) | 0.456 ± 0.06 | 0.30 ± 0.14 | – | – | 2 |" in text
    assert "| steps | minutes | seeds |" in text
    assert "CIFC, best first: DRAI, DAI, D-cInfoGAN, D-cAVAE; as in the paper." in text
    assert "0.30 ± 0.14" in said
    assert "Cross-image feature consistency (CIFC) here: " in text
    assert "## Table III of the paper, on skin_phantom: paired differences" in text
    assert "| Difference | CIFC ↓ | CIFC / distance of codes | steps | minutes | seeds |" in text
    assert text.count("| DAI − DRAI | +1 ± 0 | +1 ± 0 | – | – | 2 |") == 2
    page = (tmp_path / "table-3.html").read_text()
    assert "0.30 ± 0.14" in page and str(tmp_path) not in page


def test_a_seed_that_failed_of_one_method_is_left_out_of_its_pairs_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reproduction, "train", lambda settings: False)
    values = {"drai": (1, 2, 4), "dai": (None, 2.5, 4.5), "dcinfogan": (2, None, 8), "dcavae": (None, None, 9)}
    for model, each in values.items():
        for seed, value in enumerate(each):
            if value is not None:
                write_run(tmp_path, "skin_phantom", model, seed, value)
    failed = reproduce("drai", table=3, seeds=3, dataset="skin_phantom", run_dir=str(tmp_path))
    assert len(failed) == 4
    text = (tmp_path / "table-3.md").read_text()
    differences = re.findall(r"\| (.* − DRAI) \| (.*?) \|", text)
    assert differences == [("D-cInfoGAN − DRAI", "+2.5 ± 2.1"), ("DAI − DRAI", "+0.5 ± 0")]
    capsys.readouterr()


@pytest.mark.parametrize(
    "paper, number, part, row, ours",
    [
        ("unified", 2, 0, "12xPix2Pix", "Proposed"),
        ("margin", 1, 0, "Conv+Adv", "CondConv+Sim"),
        ("harmonize", 4, 0, "Harmonized, Target [8]", "Harmonized, Target (Ours)"),
        ("mmsdnet", 1, 0, "UNet-both, 100 %", "MMSDNet, 100 %"),
        ("mmsdnet", 1, 1, "UNet-both, 0 %", "MMSDNet, 0 %"),
    ],
)
def test_methods_are_held_against_the_papers_own(paper, number, part, row, ours):
    paper = paper_of(paper)
    request = Request(paper, "table", number, {}, [0], pathlib.Path(), {})
    held = Table(request)._held_against(paper.tables[number][part])
    assert held[row] == ours and ours not in held


def test_the_pixels_of_any_run_are_a_row_of_the_retrieval_table(tmp_path, capsys):
    models = "dcinfogan dcavae selfReg+MIReg featureCycle MIReg selfReg dai drai".split()
    for model in models:
        write_run(tmp_path, "nodule_phantom", model, 0, 1.5)
    assert reproduce("drai", table=4, seeds="1", run_dir=str(tmp_path)) == []
    text = (tmp_path / "table-4.md").read_text()
    assert "| Pixel Matched | 1.5 | 2.42 | 1.5 | 35.27 | – | – |" in text
    capsys.readouterr()


def test_a_figure_shows_the_picture_of_each_model(tmp_path, capsys):
    for model in ("dcinfogan", "dcavae", "dai", "drai"):
        write_run(tmp_path, "skin_phantom", model, 0, 1.0)
    assert reproduce("drai", figure=13, run_dir=str(tmp_path)) == []
    page = (tmp_path / "figure-13.html").read_text()
    assert len(re.findall("<img ", page)) == 4
    for title in ("D-cInfoGAN", "D-cAVAE", "DAI", "DRAI"):
        assert f"{title} on skin_phantom, seed 0" in page
    capsys.readouterr()


def write_length(folder, steps, seconds):
    """What the last checkpoint of a run tells of its length."""
    checkpoint = folder / f"checkpoints/step-{steps:08d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text(json.dumps({"step": steps, "seconds": seconds}))


def test_at_equal_minutes_each_opponent_takes_the_steps_that_it_does_in_the_time_of_the_papers_own(
    tmp_path, capsys, monkeypatch
):
    trained = []

    def train(settings):
        trained.append((pathlib.Path(settings.run_dir).name, settings.steps, settings.epochs))
        write_run(tmp_path, "skin_phantom", f"{settings.model}-minutes", settings.seed, 5.0)
        return True

    monkeypatch.setattr(reproduction, "train", train)
    # Steps a second: 10, 20, 5, and of the last nobody knows.
    for model, length in (("drai", (600, 60)), ("dai", (600, 30)), ("dcinfogan", (500, 100)), ("dcavae", None)):
        write_run(tmp_path, "skin_phantom", model, 0, 1.0)
        if length:
            write_length(tmp_path / f"skin_phantom-quick/{model}-seed0", *length)
    given = {"table": 3, "seeds": 1, "dataset": "skin_phantom", "run_dir": str(tmp_path)}
    assert reproduce("drai", equal="minutes", **given) == []
    assert sorted(trained) == [("dai-minutes-seed0", 1200, None), ("dcinfogan-minutes-seed0", 300, None)]
    said = capsys.readouterr().out
    assert "left out at equal minutes" in said and "dcavae on skin_phantom, seed 0" in said
    steps, minutes = ((tmp_path / f"table-3{end}.md").read_text() for end in ("", "-minutes"))
    assert re.search(r"\| DAI \| 1 ", steps) and "equal minutes" not in steps
    assert re.search(r"\| DAI \| 5 ", minutes) and re.search(r"\| DRAI \| 1 ", minutes)
    assert "at equal minutes" in minutes and "--equal=minutes" in minutes and "--steps" not in minutes
    assert "| D-cAVAE | – |" in minutes
    assert "at equal minutes" in (tmp_path / "table-3-minutes.html").read_text()
    assert reproduce("drai", equal="minutes", **given) == [] and len(trained) == 2
    capsys.readouterr()


def write_pairs_run(out, name, value, subjects):
    """A finished run of mmsdnet with the scores of its test subjects."""
    folder = out / "cardiac_phantom-quick" / f"{name}-seed0"
    folder.mkdir(parents=True)
    entry = {"value": value, "std": None, "n": 9, "extractor": "none", "protocol": "by hand"}
    scores = {str(k + 1): score for k, score in enumerate(subjects)}
    copied = entry | {"value": 0.1, "subjects": dict.fromkeys(scores, 0.1)}
    found = {"dice_slices_fused": entry | {"subjects": scores}, "dice_slices_copy": copied}
    (folder / "metrics.json").write_text(json.dumps(found))
    config = {"config": {"image_size": 32, "steps": 7, "batch_size": 2}}
    (folder / "config.json").write_text(json.dumps(config))


def test_rows_of_other_data_are_runs_of_their_own_and_the_best_is_tested_against_the_second(tmp_path, capsys):
    drawn = "reference=LGE-shuffled=2"
    for model, name, value in (
        ("mmsdnet", "", 0.8),
        ("mmsdnet_candidates", f"-{drawn}-candidates=3", 0.7),
        ("mmsdnet", f"-{drawn}", 0.6),
    ):
        for share, less in (("_0", 0.1), ("", 0)):
            scores = [value - less + 0.01 * k for k in range(5)]
            write_pairs_run(tmp_path, f"{model}{share}{name}", value - less, scores)
    assert reproduce("mmsdnet", table=3, seeds=1, run_dir=str(tmp_path)) == []
    assert "6 runs, 6 of them done before" in capsys.readouterr().out
    text = (tmp_path / "table-3.md").read_text()
    for row in (
        "expert pairs, 0 % | 0.1 | 0.67 ± 0.06 | 0.7",
        "automated pairs, 100 % | 0.1 | – | 0.7",
        "random pairs, 0 %",
    ):
        assert f"| MMSDNet, {row}" in text
    best = "Best is MMSDNet, expert pairs, 100 %"
    assert best in text and "by 0.100 over MMSDNet, automated pairs, 100 %" in text
    assert "p = 0.0625 in a paired permutation test of 5 test subjects" in text


def test_options_of_a_row_reach_its_run_and_no_other(tmp_path):
    request = Request(
        paper_of("mmsdnet"), "table", 3, {"cardiac_phantom": "ERI"}, [1], tmp_path, {"data": {"scar": "0"}}
    )
    drawn, expert = ("reference=LGE", "shuffled=2"), ()
    cases = request.cases({"cardiac_phantom": [("mmsdnet", drawn), ("mmsdnet", expert)]})
    assert [case.folder.name for case in cases] == ["mmsdnet-reference=LGE-shuffled=2-seed1", "mmsdnet-seed1"]
    assert request.settings(cases[0]).data == {"scar": "0", "reference": "LGE", "shuffled": "2"}
    assert request.settings(cases[1]).data == {"scar": "0"}
    assert "reference" not in request.command(cases[0]) and "--data=scar=0" in request.command(cases[0])


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        ([], "--table or --figure", 1),
        (["--table=3", "--figure=12"], "one of them", 1),
        (["--table=9"], "--table=9 is none of drai's. Known ones are: 1, 2, 3, 4, 5, 6", 1),
        (["--figure=1"], "Known ones are: 10, 11", 1),
        (["--figure=18", "--equal=minutes"], "Nothing is held against drai", 1),
        (["--table=1", "--seed=3"], "give --seeds", 2),
        (["--table=1", "--seeds=1,1"], "more than once", 1),
        (["--table=1", "--dataset=skin_phantom"], "lidc, lidc_patches, nodule_phantom", 1),
        (["--table=3", "--dataset=lidc,lidc"], "more than once", 1),
        (["--table=3", "--steps=3", "--epochs=1"], "not both", 1),
        (["--table=3", "--set=image_size=48"], "power of two", 1),
    ],
)
def test_a_wrong_flag_is_one_message(tmp_path, arguments, words, status):
    _, err = call(tmp_path, "reproduce", *arguments, "--run_dir=r", status=status)
    assert words in err and "Traceback" not in err
    assert not (tmp_path / "r").exists()


def test_the_command_that_is_written_repeats_the_result(tmp_path):
    for model in ("dcinfogan", "dcavae", "dai", "drai"):
        write_run(tmp_path / "r", "skin_phantom", model, 0, 1.0)
    given = ["--figure=13", "--run_dir=r", "--seeds=0,", "--num_samples=30", "--set=style_dim=8"]
    call(tmp_path, "reproduce", *given)
    page = re.sub("<[^>]*>", "", (tmp_path / "r/figure-13.html").read_text())
    assert "tfdisent reproduce --paper=drai --figure=13 --dataset=skin_phantom --seeds=0, --run_dir=r" in page
    assert "--set=style_dim=8 --num_samples=30" in page


def requested(table=5, dataset="msseg", **training):
    """What is repeated of the harmonisation's paper on a data set, and its runs."""
    paper = paper_of("harmonize")
    asked = tuple(one.data for one in paper.tables[table])
    datasets = reproduction.datasets_of(paper, asked, dataset, f"table {table}")
    request = reproduction.Request(paper, "table", table, datasets, [0], pathlib.Path("r"), training)
    return request, request.cases(reproduction.Table(request).compared())


def test_each_direction_of_msseg_is_cross_validated_by_a_run_for_each_fold():
    request, cases = requested(changes={"filters": "4"}, data={"size": "96x96"}, steps=7)
    assert list(request.datasets.values()) == ["MS-SEG, SA to SV", "MS-SEG, SA to PI", "MS-SEG, SV to PI"]
    assert len(cases) == 3 * 3 * 5 and {case.model for case in cases} == {"harmonize", "cyclegan", "s_cyclegan"}
    case = next(case for case in cases if case.seed == 4)
    assert case.folder.as_posix().startswith("r/msseg_sa_sv-quick-steps7/") and case.folder.name.endswith("-fold4")
    settings = request.settings(case)
    assert (settings.dataset, settings.seed, settings.judge_dir) == ("msseg", 4, None)
    assert settings.changes == {"filters": 4, "source": "Siemens Aera", "target": "Siemens Verio"}
    assert settings.data == {"size": "96x96", "fold": "4"}
    command = request.command(case)
    assert "--dataset=msseg --seeds=0," in command and "--set=filters=4" in command and "--data=size=96x96" in command
    assert "fold=" not in command and "source" not in command and command.count("--dataset") == 1
    assert request.runs_of("msseg_sa_sv") == "folds" and request.runs_of("ixi") == "seeds"


def test_data_for_which_no_phantom_stands_are_left_out_until_they_are_named():
    request, cases = requested(dataset=None)
    assert request.datasets == {"brain_phantom": "IXI", "retina_phantom": "RETOUCH"}
    assert all(case.folder.name.endswith("-seed0") for case in cases)
    assert list(requested(dataset="ixi,msseg")[0].datasets)[:2] == ["ixi", "msseg_sa_sv"]
    for dataset, words in (("msseg,msseg", "more than once"), ("brats", "expected --dataset of .*ixi, msseg, ret")):
        with pytest.raises(ValueError, match=words):
            requested(dataset=dataset)
    paper = paper_of("harmonize")
    with pytest.raises(ValueError, match="No phantom stands for .*--dataset=msseg"):
        reproduction.datasets_of(paper, paper.figures[6].data, None, "figure 6")


# A stand-in for Python: a run that notes its process, ends with its parent, and saves on SIGTERM.
RUN = """#!{python}
import os, pathlib, signal, sys, time
sys.path.insert(0, {root!r})
from tfdisent.messages import PARENT, STOPPED, end_with

def save(number, frame):
    pathlib.Path({folder!r}, "saved").write_text(str(number))
    sys.exit(STOPPED)

signal.signal(signal.SIGTERM, save)
end_with(int(os.environ[PARENT]))
pathlib.Path({folder!r}, "child").write_text(str(os.getpid()))
time.sleep(120)
"""
PARENT = """
import sys
from tfdisent.experiment import reproduction
from tfdisent.messages import Stopped

sys.executable = {run!r}
try:
    reproduction.train(reproduction.Settings(system="drai"))
except Stopped as stop:
    print("stopped by", stop.signal)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_run_in_progress_saves_and_ends_with_the_process_that_started_it(tmp_path, number):
    run = tmp_path / "run"
    run.write_text(RUN.format(python=sys.executable, root=str(ROOT), folder=str(tmp_path)))
    run.chmod(0o755)
    code = PARENT.format(run=str(run))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE)
    try:
        wait_for(tmp_path / "child")
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert number == signal.SIGKILL or "stopped by 15" in out
        wait_for(tmp_path / "saved")
        assert (tmp_path / "saved").read_text() == str(int(signal.SIGTERM))
    finally:
        process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def wait_for(path):
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.05)


def test_two_reproductions_do_not_share_a_folder(tmp_path):
    code = f"""
from tfdisent.files import locked
with locked({str(tmp_path / "r")!r}, "reproduction"):
    print("has it", flush=True)
    input()
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert owner.stdout.readline() == "has it\n"
        _, err = call(tmp_path, "reproduce", "--figure=13", "--run_dir=r", "--seeds=0,", status=1)
        assert f"r is in use by process {owner.pid} on " in err and "Traceback" not in err
    finally:
        owner.communicate("\n")


@pytest.mark.slow
def test_it_trains_what_is_missing_once_and_goes_on_after_a_failure(tmp_path):
    tiny = [flag for flag in TINY if not flag.startswith("--dataset")]
    data = ["--data=num_train=48", "--data=num_test=30", f"--data_dir={tmp_path / 'data'}"]
    given = ["--figure=18", "--dataset=skin_phantom", "--steps=4", "--run_dir=r", *data, *tiny]
    folder = tmp_path / "r/skin_phantom-quick-steps4"
    (folder / "drai-seed1").mkdir(parents=True)
    (folder / "drai-seed1/config.json").write_text("{}")  # no run's: this one fails
    said = "".join(finish(start(tmp_path, "train.reproduce", *given, "--seeds=1,0"), status=1))
    assert "[2/2] drai on skin_phantom, seed 0" in said
    assert "failed: drai on skin_phantom, seed 1" in said
    assert (folder / "drai-seed0/metrics.json").is_file()
    assert (folder / "drai-seed0/figures/interpolation.png").is_file()
    assert (folder / "judges/classifier/config.json").is_file()
    assert "Failed: drai" in (tmp_path / "r/figure-18.html").read_text()
    assert not (tmp_path / "saved_models").exists()

    said = "".join(call(tmp_path, "reproduce", *given, "--seeds=1"))
    assert "1 runs, 1 of them done before" in said and "step" not in said
