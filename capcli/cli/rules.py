"""Refusals before any work, as tables of what would be wrong and the line that says so.

The first broken rule ends the command, so a rule may rely on those before it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from capcli.cli.messages import absent, fail, say
from capcli.cli.options import Sources, Views, Writing
from capcli.files import is_writable
from capcli.images.decode import STANDARD_INPUT
from capcli.images.find import SUFFIXES, check_arguments
from capcli.images.shards import PLACEHOLDER, Shard
from capcli.outputs.existing import FIELDS
from capcli.outputs.formats import RESUMABLE

if TYPE_CHECKING:
    from capcli.outputs.rows import Rows
    from capcli.outputs.template import Template

Rules = Iterable[tuple[object, str]]


def refuse(*tables: Rules) -> None:
    """Exit with the line of the first broken rule, if any."""
    for table in tables:
        for broken, line in table:
            if broken:
                fail(line)


def source_rules(paths: list[str], sources: Sources) -> Iterator[tuple[object, str]]:
    """Yield rules about the images named. paths: the arguments."""
    listed = sources.files_from
    yield not paths and listed is None, "nothing to caption: give PATHS or --files-from FILE; see --help"
    yield paths.count(STANDARD_INPUT) > 1, "- stands for one image on stdin, and can be given only once"
    yield listed == STANDARD_INPUT and STANDARD_INPUT in paths, "stdin cannot be both an image and --files-from"


def watch_rules(paths: list[str], sources: Sources, dry_run: bool) -> Iterator[tuple[object, str]]:
    """Yield rules about --watch."""
    yield dry_run, "--watch goes on until it is stopped, so it cannot be combined with --dry-run"
    yield sources.files_from is not None, "--watch cannot be combined with --files-from"
    for path in paths:
        yield not os.path.isdir(path), f"{path}: --watch takes folders only"


def shard_rules(writing: Writing, views: Views, shard: Shard | None) -> Iterator[tuple[object, str]]:
    """Yield rules about each shard's output names. shard: None for the whole listing."""
    for option, name in named_outputs(writing, views).items():
        holds = name is not None and PLACEHOLDER in str(name)
        yield holds and shard is None, f"{option} {name}: {PLACEHOLDER} needs --shard I/N"
        replaced = option in ("--output", "--html") and name not in (None, STANDARD_INPUT)
        replaced = replaced and shard is not None and writing.existing == "overwrite"
        line = f"{option} {name}: each shard would replace the one before; put {PLACEHOLDER} into the name"
        yield replaced and not holds, line


def named_outputs(writing: Writing, views: Views) -> dict[str, Any]:
    """Return the outputs that only one run at a time may write, by option; None where not asked for."""
    outputs = {"--output": writing.output, "--summary": writing.summary}
    return outputs | {"--html": views.html, "--attention": views.attention}


def file_rules(
    files: Mapping[str, str | Path | None], paths: list[str], model: str | None
) -> Iterator[tuple[object, str]]:
    """Yield rules against naming a file twice, or both reading and writing it.

    files: by option.
    model: the checkpoint's folder or name; None for the bundled one.
    """
    from capcli.checkpoints.card import CARD_FILE
    from capcli.checkpoints.store import CHECKPOINT_FILES, MEMORY_FILE

    real = {option: os.path.realpath(name) for option, name in files.items() if name is not None}
    first: dict[str, str] = {}
    for option, name in real.items():
        clash = name in first and (os.path.isfile(name) or not os.path.exists(name))  # not for devices
        yield clash, f"{first.get(name)} and {option} are the same file, {files[option]}"
        first.setdefault(name, option)
    parts = [os.path.join(model or "", name) for name in (*CHECKPOINT_FILES, MEMORY_FILE, CARD_FILE)]
    read = {os.path.realpath(path) for path in (*paths, *(parts if model else ()))}
    for option, name in real.items():
        is_read = option != "--files-from" and name in read and os.path.isfile(name)
        yield is_read, f"{option} {files[option]}: is read by this command; name another file"


def place_rules(writing: Writing, replaces: bool | None = None) -> Iterator[tuple[object, str]]:
    """Yield rules about captions beside images and inside them.

    replaces: whether --existing overwrite may be about another output; None where there can be none.
    """
    folder, existing, fields = writing.output_dir, writing.existing, writing.fields
    inside = writing.write_metadata or writing.xmp is not None
    yield folder is not None and not writing.sidecar, "--output-dir needs --sidecar"
    yield writing.sidecar_ext is not None and not writing.sidecar, "--sidecar-ext needs --sidecar"
    yield folder is not None and not is_writable(folder), f"--output-dir {folder}: cannot create files there"
    yield fields != FIELDS[0] and not inside, f"--fields {fields} needs --write-metadata or --xmp"
    line = "--existing own with --sidecar needs --cache FILE, which remembers the texts that capcli wrote"
    yield existing == "own" and writing.sidecar and writing.cache is None, line
    overwrites = existing == "overwrite" and replaces is not None
    others = ", or an --output FILE, --html or --attention to replace" if overwrites else ""
    useless = existing and not (writing.into_images or (overwrites and replaces))
    yield useless, f"--existing {existing} needs --sidecar, --write-metadata or --xmp{others}"


def output_rules(
    writing: Writing, views: Views, output: str | None, kind: type[Rows], dry_run: bool
) -> Iterator[tuple[object, str]]:
    """Yield rules about a run's outputs, and options that go with a format.

    output: the rows' file; None for stdout.
    kind: its format.
    """
    yield output is None and not kind.streams, f"--format {kind.name} needs --output FILE or --output FOLDER/"
    for option, name in (("--output", output), ("--summary", writing.summary), ("--cache", writing.cache)):
        is_image = name is not None and os.path.splitext(name)[1].lower() in SUFFIXES
        yield is_image, f"{option} {name}: has an image's ending; name another file"
    yield dry_run and writing.summary, "--dry-run writes nothing, so it cannot be combined with --summary"
    yield from place_rules(writing, bool(output or views.html or views.attention))
    resumable = f"--resume needs --output FILE in one of the formats {', '.join(RESUMABLE)}, or FOLDER/ for parquet"
    yield writing.resume and (output is None or not kind.resumable), resumable
    yield writing.resume and views.html, "a page shows one run: --html cannot be combined with --resume"
    unworded = not (kind.templated or writing.into_images)
    places = "text, imagefolder, --sidecar, --write-metadata and --xmp"
    yield (
        writing.template != "{caption}" and unworded,
        f"--template applies to {places}, not to {kind.name}",
    )
    yield writing.keep_unsure and unworded, f"--keep-unsure is for {places}; {kind.name} marks all of them"


def wording_rules(writing: Writing, template: Template, kind: type[Rows], num: int) -> Iterator[tuple[object, str]]:
    """Yield rules about options for existing texts, or several captions, used without them.

    kind: the output's format.
    num: candidates per image, 1 or more.
    """
    added = writing.into_images and writing.existing == "overwrite"
    line = "{existing} in --template needs --existing overwrite, and --sidecar, --write-metadata or --xmp"
    yield "existing" in template.fields and not added, line
    joined = (num > 1 and (writing.sidecar or kind.joins)) or writing.existing in ("append", "prepend")
    line = "--separator needs --existing append or prepend, or --num with --sidecar or --format imagefolder"
    yield writing.separator is not None and not joined, line


def keyword_rules(writing: Writing, template: Template, kind: type[Rows], page: bool) -> Iterator[tuple[object, str]]:
    """Yield the rule that keywords need a place. page: whether an HTML page shows them."""
    placed = page or not kind.templated or uses_keywords(writing, template)
    line = (
        f"--keywords has no place in {kind.name}: put {{keywords}} into --template, choose another --format, or "
        "add --html"
    )
    yield writing.keywords and not placed, line


def uses_keywords(writing: Writing, template: Template) -> bool:
    """Return whether keywords will be written."""
    return "keywords" in writing.fields.split(",") or "keywords" in template.fields


def cache_rules(path: str | None, decoding: Mapping[str, Any]) -> Iterator[tuple[object, str]]:
    """Yield rules against caching captions drawn at random. path: of the cache; None for none."""
    for option in ("sample", "attention_samples"):
        line = f"--cache cannot be combined with {option.replace('_', '-')}: random draws differ each time"
        yield path is not None and decoding.get(option), line


def require_presence(paths: list[str], files_from: str | None) -> None:
    """Exit with a line for each missing argument, and a missing --files-from."""
    missing = check_arguments(paths)
    if files_from not in (None, STANDARD_INPUT) and not os.path.exists(str(files_from)):
        missing.append(str(files_from))
    if files_from is not None and os.path.isdir(files_from):
        fail(f"--files-from {files_from}: is a folder")
    for path in missing:
        say(absent(path))
    if missing:
        raise typer.Exit(2)
