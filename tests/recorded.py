"""Run commands where the only name server records what it is asked, and knows nothing.

python tests/recorded.py < COMMANDS, in namespaces of its own for the network and for mounts: COMMANDS is a JSON list of
lists of arguments, and so is what is printed, the exit status and the names asked for by each command.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading

FILES = {"/etc/resolv.conf": "nameserver 127.0.0.1\n", "/etc/nsswitch.conf": "hosts: files dns\n"}


def name_of(query: bytes) -> tuple[str, int]:
    """The name that a query asks for, and where its question ends (RFC 1035 §4.1)."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    return ".".join(labels), at + 5


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for path, text in FILES.items():
        with tempfile.NamedTemporaryFile("w", delete=False) as file:
            file.write(text)
        subprocess.run(["mount", "--bind", file.name, path], check=True)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    asked: list[str] = []

    def answer() -> None:
        while True:
            query, sender = server.recvfrom(4096)
            name, end = name_of(query)
            asked.append(name)
            no_such_name = b"\x81\x83" + query[4:6] + bytes(6)
            server.sendto(query[:2] + no_such_name + query[12:end], sender)

    threading.Thread(target=answer, daemon=True).start()
    found = []
    for command in json.load(sys.stdin):
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        found.append((done.returncode, sorted(set(asked)), done.stderr))
        asked.clear()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
