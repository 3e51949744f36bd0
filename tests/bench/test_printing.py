"""What was measured, in lines."""

from capcli.bench import measuring
from capcli.bench.printing import as_lines


def test_lines_name_every_stage_and_the_bound(result: dict) -> None:
    lines = list(as_lines({"load_seconds": 1.5, **result}))
    assert [line.split()[0] for line in lines] == ["3", "load", *measuring.STAGES, "together", "bound"]
    assert lines[-1] == f"bound by: {result['bound']}"
