"""What docs/serve.md promises under "Who may ask", of tokens, cookies and addresses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from serving import COFFEE, PATIENCE, TOKEN, Running

from capcli.serve.access import Access


@pytest.mark.slow
def test_another_address_needs_a_token() -> None:
    command = [sys.executable, "-m", "capcli", "serve", "--host", "0.0.0.0", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "CAPCLI_TOKEN"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    line = "capcli: --host 0.0.0.0 needs --token TEXT, or CAPCLI_TOKEN in the environment\n"
    assert (done.returncode, done.stderr) == (2, line)
    done = subprocess.run([*command, "--token", "short"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.startswith("capcli: --token: 16 characters or more")


@pytest.mark.slow
def test_the_command_listens_on_the_loopback_and_its_address_works_once(tiny_files: Path) -> None:
    command = [sys.executable, "-m", "capcli", "serve", "--port", "0", "--model", str(tiny_files)]
    environment = os.environ | {"CAPCLI_TOKEN": TOKEN}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        try:
            port, once = re.findall(r"^capcli: open http://127\.0\.0\.1:(\d+)/\?token=(\S+) \(works once\)$", line)[0]
            here = Running(None, Access("127.0.0.1", int(port), TOKEN), int(port))  # type: ignore[arg-type]
            assert here.ask("/v1/caption", COFFEE).status == 200
            if Path("/proc/net/tcp").exists():
                listening = re.findall(rf": (\w+):{int(port):04X} 0+:0000 0A", Path("/proc/net/tcp").read_text())
                assert listening == ["0100007F"]
            assert here.ask(f"/?token={once}", headers=None, method="HEAD").status == 403  # as link previews ask
            first = here.ask(f"/?token={once}", headers=None)
            assert first.status == 200
            cookie = first.headers["set-cookie"].partition(";")[0]
            assert here.ask(f"/?token={once}", headers=None).status == 403
            assert here.ask("/", headers={"Cookie": cookie}).status in (200, 303)
        finally:
            process.terminate()
        assert process.stderr.read() == "capcli: interrupted\n"  # a token that was given is not shown
    assert process.returncode == 128 + 15


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the browser that is opened here is a shell script")
def test_no_command_is_given_the_address_that_lets_in(tiny_files: Path, tmp_path: Path) -> None:
    """Every user of a machine can read what commands were given."""
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    script = f'exec > {seen}\necho "$1"\npage="${{1#file://}}"\ncat "$page"\nls -ld "$(dirname "$page")"\n'
    browser.write_text(f"#!/bin/sh\n{script}")
    browser.chmod(0o755)
    command = [sys.executable, "-m", "capcli", "serve", "--open", "--port", "0", "--model", str(tiny_files)]
    environment = os.environ | {"CAPCLI_TOKEN": TOKEN, "BROWSER": f"{browser} %s"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        address = re.findall(r"open (\S+) \(works once\)", process.stderr.readline())[0]
        port = int(re.findall(r":(\d+)/", address)[0])
        here = Running(None, Access("127.0.0.1", port, TOKEN), port)  # type: ignore[arg-type]
        assert here.ask("/health").status == 200  # which is answered once the browser has been started
        process.terminate()
        assert process.stderr.read() == "capcli: interrupted\n"
    given, page, folder = seen.read_text().splitlines()
    assert given.startswith("file:///")
    assert "token" not in given
    assert f'content="0; url={address}"' in page
    assert folder.startswith("drwx------")
    assert not Path(given.removeprefix("file://")).parent.exists()


def test_without_a_token_nothing_is_told(server: Running) -> None:
    for path in ("/v1/caption", "/v1/explain?sentence=a", "/v1/attention"):
        for headers in (None, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Cookie": "capcli-1=x"}):
            answer = server.ask(path, COFFEE, headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert server.ask("/", headers=None).status == 401
    assert b'name="token"' in server.ask("/", headers=None).body


def test_the_token_can_be_typed(server: Running) -> None:
    wrong = server.ask("/login", "token=wrong", {"Origin": server.address})
    assert (wrong.status, "set-cookie" in wrong.headers) == (403, False)
    right = server.ask("/login", f"token={TOKEN}", {"Origin": server.address})
    assert right.status == 200
    assert right.headers["set-cookie"].startswith(f"capcli-{server.port}=")


@pytest.mark.parametrize(
    "other", ['a={"a":1}', "a=b c", 'a="b', "a=\xe9", "k[]=1", "m@il=1", "plain", "", "=", "capcli-{port}=another's"]
)
def test_cookies_of_other_programs_do_not_matter(server: Running, other: str) -> None:
    ours, others = server.cookie["Cookie"], other.format(port=server.port) if "port" in other else other
    for cookie in (f"{others}; {ours}", f"{ours}; {others}", f"{others};{ours};;{others}"):
        assert server.ask("/v1/caption", COFFEE, server.cookie | {"Cookie": cookie}).status == 200
    assert server.ask("/v1/caption", COFFEE, server.cookie | {"Cookie": others}).status == 401
    assert server.ask("/v1/caption", COFFEE, server.cookie | {"Cookie": f"x{ours}; {ours}x"}).status == 401
