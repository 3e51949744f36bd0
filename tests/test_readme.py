"""The README, the pages of docs/ and their relatives name only what exists, and show what capcli does."""

import ast
import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import pytest
import typer.main
from included import INCLUDED, code_of
from PIL import Image

from capcli import Caption, Captioner
from capcli.cli.app import COMMANDS, app
from capcli.decoding.options import DecodingOptions
from capcli.explaining.printing import as_kinds, as_line, as_table
from capcli.explaining.reading import explain
from capcli.images.decode import open_upright
from capcli.maps.folders import write_overlays
from capcli.maps.overlay import OverlayOptions
from capcli.settings import settings
from capcli.training.learning.options import TrainOptions
from capcli.training.recipes import read_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
TOLD = {"README.md": README} | {f"docs/{name}.md": text for name, text in PAGES.items()}
DOCUMENTS = (*TOLD, "CONTRIBUTING.md", "capcli/README.md", "weights/README.md")


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> Path:
    return ROOT / request.param


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner.load(device="cpu", precision="fp32")


def commands(text: str) -> list[list[str]]:
    """Every capcli command line in a text, as words."""
    shown = "".join(re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.M | re.S))
    lines = re.findall(r"^(?:\$ )?(?:[^`]*\| |for .*; do |torchrun .* -m )?(capcli .*)$", shown, re.M)
    lines += re.findall(r"`(?:[^`]*(?:&&|\|) )?(capcli [^`]*)`", text)
    return [shlex.split(line.split(" > ")[0], comments=True) for line in lines]


def options(command: click.Command) -> set[str]:
    """Everything that may follow a command and begins with a hyphen."""
    return {"--help"}.union(*((*parameter.opts, *parameter.secondary_opts) for parameter in command.params))


def without_records(text: str) -> str:
    """A text without the model card's section of commands that trained the model, which are of the capcli of then."""
    return re.sub(r"^## Training\n.*?(?=^## )", "", text, flags=re.M | re.S) if text.startswith("---\n") else text


def test_commands_and_options_exist(document: Path) -> None:
    root = typer.main.get_command(app)
    context = click.Context(root)
    for words in commands(without_records(document.read_text("utf-8"))):
        if words[1].startswith("--"):
            assert words[1] in options(root), words
            continue
        command = root.get_command(context, words[1])
        assert command is not None, words
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= options(command), words
        changed = {word.split("=")[0] for option, word in pairwise(words) if option == "--set"}
        assert changed <= {*settings(TrainOptions), *settings(DecodingOptions)}, words


def test_every_command_is_introduced() -> None:
    assert len(commands(README)) > 8
    introduced = {words[1] for words in commands(README)}
    assert introduced >= typer.main.get_command(app).commands.keys()


@pytest.mark.parametrize("name", PAGES)
def test_each_page_begins_with_the_command(name: str) -> None:
    assert re.match(r"# .+\n\n```(sh|python)\n", PAGES[name])


def test_parts_are_those_of_the_loops_around_them() -> None:
    text = PAGES["large"]
    arrays = re.findall(r"^#SBATCH --array=1-(\d+) .*\ncapcli .* --shard \$SLURM_ARRAY_TASK_ID/(\d+) ", text, re.M)
    loops = re.findall(r"^for i in ([\d ]+); do capcli .* --shard \$i/(\d+) ", text, re.M)
    assert len(arrays) == len(loops) == 1
    assert arrays[0][0] == arrays[0][1]
    assert loops[0][0].split() == [str(i + 1) for i in range(int(loops[0][1]))]


def test_options_named_in_passing_exist(document: Path) -> None:
    root = typer.main.get_command(app)
    known = set().union(*(options(root.get_command(click.Context(root), name)) for name in COMMANDS))
    for code in re.findall(r"`([^`\n]*--[^`\n]*)`", document.read_text("utf-8")):
        if code.startswith(("capcli ", "--")):
            named = set(re.findall(r"(?<!\S)--[a-z-]+", code))
            assert named <= known, named - known


def anchor(title: str) -> str:
    """What a heading is called in links, on GitHub and on the site."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_files_and_headings_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    for link in re.findall(r"(?<!!\[)\]\(([^):`]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        name, _, heading = link.partition("#")
        place = document.parent / name if name else document
        assert place.exists(), link
        if heading:
            assert heading in map(anchor, re.findall(r"^#+ (.*)$", place.read_text("utf-8"), re.M)), link
    for name in re.findall(r"(?:tests|docs|weights)/(?:[\w-]+/)*[\w-]+\.(?:jpg|py|md)|weights/LICENSE", text):
        assert (ROOT / name).exists(), name


def test_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = re.findall(r"'(?:\.|capcli)\[(\w+)\]'", "".join(TOLD.values()))
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


def test_each_can_be_read_in_one_sitting() -> None:
    assert (ROOT / "weights" / "README.md").read_text("utf-8").count("\n") <= 150
    for name, text in PAGES.items():
        assert f"({name}.md" in PAGES["index"] or name == "index", name
        assert f"docs/{name}.md" in README or name == "index", name
        assert max(map(len, text.splitlines())) < 2_000, name


def texts_of_the_program() -> list[str]:
    """Pieces of text in capcli's code without what is filled in, the longest first."""
    pieces = set()
    for path in (ROOT / "capcli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                pieces.update(re.split(r"\{[^}]*\}", node.value))
    return sorted((piece for piece in pieces if len(piece.strip()) >= 8), key=len, reverse=True)


def share_of_others(message: str, pieces: list[str]) -> float:
    """Which share of a message's letters is in none of the pieces."""
    rest = message = re.sub(r"^capcli: ([^ ]+(?=: ))?", "", message)
    for piece in pieces:
        rest = rest.replace(piece, "")
    return len(re.findall("[a-z]", rest, re.I)) / len(re.findall("[a-z]", message, re.I))


def test_messages_are_those_of_the_program() -> None:
    shown = re.findall(r"^- \*\*`(.*)`\*\*: ", PAGES["troubleshooting"], re.M)
    assert len(shown) >= 20
    pieces = texts_of_the_program()
    assert share_of_others("capcli: a.jpg: no program says this of a file", pieces) == 1
    for message in shown:  # what is filled in is short
        assert share_of_others(message.removesuffix("…"), pieces) < 0.5, message


def test_its_picture_is_what_its_command_draws(captioner: Captioner, tmp_path: Path) -> None:
    ((alt, name),) = re.findall(r"!\[(.*)\]\((docs/.*)\)", README)
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
    (found,) = re.findall(r'^\$ capcli explain (\S+) "(.*)"\n((?:.+\n)+?)```', PAGES["attention"], re.M)
    photo, sentence, shown = found
    (explained,) = explain(captioner, ROOT / photo, [sentence])
    printed = [as_line(explained), *as_table(explained), as_kinds(explained.caption.kinds)]
    number = r"[-+×]?\d+(?:\.\d+)?"
    assert re.sub(number, "0", shown).split() == re.sub(number, "0", "\n".join(printed)).split()
    there, here = ([float(n.strip("×")) for n in re.findall(number, text)] for text in (shown, "\n".join(printed)))
    assert here == pytest.approx(there, rel=0.03, abs=0.02)


def snippets(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def run_snippets(name: str, *code: str) -> list[str]:
    """What each snippet of a page prints; later ones know the names of earlier ones."""
    known: dict[str, object] = {}
    printed = []
    for snippet in code:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(snippet, name, "exec"), known)
        printed.append(said.getvalue())
    return printed


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, text in TOLD.items() if snippets("python", text)])
def test_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = [snippet for snippet in snippets("python", TOLD[name]) if "http://" not in snippet]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "tests" / "photos", tmp_path / "tests" / "photos")
    printed = run_snippets(name, *code)
    if name == "docs/python.md":
        assert len(printed) == 2
        assert all("cat" in text for text in printed)
        assert "no-such.jpg: " in printed[1]


def test_recipes_are_read(tmp_path: Path) -> None:
    code = [snippet for text in TOLD.values() for snippet in snippets("toml", text)]
    assert code
    code.append((ROOT / "docs" / "family.toml").read_text("utf-8"))
    for number, snippet in enumerate(code):
        (tmp_path / f"{number}.toml").write_text(snippet, "utf-8")
        assert read_recipe(tmp_path / f"{number}.toml")


@pytest.mark.slow
def test_code_in_the_pages_is_that_of_the_source() -> None:
    included = [found for text in PAGES.values() for found in INCLUDED.finditer(text)]
    assert len(included) >= 9
    for found in included:
        assert found[0] == found[1] + code_of(found[2], found[3]) + found[4], "run python tests/included.py"
        assert found[0].count("\n") < 32


def test_rows_beside_the_methods_are_those_of_the_diary() -> None:
    known = {row[0]: row for row in rows_of(PAGES["experiments"]) if len(row) == 13}
    rows = [row for row in rows_of(PAGES["visual-attention"]) if row[0] in known and row[1][:1].isdigit()]
    assert len(rows) == 7
    for name, cider, repetition in rows:
        assert known[name][-3:-1] == [cider, repetition], name


def rows_of(text: str) -> list[list[str]]:
    """The cells of all tables' rows."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]


def test_its_requests_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("starlette", "uvicorn", "python_multipart"):
        pytest.importorskip(package, reason="needs the extra serve")
    page = PAGES["serve"]
    (snippet,) = [snippet for snippet in snippets("python", page) if "http://" in snippet]
    token, *arguments = re.findall(r"^(CAPCLI_TOKEN=\S+) (capcli serve)\b", page, re.M)[0]
    (curl,) = re.findall(r"^(curl .*/v1/caption\S*)$", page, re.M)
    (port,) = set(re.findall(r"127\.0\.0\.1:(\d+)", snippet + curl))
    shutil.copytree(ROOT / "tests" / "photos", tmp_path / "tests" / "photos")
    shutil.copy(ROOT / "tests" / "photos" / "chelsea.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(*token.split("="))
    command = [sys.executable, "-m", *arguments[0].split(), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            assert server.stderr is not None
            there = re.findall(r":(\d+)/", server.stderr.readline())[0]
            assert "a cat" in run_snippets("docs/serve.md", snippet.replace(f":{port}/", f":{there}/"))[0]
            if shutil.which("curl"):
                line = curl.replace(f":{port}/", f":{there}/")
                assert "a cat" in subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout
        finally:
            server.terminate()


def test_captions_have_what_it_names(captioner: Captioner) -> None:
    caption = captioner.caption(ROOT / "tests/photos/coffee.jpg")
    assert isinstance(caption, Caption)
    named = re.findall(r"A `Caption` has ((?:[^.]|\.\w)*)\.\s", PAGES["python"])[0]
    attributes = re.findall(r"`(\w+)`", named)
    assert len(attributes) > 5
    for attribute in attributes:
        assert hasattr(caption, attribute), attribute
    for name in re.findall(r"`Captioner\.(\w+)", PAGES["python"]):
        assert callable(getattr(Captioner, name)), name


def test_its_scores_are_those_of_the_checkpoint() -> None:
    scores = json.loads((ROOT / "weights" / "config.json").read_text("utf-8"))["scores"]
    for name, data_set in (("Flickr8k", "flickr8k"), ("COCO", "coco")):
        measured = [scores[data_set][key] for key in ("bleu_4", "meteor", "rouge_l", "cider")]
        row = re.findall(rf"^\| {name} \([\d,]+\) \| (.*) \|$", PAGES["privacy"], re.M)[0]
        assert row.split(" | ") == [f"{score:.1f}" for score in measured]


def test_other_figures_are_those_of_the_diary() -> None:
    diary, page = PAGES["experiments"], PAGES["privacy"].replace("\n", " ")
    pointing = re.findall(r"words for people point at a person (\d+) % .* centre does (\d+) %", page)
    told = re.findall(r"^points at a person +([\d.]+) %\nthe picture's centre +([\d.]+) %", diary, re.M)
    assert pointing[0] == tuple(f"{float(figure):.0f}" for figure in told[0])
    faultless = int(re.findall(r"Of 100 captions that a strict judge looked at, (\d+) had no fault", page)[0])
    assert re.search(rf"^\|.*: bundled \| {faultless} \|", diary, re.M)
    share = {"two": 2, "three": 3, "four": 4}[re.findall(r"about\s+one in (\w+) has no fault", README)[0]]
    assert abs(100 / share - faultless) < 8
    size = sum(path.stat().st_size for path in (ROOT / "weights").iterdir() if path.suffix in (".json", ".safetensors"))
    assert f"{size / 1e6:.0f} MB" in README


@pytest.mark.slow
def test_the_site_is_built_and_fetches_nothing(tmp_path: Path) -> None:
    for package in ("mkdocs", "material"):
        pytest.importorskip(package, reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.findall(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]*>", text), page
    for style in tmp_path.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text("utf-8")), style
