"""The description of the API, which programs read."""

from __future__ import annotations

from serving import COFFEE, Running


def test_the_description_names_every_parameter_and_needs_no_other_server(server: Running) -> None:
    description = server.ask("/openapi.json", headers=None).json
    assert description["openapi"].startswith("3.1")
    parameters = {p["name"]: p for p in description["paths"]["/v1/caption"]["post"]["parameters"]}
    assert {
        "num",
        "beam",
        "max-length",
        "length-penalty",
        "top-p",
        "seed",
        "min-confidence",
        "keywords",
        "replace",
    } <= parameters.keys()
    for name in parameters:
        assert "unknown" not in server.ask(f"/v1/caption?{name}=x", COFFEE).body.decode(), name
    page = server.ask("/docs", headers=None).body.decode()
    for address in description["paths"]:
        assert address in page
    assert "max-length" in page
    assert "https://" not in page
    assert page.count("<script") == page.count('<script src="/static/') == 1
