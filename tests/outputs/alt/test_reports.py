"""Findings as other programs read them."""

from __future__ import annotations

import json

from capcli.outputs.alt.reports import MISSING, SILENT, Finding, as_annotations, as_sarif

FOUND = [Finding("a b,c.html", 3, "x%20y.jpg", "no alt text", MISSING), Finding("/d.md", 1, "z", "it says\n", SILENT)]


def test_annotations_are_escaped() -> None:
    assert [*as_annotations(FOUND)] == [
        "::error file=a b%2Cc.html,line=3::x%2520y.jpg: no alt text",
        "::warning file=/d.md,line=1::z: it says%0A",
    ]


def test_sarif_names_rule_place_and_level() -> None:
    (line,) = as_sarif(FOUND)
    (run,) = json.loads(line)["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [MISSING, SILENT]
    assert [(each["ruleId"], each["level"], each["message"]["text"]) for each in run["results"]] == [
        (MISSING, "error", "x%20y.jpg: no alt text"),
        (SILENT, "warning", "z: it says\n"),
    ]
    places = [each["locations"][0]["physicalLocation"] for each in run["results"]]
    assert [(place["artifactLocation"]["uri"], place["region"]["startLine"]) for place in places] == [
        *(("a%20b%2Cc.html", 3), ("file:///d.md", 1))
    ]
    assert json.loads(next(as_sarif([])))["runs"][0]["results"] == []
