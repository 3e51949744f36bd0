"""The map of the code is true: arrows go down, nothing runs in a circle, and every room is on the map."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent / "capcli"
ANYONE = {"results", "files", "installing", "locks", "settings", "__init__"}
# What a room may import besides itself and what anyone may.
BELOW = {
    "results": set(),
    "files": {"locks"},
    "locks": set(),
    "settings": set(),
    "installing": set(),
    "progress": set(),
    "model": set(),
    "decoding": {"model"},
    "checkpoints": {"model", "progress"},
    "images": set(),
    "streaming": set(),
    "engines": {"checkpoints", "decoding", "model"},
    "captioner": {"checkpoints", "decoding", "engines", "images", "model", "streaming"},
    "outputs": {"images", "model"},
    "maps": {"images", "outputs"},
    "distributed": {"captioner", "decoding", "images", "outputs", "streaming"},
    "explaining": {"captioner", "images", "maps", "model", "outputs"},
    "bench": {"captioner", "images", "outputs", "streaming"},
    "serve": {"captioner", "decoding", "explaining", "images", "maps", "model", "outputs", "streaming"},
    "training": {"captioner", "checkpoints", "decoding", "engines", "images", "maps", "model", "progress", "streaming"},
}

# What changes the process for everybody in it.
PROCESS_WIDE = {"signal.signal", "torch.manual_seed", "torch.set_num_threads", "os.environ.setdefault"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """The modules of capcli that a file imports, inside functions and for the type checker too."""
    modules = {module_of(file) for file in ROOT.rglob("*.py")}
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("capcli"):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("capcli")}
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_arrows_go_down() -> None:
    upward = []
    for path in sorted(ROOT.rglob("*.py")):
        room = room_of(module_of(path))
        if room in ("__init__", "__main__", "cli"):  # they may use everything
            continue
        allowed = BELOW[room] | ANYONE | {room}
        upward += [f"{module_of(path)} → {name}" for name in imports_of(path) if room_of(name) not in allowed]
    assert upward == []


def test_no_circle() -> None:
    arrows = {module_of(path): imports_of(path) - {module_of(path)} for path in ROOT.rglob("*.py")}
    del arrows["capcli"]  # the package imports its public names on first use, and every room may ask it for the version
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join((*way[way.index(module) :], module))
        if module not in done:
            for name in arrows.get(module, ()):
                visit(name, (*way, module))
            done.add(module)

    for module in arrows:
        visit(module, ())


def test_the_map_has_these_arrows() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    table = dict(re.findall(r"^\| `(\w+)(?:/|\.py)` \| ([\w, –]+) \|", text, re.M))
    assert table.pop("cli") == "all"
    assert {room: set(re.findall(r"\w+", arrows)) for room, arrows in table.items()} == BELOW


def test_the_map_can_be_read() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.count("\n") <= 100
    assert max(map(len, text.splitlines())) <= 250


def sets_what_is_the_whole_process_s(call: ast.Call) -> bool:
    """Return whether a call sets signals, threads, PyTorch's own seed, the environment or another library's log."""
    name = ast.unparse(call.func)
    return name in PROCESS_WIDE or name.endswith(".setLevel")


def test_what_rooms_set_for_the_whole_process_is_on_the_map() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    section = text[text.index("what it sets") : text.index("what is in it")]
    told = set(re.findall(r"`([\w/]+\.py)`", section))
    found = set()
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        if not name.startswith("cli/") and any(map(sets_what_is_the_whole_process_s, calls)):
            found.add(name)
    assert told == found


def test_every_room_is_on_the_map() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for path in ROOT.iterdir():
        if path.suffix == ".py" and not path.name.startswith("__"):
            assert f"`{path.name}`" in text, path.name
        elif path.is_dir() and (path / "__init__.py").exists():
            assert f"`{path.name}/`" in text, path.name
