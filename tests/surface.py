"""How much there is of capcli, in four measures: options, lines of code, the longest functions, words of docstrings.

    python tests/surface.py

Lines of code are those that hold any, without docstrings and comments; a function's are all of its lines.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import typer.main

from capcli.cli.app import COMMANDS, app

ROOT = Path(__file__).parent.parent / "capcli"
SILENT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def options() -> Iterator[tuple[str, int]]:
    """Each command with the number of its options, help left out."""
    root = typer.main.get_command(app)
    for name in COMMANDS:
        command = root.get_command(None, name)  # type: ignore[attr-defined]
        yield name, sum(p.param_type_name == "option" and p.name != "short_help" for p in command.params)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def documented(tree: ast.Module) -> Iterator[tuple[Documented, ast.Expr]]:
    """What has a docstring, with it."""
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node) is not None:
            first = node.body[0]
            assert isinstance(first, ast.Expr)
            yield node, first


def code_lines(text: str, tree: ast.Module) -> int:
    """The lines of a file that hold code."""
    held = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SILENT:
            held |= set(range(token.start[0], token.end[0] + 1))
    for _, docstring in documented(tree):
        held -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return len(held)


def main() -> None:
    lines: Counter[str] = Counter()
    words: Counter[str] = Counter()
    longest: dict[str, tuple[int, str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        text, room = path.read_text("utf-8"), room_of(path)
        tree = ast.parse(text)
        lines[room] += code_lines(text, tree)
        words[room] += sum(len((ast.get_docstring(node) or "").split()) for node, _ in documented(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                longest[room] = max(longest.get(room, (0, "")), (size, f"{path.stem}.{node.name}"))
    counted = dict(options())
    print(f"{sum(counted.values())} options: " + ", ".join(f"{name} {many}" for name, many in counted.items()))
    print(f"{sum(lines.values())} lines of code, {sum(words.values())} words of docstrings")
    print(f"{'room':16}{'code':>7}{'words':>7}  longest function")
    for room, many in lines.most_common():
        size, name = longest.get(room, (0, ""))
        print(f"{room:16}{many:7}{words[room]:7}  {name} {size}" if name else f"{room:16}{many:7}{words[room]:7}")


if __name__ == "__main__":
    main()
