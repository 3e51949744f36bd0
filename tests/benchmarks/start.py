"""How long until the program does something? Ratios of medians, the compared commands run by turns.

    python tests/benchmarks/start.py [--runs N]

`capcli --help`, `--version`, a usage error and shell completion against a Typer app with the same options and empty
bodies, made here from capcli/cli; `capcli caption` of a 12-megapixel photo on the CPU against `import torch`.
"""

from __future__ import annotations

import argparse
import ast
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from photos import enlarged

import capcli.cli.app

START = "from {} import main; main()"
COMPLETION = {"_CAPCLI_COMPLETE": "complete_bash", "COMP_WORDS": "capcli cap", "COMP_CWORD": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty_app.py").write_text(empty_app())
        photo = folder / "photo.jpg"
        enlarged(0, 4000, 3000).save(photo, quality=90)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([name, str(Path(capcli.__file__).parents[1])])}
        ours, empty = ([sys.executable, "-c", START.format(module)] for module in ("capcli.cli.app", "empty_app"))
        print(f"{'':22} {'seconds':>8} {'against':>8} {'ratio':>6}")
        for title, arguments, extra in (
            ("capcli --help", ["--help"], {}),
            ("capcli caption --help", ["caption", "--help"], {}),
            ("capcli --version", ["--version"], {}),
            ("usage error", ["caption", "--no-such-option"], {}),
            ("completion", [], COMPLETION),
        ):
            compare(title, [*ours, *arguments], [*empty, *arguments], environment | extra, runs)
        command = [*ours, "caption", str(photo), "--device", "cpu"]
        compare("capcli caption PHOTO", command, [sys.executable, "-c", "import torch"], environment, runs)


def compare(title: str, ours: list[str], theirs: list[str], environment: dict[str, str], runs: int) -> None:
    """One line: both medians and their ratio. The first run of each, which warms the disk, is not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + 1):
        for command, times in zip((ours, theirs), seconds, strict=True):
            started = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if run:
                times.append(time.perf_counter() - started)
            assert done.returncode in (0, 2), done.stderr
            assert done.stdout or done.returncode == 2 or command[-1] == "import torch", command
    ours_median, theirs_median = map(statistics.median, seconds)
    ratio = ours_median / theirs_median
    print(f"{title:22} {ours_median:8.3f} {theirs_median:8.3f} {ratio:6.2f}", flush=True)


def empty_app() -> str:
    """Return a command line with the same options and nothing behind them: help, options, commands and the app."""
    folder = Path(capcli.cli.app.__file__).parent
    commands = list(capcli.cli.app.COMMANDS)
    body: list[ast.stmt] = []
    constants: dict[str, object] = {"__version__": capcli.__version__}  # those that the options are made of
    for name in ("help", "options", *commands, "app"):
        for node in ast.parse((folder / f"{name}.py").read_text("utf-8")).body:
            match node:
                case ast.ImportFrom(module="__future__"):
                    continue
                case ast.ImportFrom(module=module, names=names) if module and module.startswith("capcli"):
                    found = {alias.name: getattr(import_module(module), alias.name) for alias in names}
                    constants |= {
                        name: tuple(value) for name, value in found.items() if isinstance(value, tuple | dict)
                    }
                    continue
                case ast.FunctionDef() if node.name in commands:
                    node.body = node.body[:1]  # the docstring, which is the help
                case ast.FunctionDef(name="main") | ast.ClassDef(name="Commands") | ast.If():
                    continue
            body.append(ast.parse(ast.unparse(node).replace("cls=Commands, ", "")).body[0])
    begin = ast.parse("\n".join(f"{name} = {value!r}" for name, value in constants.items())).body
    end = ast.parse(f"for command in ({', '.join(commands)}):\n    app.command()(command)\ndef main():\n    app()").body
    return "from __future__ import annotations\n" + ast.unparse(ast.Module([*begin, *body, *end], []))


if __name__ == "__main__":
    main()
