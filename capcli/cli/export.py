"""`capcli export`: a checkpoint as ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from capcli.cli.folders import require_vacant
from capcli.cli.messages import fail


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Checkpoint folder, USER/NAME on the Hugging Face Hub, or bundled."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Write the files into this folder.")],
) -> None:
    """Export a checkpoint as ONNX graphs, for other programs.

    Writes start.onnx, which looks at photos, step.onnx, which adds a word, sentences.onnx, which tells how well
    sentences agree with a photo (if the checkpoint has learnt that), vocabulary.json, and a README.md of inputs and
    outputs with an example. The graphs hold their weights, and run in a browser (ONNX Runtime Web), on a phone, or in
    any language that ONNX Runtime supports.
    """
    from capcli.checkpoints.hub import find_checkpoint
    from capcli.checkpoints.store import ModelError, read_checkpoint
    from capcli.engines.export import FILES
    from capcli.engines.export import export as write_graphs
    from capcli.engines.onnx import tensor_shapes
    from capcli.files import OutputError

    require_vacant(output, FILES)
    try:
        written = write_graphs(read_checkpoint(find_checkpoint(checkpoint), tensor_shapes), output)
    except (ModelError, ValueError) as error:  # a network that has no graph
        fail(error)
    except OSError as error:
        fail(OutputError(error.filename or output, error), 1)
    for name in written:
        typer.echo(output / name)
