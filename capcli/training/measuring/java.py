"""pycocoevalcap's Java programs, METEOR and the Penn Treebank tokenizer, run directly."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence

import pycocoevalcap

# Not by pycocoevalcap's own classes, which write into their folder, stumble over decimal commas, and wait for ever
# after an interrupt.
# Overrides JAVA_TOOL_OPTIONS: with a decimal comma METEOR would not understand its own figures.
JAVA = ("java", "-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
FOLDER = pycocoevalcap.__path__[0]
METEOR = (
    *JAVA, "-Xmx2G", "-jar", os.path.join(FOLDER, "meteor", "meteor-1.5.jar"), "-", "-", "-stdio", "-l", "en", "-norm",
)  # fmt: skip
TOKENIZER = (
    *JAVA, "-cp", os.path.join(FOLDER, "tokenizer", "stanford-corenlp-3.4.1.jar"),
    "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase",
)  # fmt: skip
# Tokens that the metrics leave out, as in the COCO evaluation.
PUNCTUATION = frozenset("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split())


class JavaError(Exception):
    """Report a Java program that does not work here; str() is one line."""


def have_java() -> bool:
    """Return whether there is a Java, which may still fail."""
    return shutil.which("java") is not None


def ptb_words(lines: Sequence[str]) -> list[str]:
    """Return each line as the Penn Treebank tokenizer's words, joined by single spaces, without punctuation.

    lines: without any character that Java takes for a line end.

    Raises JavaError.
    """
    try:
        done = subprocess.run(TOKENIZER, input="\n".join([*lines, ""]).encode(), capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise JavaError(f"the tokenizer: {error}") from None
    found = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if len(found) != len(lines):
        raise JavaError(f"the tokenizer gave {len(found)} lines for {len(lines)}")
    return [" ".join(word for word in line.split() if word not in PUNCTUATION) for line in found]


def meteor_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """Return METEOR of all captions together, and of each, 0 to 1.

    captions: tokenized, one per photo.
    references: people's captions per photo, tokenized.

    Raises JavaError.
    """
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            METEOR, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
        )
    except OSError as error:
        raise JavaError(f"METEOR: {error}") from None
    given, found = process.stdin, process.stdout
    assert given is not None
    assert found is not None

    def ask(line: str) -> str:
        given.write(f"{line}\n")
        given.flush()
        return found.readline().strip()

    try:
        statistics = [
            ask(" ||| ".join(["SCORE", *(text.replace("|||", "") for text in (*several, caption))]))
            for caption, several in zip(captions, references, strict=True)
        ]
        each = [float(ask(" ||| ".join(["EVAL", *statistics])))]
        each += [float(found.readline()) for _ in captions]
    except (OSError, ValueError) as error:
        raise JavaError(f"METEOR: {error}") from None
    finally:  # even Ctrl-C must not leave it behind
        process.kill()
        process.wait()
        for stream in (found, given):
            with contextlib.suppress(OSError):  # what nobody took
                stream.close()
    return each.pop(), each
