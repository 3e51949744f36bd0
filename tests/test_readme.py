"""The README and its relatives name only what exists, and the README shows what capcli does."""

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
import typer.main
from PIL import Image

from capcli import Caption, Captioner
from capcli.cli.app import COMMANDS, app
from capcli.explaining.printing import as_line, as_table
from capcli.explaining.reading import explain
from capcli.images.decode import open_upright
from capcli.maps.folders import write_overlays
from capcli.maps.overlay import OverlayOptions

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "capcli/README.md", "weights/README.md")


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> Path:
    return ROOT / request.param


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner.load(device="cpu", precision="fp32")


def commands(text: str) -> list[list[str]]:
    """Every capcli command line in a text, as words."""
    lines = re.findall(r"^(?:\$ )?(?:[^`]*\| |for .*; do )?(capcli .*)$", text, re.M) + re.findall(
        r"`(?:[^`]*(?:&&|\|) )?(capcli [^`]*)`", text
    )
    return [shlex.split(line.split(" > ")[0], comments=True) for line in lines]


def options(command: click.Command) -> set[str]:
    """Everything that may follow a command and begins with a hyphen."""
    return {"--help"}.union(*((*parameter.opts, *parameter.secondary_opts) for parameter in command.params))


def test_commands_and_options_exist(document: Path) -> None:
    root = typer.main.get_command(app)
    context = click.Context(root)
    for words in commands(document.read_text("utf-8")):
        if words[1].startswith("--"):
            assert words[1] in options(root), words
            continue
        command = root.get_command(context, words[1])
        assert command is not None, words
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= options(command), words


def test_every_command_is_introduced() -> None:
    assert len(commands(README)) > 8
    introduced = {words[1] for words in commands(README)}
    assert introduced >= typer.main.get_command(app).commands.keys()


def test_its_parts_are_those_of_the_loops_around_them() -> None:
    arrays = re.findall(r"^#SBATCH --array=1-(\d+) .*\ncapcli .* --shard \$SLURM_ARRAY_TASK_ID/(\d+) ", README, re.M)
    loops = re.findall(r"^for i in ([\d ]+); do capcli .* --shard \$i/(\d+) ", README, re.M)
    assert len(arrays) == len(loops) == 1
    assert arrays[0][0] == arrays[0][1]
    assert loops[0][0].split() == [str(i + 1) for i in range(int(loops[0][1]))]


def test_options_named_in_passing_exist(document: Path) -> None:
    root = typer.main.get_command(app)
    known = set().union(*(options(root.get_command(click.Context(root), name)) for name in COMMANDS))
    for option in re.findall(r"`(--[a-z-]+)", document.read_text("utf-8")):
        assert option in known, option


def test_files_and_headings_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    for link in re.findall(r"\]\(([^):]+)\)", text):
        name, _, heading = link.partition("#")
        assert (document.parent / name).exists(), link
        if heading:
            found = re.findall(r"^#+ (.*)$", (document.parent / name).read_text("utf-8"), re.M)
            assert heading in [title.lower().replace(" ", "-") for title in found], link
    for name in re.findall(r"tests/(?:\w+/)*\w+\.(?:jpg|py)", text):
        assert (ROOT / name).exists(), name


def test_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = re.findall(r"'(?:\.|capcli)\[(\w+)\]'", README)
    assert named
    assert set(named) <= extras.keys()


def test_the_workflow_runs_its_commands() -> None:
    for workflow in ROOT.glob(".github/workflows/*.yml"):
        for command in re.findall(r"^\s*- (python3 -m venv .*)", workflow.read_text("utf-8"), re.M):
            assert f"`{command}`" in README, command


def test_contributing_names_tests_that_exist() -> None:
    named = re.findall(r"tests/[\w/]+\.py", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert named
    for name in named:
        assert (ROOT / name).exists(), name


def test_it_can_be_read_in_one_sitting() -> None:
    assert README.count("\n") <= 280


def test_its_picture_is_what_its_command_draws(captioner: Captioner, tmp_path: Path) -> None:
    (alt, name) = re.findall(r"!\[(.*)\]\((docs/.*)\)", README)[0]
    photo = ROOT / re.findall(r"`capcli caption (\S+) --attention looked --precision fp32`", README)[0]
    caption = captioner.caption(photo)
    assert f"“{caption.text}”" in alt
    for word, percent in re.findall(r"“(\w+)”, (\d+) %", alt):
        probability = np.exp(caption.word_log_probs[caption.words.index(word)])
        assert abs(probability - int(percent) / 100) < 0.01, word
    write_overlays(caption, open_upright(photo, 640), str(photo), tmp_path, OverlayOptions())
    with Image.open(ROOT / name) as shown, Image.open(tmp_path / "attention.png") as drawn:
        difference = np.abs(np.asarray(shown.convert("RGB"), float) - np.asarray(drawn, float))
    assert difference.mean() < 2, f"draw it again and save it as {name}"  # of 255: what JPEG takes away
    assert (ROOT / name).stat().st_size < 250_000


def test_its_explanation_is_what_its_command_prints(captioner: Captioner) -> None:
    photo, sentence, shown = re.findall(r'^\$ capcli explain (\S+) "(.*)"\n((?:.+\n)+?)```', README, re.M)[0]
    (explained,) = explain(captioner, ROOT / photo, [sentence])
    printed = [as_line(explained), *as_table(explained)]
    number = r"[-+×]?\d+(?:\.\d+)?"
    assert re.sub(number, "0", shown).split() == re.sub(number, "0", "\n".join(printed)).split()
    there, here = ([float(n.strip("×")) for n in re.findall(number, text)] for text in (shown, "\n".join(printed)))
    assert here == pytest.approx(there, rel=0.03, abs=0.02)


def python_snippets(over_http: bool) -> list[str]:
    snippets = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    return [snippet for snippet in snippets if ("http://" in snippet) == over_http]


def run_snippet(snippet: str) -> str:
    """What a snippet prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(snippet, "README.md", "exec"), {})
    return printed.getvalue()


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snippets = python_snippets(over_http=False)
    assert len(snippets) == 2
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "tests" / "photos", tmp_path / "tests" / "photos")
    printed = [run_snippet(snippet) for snippet in snippets]
    assert all("cat" in text for text in printed)
    assert "no-such.jpg: " in printed[1]


def test_its_requests_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("starlette", "uvicorn", "python_multipart"):
        pytest.importorskip(package, reason="needs the extra serve")
    (snippet,) = python_snippets(over_http=True)
    token, *arguments = re.findall(r"^(CAPCLI_TOKEN=\S+) (capcli serve)\b", README, re.M)[0]
    (curl,) = re.findall(r"^(curl .*/v1/caption\S*)$", README, re.M)
    (port,) = set(re.findall(r"127\.0\.0\.1:(\d+)", snippet + curl))
    shutil.copytree(ROOT / "tests" / "photos", tmp_path / "tests" / "photos")
    shutil.copy(ROOT / "tests" / "photos" / "chelsea.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(*token.split("="))
    command = [sys.executable, "-m", *arguments[0].split(), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            assert server.stderr is not None
            there = re.findall(r":(\d+)/", server.stderr.readline())[0]
            assert "a cat" in run_snippet(snippet.replace(f":{port}/", f":{there}/"))
            if shutil.which("curl"):
                line = curl.replace(f":{port}/", f":{there}/")
                assert "a cat" in subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout
        finally:
            server.terminate()


def test_captions_have_what_it_names(captioner: Captioner) -> None:
    caption = captioner.caption(ROOT / "tests/photos/coffee.jpg")
    assert isinstance(caption, Caption)
    named = re.findall(r"A `Caption` has ((?:[^.]|\.\w)*)\.\s", README)[0]
    attributes = re.findall(r"`(\w+)`", named)
    assert len(attributes) > 5
    for attribute in attributes:
        assert hasattr(caption, attribute), attribute
    for name in re.findall(r"`Captioner\.(\w+)`", README):
        assert callable(getattr(Captioner, name)), name


def test_its_scores_are_those_of_the_checkpoint() -> None:
    scores = json.loads((ROOT / "weights" / "config.json").read_text("utf-8"))["scores"]
    for name, data_set in (("Flickr8k", "flickr8k"), ("COCO", "coco")):
        measured = [scores[data_set][key] for key in ("bleu_4", "meteor", "rouge_l", "cider")]
        row = re.findall(rf"^\| {name} \([\d,]+\) \| (.*) \|$", README, re.M)[0]
        assert row.split(" | ") == [f"{score:.1f}" for score in measured]


def test_its_other_figures_are_those_of_the_card() -> None:
    card = (ROOT / "weights" / "README.md").read_text("utf-8")
    pointing = re.findall(
        r"words for people point at a person (\d+) % .* centre does (\d+) %", README.replace("\n", " ")
    )
    told = re.findall(r"^points at a person +([\d.]+) %\nthe picture's centre +([\d.]+) %", card, re.M)
    assert pointing[0] == tuple(f"{float(figure):.0f}" for figure in told[0])
    for figure in re.findall(r"\d+ to \d+ images/s", README):
        assert figure in card, figure
    faultless = re.findall(r"Of 100 captions judged by eye, (\d+) had no fault", README)[0]
    assert f"| no fault seen | {faultless} |" in card
    size = sum(path.stat().st_size for path in (ROOT / "weights").iterdir() if path.suffix in (".json", ".safetensors"))
    assert f"{size / 1e6:.0f} MB" in README
