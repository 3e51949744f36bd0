"""What is wrong with alt texts, for people, for GitHub Actions, and in SARIF 2.1.0 for other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from capcli import __version__

MISSING, SILENT = "missing-alt-text", "silent-alt-text"
RULES = {MISSING: "Images have an alt text.", SILENT: "Alt texts say what an image shows."}
LEVELS = {MISSING: "error", SILENT: "warning"}


class Finding(NamedTuple):
    """Describe what is wrong with an image's alt text.

    line: in the page, from 1 on.
    rule: one of RULES.
    """

    path: str
    line: int
    address: str
    said: str
    rule: str


def as_text(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield a line for each finding."""
    for each in findings:
        yield f"{each.path}:{each.line}: {each.address}: {each.said}"


def as_annotations(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield a command of GitHub Actions for each finding.

    Source: GitHub's "Workflow commands", and the escapes of its `toolkit/packages/core/src/command.ts`.
    """
    for each in findings:
        message = escaped(f"{each.address}: {each.said}")
        path = escaped(each.path.replace(os.sep, "/")).replace(":", "%3A").replace(",", "%2C")
        yield f"::{LEVELS[each.rule]} file={path},line={each.line}::{message}"


def escaped(text: str) -> str:
    """Return a text for a command of GitHub Actions."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def as_sarif(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield all findings as JSON in one line: OASIS, "SARIF Version 2.1.0", §3.13 ff."""
    results = [
        {
            "ruleId": each.rule,
            "level": LEVELS[each.rule],
            "message": {"text": f"{each.address}: {each.said}"},
            "locations": [
                {"physicalLocation": {"artifactLocation": {"uri": uri(each.path)}, "region": {"startLine": each.line}}}
            ],
        }
        for each in findings
    ]
    rules = [{"id": rule, "shortDescription": {"text": said}} for rule, said in RULES.items()]
    tool = {"driver": {"name": "capcli", "version": __version__, "rules": rules}}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    yield json.dumps({"$schema": schema, "version": "2.1.0", "runs": [{"tool": tool, "results": results}]})


def uri(path: str) -> str:
    """Return a path as SARIF names it, relative if it is."""
    return Path(path).as_uri() if os.path.isabs(path) else quote(os.fsencode(path.replace(os.sep, "/")))


REPORTS: dict[str, Callable[[Iterable[Finding]], Iterator[str]]] = {
    "text": as_text,
    "github": as_annotations,
    "sarif": as_sarif,
}
