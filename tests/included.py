"""Code in the pages of docs/ that is copied from the source, so that it is there to read and cannot drift.

    python tests/included.py

brings it up to date. A block of code stands below a comment that names what is in it: a file, and a function or a class
in it, whose docstrings are left out.
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
INCLUDED = re.compile(r"(<!-- from (\S+) (\S+) -->\n```py\n).*?(^```)", re.M | re.S)


def code_of(file: str, name: str) -> str:
    """The lines of a function, `name` or `Class.name`, without its docstring. Raises LookupError if there is none."""
    text = (ROOT / file).read_text("utf-8")
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        node = next(each for each in ast.iter_child_nodes(node) if getattr(each, "name", None) == part)
    assert isinstance(node, ast.FunctionDef)
    kept = set(range(node.lineno, (node.end_lineno or 0) + 1))
    if ast.get_docstring(node) is not None:
        kept -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = text.splitlines()
    return textwrap.dedent("".join(f"{lines[number - 1]}\n" for number in sorted(kept)))


def with_code(page: str) -> str:
    """A page with its blocks as the source has them now."""
    return INCLUDED.sub(lambda found: found[1] + code_of(found[2], found[3]) + found[4], page)


if __name__ == "__main__":
    for path in sorted((ROOT / "docs").glob("*.md")):
        path.write_text(with_code(path.read_text("utf-8")), "utf-8")
