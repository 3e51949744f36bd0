"""A checkpoint as ONNX graphs with weights, for other programs: a browser, a phone, another language."""

from __future__ import annotations

import json
from pathlib import Path

from capcli.checkpoints.store import VOCABULARY_FILE, Checkpoint
from capcli.engines.agreement_graphs import compared_sentences
from capcli.engines.graph import OPSET
from capcli.engines.onnx import make_graphs
from capcli.engines.runtime import onnxruntime
from capcli.files import write_together
from capcli.model.vocabulary import END, PAD, START

START_FILE, STEP_FILE, SENTENCES_FILE, README_FILE = "start.onnx", "step.onnx", "sentences.onnx", "README.md"
FILES = (START_FILE, STEP_FILE, SENTENCES_FILE, VOCABULARY_FILE, README_FILE)  # at most
README = """\
# A capcli captioner in ONNX

Graphs with their weights, for ONNX Runtime or anything else that runs ONNX (opset {opset}): `start.onnx` looks at
photos, `step.onnx` goes one word further. Encoder {encoder}, decoder {decoder}.

## start.onnx

{start}

`pixels` are RGB from 0 to 255, the whole upright photo squashed to {size}×{size} (bicubic, with antialiasing).

## step.onnx

{step}

`words` are the numbers of the previous words, {begin} (`<start>`) at first; `hidden` and `cell` are the last step's
`new_hidden` and `new_cell`, the rest is as `start.onnx` gave it. `log_probs` are natural log-probabilities of the next
word; {end} (`<end>`) ends the sentence. `beams` is the number of hypotheses for each photo, 1 for greedy search.
{seen}
{compared}## vocabulary.json

Word number i is the i-th, counted from 0. A word that begins with an apostrophe belongs to the word before it.

## Greedy search in Python

```python
{example}```

capcli itself keeps {beam} hypotheses, stops after {max_length} words, and ranks sentences by the sum of their
log-probabilities divided by nᵅ, where n counts the words and `<end>`, and α is {length_penalty:g}.{ranked}
"""
COMPARED = """\
## sentences.onnx

{sentences}

`words` are sentences without `<start>` and `<end>`, filled up with {pad} (`<pad>`). The product of a row with
the `photo` that `start.onnx` gave is how well the sentence agrees with the photo, from −1 to 1.

"""
RANKED = """ To that it
adds {agreement:g} times the sentence's agreement with the photo, and takes {restraint:g} from it for each content word,
ten times that for one that comes again."""
SEEN = """
`weights` are where the model looked for the word that `log_probs` are of, over a grid of {rows}×{columns} cells, row
by row; `gate` is how much that counted, 0 to 1 (Xu et al. 2015, §4.2.1).
"""
EXAMPLE = """\
import json
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # or ONNX Runtime reports its use to its makers
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

words = json.load(open("vocabulary.json", encoding="utf-8"))
start, step = (onnxruntime.InferenceSession(name) for name in ("start.onnx", "step.onnx"))
photo = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB").resize(({size}, {size}), Image.BICUBIC)
hidden, cell, *memory = start.run(None, {{"pixels": np.asarray(photo)[None]}})
names = [entry.name for entry in step.get_inputs()]
sentence, word = [], {begin}
while word != {end} and len(sentence) < {max_length}:
    inputs = [np.full((1, 1), word), hidden, cell, *memory]
    log_probs, hidden, cell, *looked = step.run(None, dict(zip(names, inputs)))
    word = int(log_probs[0, 0].argmax())
    sentence += [words[word]] if word != {end} else []
print(" ".join(sentence).replace(" '", "'"))
"""


def export(checkpoint: Checkpoint, folder: Path) -> list[str]:
    """Write a checkpoint's graphs, words and a README of inputs and outputs; all or none. Returns the file names.

    folder: made if missing.

    Raises OSError.
    """
    config, words = checkpoint.config, checkpoint.vocabulary.words
    graphs = make_graphs(config, checkpoint.vocabulary)
    start, step = (graph.as_bytes(checkpoint.tensors) for graph in (graphs.start(), graphs.step()))
    facts = {"size": config.image_size, "begin": START, "end": END, **config.decoding}
    contents = {START_FILE: start, STEP_FILE: step}
    compared = ranked = ""
    if config.agreement_size is not None:
        graph = compared_sentences(config, config.words_before or len(words)).as_bytes(checkpoint.tensors)
        contents[SENTENCES_FILE] = graph
        compared, ranked = COMPARED.format(sentences=as_table(graph), pad=PAD), RANKED.format(**facts)
    seen = SEEN.format(rows=config.grid[0], columns=config.grid[1]) if config.decoder_kind.attends else ""
    text = README.format(
        opset=OPSET,
        encoder=config.encoder,
        decoder=config.decoder,
        start=as_table(start),
        step=as_table(step),
        seen=seen,
        compared=compared,
        ranked=ranked,
        example=EXAMPLE.format(**facts),
        **facts,
    )
    folder.mkdir(parents=True, exist_ok=True)
    listed = json.dumps(words, ensure_ascii=False)
    contents |= {VOCABULARY_FILE: listed.encode(), README_FILE: text.encode()}
    write_together({folder / name: content for name, content in contents.items()})
    return list(contents)


def as_table(graph: bytes) -> str:
    """Return a graph's inputs and outputs, read by ONNX Runtime, as a Markdown table."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rows = ["| | name | type | shape |", "|---|---|---|---|"]
    for kind, entries in (("input", session.get_inputs()), ("output", session.get_outputs())):
        for entry in entries:
            shape = ", ".join(map(str, entry.shape))
            rows.append(f"| {kind} | `{entry.name}` | {entry.type.removeprefix('tensor(').rstrip(')')} | {shape} |")
    return "\n".join(rows)
