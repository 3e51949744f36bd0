import io
import sys

import pytest
from fakes import Terminal

from capcli.cli.messages import escape_controls, say, show_lines
from capcli.cli.streams import StandardOutput

NAME = "a\x1b]0;title\x07\x9b31m\udc9b\x7f\r.jpg"
SHOWN = "a\\x1b]0;title\\x07\\x9b31m\\x9b\\x7f\\r.jpg"


def test_no_file_name_commands_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    say(f"{NAME}: a\nb\tc \udcff é 🐈")
    assert sys.stderr.getvalue() == f"capcli: {SHOWN}: a\\nb\\tc \udcff é 🐈\n"
    assert escape_controls(f"{NAME}\ta cat\n") == f"{SHOWN}\ta cat\n"
    for terminal, expected in ((io.StringIO(), NAME), (Terminal(), SHOWN)):
        monkeypatch.setattr(sys, "stdout", terminal)
        StandardOutput().write(f"{NAME}\ta cat\n")
        show_lines(NAME)
        assert terminal.getvalue() == f"{expected}\ta cat\n{expected}\n"
