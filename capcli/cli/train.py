"""`capcli train`: a checkpoint from photos with captions."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from capcli.cli.messages import fail
from capcli.cli.options import (
    Device,
    finite,
)


def train(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA",
            help="Folder in the Flickr8k layout, folder with a JSON file, or JSON file; DATA=2 counts it twice.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="RUN", help="Keep checkpoints and the log in this folder.")
    ],
    resume: Annotated[bool, typer.Option(help="Go on after the last finished epoch of RUN.")] = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Begin with this checkpoint: its architecture, its words and its decoding."
        ),
    ] = None,
    self_critical: Annotated[
        bool,
        typer.Option("--self-critical", help="Reward sampled captions by CIDEr-D (Rennie et al. 2017); needs --init."),
    ] = False,
    device: Device = "auto",
    precision: Annotated[
        str,
        typer.Option(metavar="auto|fp32|bf16", help="Compute in this number format, chosen as `capcli caption` does."),
    ] = "auto",
    epochs: Annotated[int, typer.Option(min=1, help="Show every photo this often.")] = 10,
    captions_per_batch: Annotated[int, typer.Option(min=1, help="Captions in a batch, up to five per photo.")] = 160,
    learning_rate: Annotated[float, typer.Option(callback=finite, help="The decoder's, at its highest.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(callback=finite, help="Of AdamW.")] = 0.01,
    average: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.99999,
            callback=finite,
            help="Keep a moving average of the weights with this decay, and use it in their place.",
        ),
    ] = 0.0,
    init_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            callback=finite,
            help="Mix --init's weights into the result with this share, so that what they knew is kept.",
        ),
    ] = 0.0,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="efficientnet_lite2, or from torchvision vgg16, resnet50, resnet101, mobilenet_v3_large, "
            "convnext_tiny.  [default: efficientnet_lite2]"
        ),
    ] = None,
    encoder_stride: Annotated[
        int | None, typer.Option(help="Pixels per grid cell; efficientnet_lite2 has 32 (7×7 cells at 224 px) and 16.")
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="State dict of torchvision's network, instead of downloading ImageNet's."),
    ] = None,
    fine_tune: Annotated[bool, typer.Option("--fine-tune", help="Train the encoder too, on ever new crops.")] = False,
    encoder_learning_rate: Annotated[
        float, typer.Option(callback=finite, help="With --fine-tune: the encoder's.")
    ] = 5e-5,
    frozen_blocks: Annotated[
        int,
        typer.Option(
            min=0, help="With --fine-tune: leave the first N of the encoder's blocks as they are.", metavar="N"
        ),
    ] = 0,
    decoder: Annotated[
        str | None,
        typer.Option(
            metavar="pre-inject|par-inject|soft|hard", help="Let the image enter the LSTM this way.  [default: soft]"
        ),
    ] = None,
    feed_previous_word: Annotated[
        bool | None,
        typer.Option(
            "--feed-previous-word/--no-feed-previous-word",
            help="Feed the LSTM the previous word; the lecture notes have par-inject without.  [default: feed it]",
        ),
    ] = None,
    monte_carlo_samples: Annotated[
        int, typer.Option(min=1, help="With hard attention: locations drawn per caption.")
    ] = 1,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Squash photos to a square of this side, in pixels.  [default: --init's, otherwise 224]",
        ),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            min=1, help="Views of each photo: itself, mirrored, a crop, a mirrored crop, …; --fine-tune has its own."
        ),
    ] = 4,
    hidden_size: Annotated[int | None, typer.Option(min=1, help="Channels of the LSTM.  [default: 512]")] = None,
    embedding_size: Annotated[int | None, typer.Option(min=1, help="Channels of an embedding.  [default: 512]")] = None,
    attention_size: Annotated[
        int | None, typer.Option(min=1, help="Channels of the attention MLP.  [default: 512]")
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            callback=finite,
            help="Probability of dropout in the decoder.  [default: --init's, otherwise 0.5]",
        ),
    ] = None,
    label_smoothing: Annotated[
        float, typer.Option(min=0, max=1, callback=finite, help="Szegedy et al. 2016, §7.")
    ] = 0.1,
    attention_regularization: Annotated[
        float,
        typer.Option(min=0, callback=finite, help="λ of doubly stochastic attention (Xu et al. 2015)."),
    ] = 0.0,
    attention_boxes: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Teach attention where people are; boxes as `evaluate --pointing` has them."),
    ] = None,
    min_count: Annotated[
        int | None, typer.Option(min=1, help="Learn only words seen at least this often.  [default: 4]")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Words in a caption at most.  [default: --init's, otherwise 20]")
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(min=1, help="Sentences kept while searching.  [default: --init's, otherwise 3]"),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(
            min=-10,
            max=10,
            callback=finite,
            help="α in score = log_prob / nᵅ.  [default: --init's, otherwise 1]",
        ),
    ] = None,
    no_repeat: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Never say the same N words in a row twice; 0 allows it.  [default: --init's, otherwise 0]",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draw initial weights, batches and dropout from this.")] = 1,
    feature_cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep encoded photos here, for other runs too; not with --fine-tune."),
    ] = None,
) -> None:
    """Train a captioner on photos with captions.

    Without --fine-tune the encoder stays as ImageNet left it. RUN gets the best checkpoint by dev CIDEr (a mean over
    the data sets' dev photos), ready for `capcli caption --model RUN`, a line per epoch in log.jsonl, and after each
    epoch what --resume needs.
    """
    values = dict(locals())
    import dataclasses
    import shlex

    from capcli.cli.process import own_process
    from capcli.engines.torch import choose_device
    from capcli.files import LockedFolder, OutputError
    from capcli.results import ImageError

    own_process()
    try:
        from capcli.checkpoints.store import WEIGHTS_FILE, ModelError
        from capcli.training.datasets import DataError
        from capcli.training.loop import train as train_captioner
        from capcli.training.options import TrainOptions
        from capcli.training.snapshot import LAST_FILE, LOG_FILE

        if not resume and any((output / name).exists() for name in (LAST_FILE, WEIGHTS_FILE)):
            fail(f"{output} holds a run; go on with --resume, or name another folder")
        if init is not None and output.resolve() == Path(init).resolve():
            fail(f"{output} is the checkpoint of --init; name another folder")
        if (output / WEIGHTS_FILE).exists() and not any((output / name).exists() for name in (LAST_FILE, LOG_FILE)):
            fail(f"{output} holds a checkpoint, but no run that could be resumed; name another folder")
        values["data"] = tuple(data)
        options = TrainOptions(**{field.name: values[field.name] for field in dataclasses.fields(TrainOptions)})
        command = shlex.join(["capcli", "train", *sys.argv[2:]]) if sys.argv[1:2] == ["train"] else None
        with closing(LockedFolder(output)):
            train_captioner(options, output, choose_device(device), feature_cache, resume, command)
    except ImportError as error:
        fail(f"training needs the extra packages: pip install 'capcli[train]' ({error})")
    except (DataError, ImageError, ModelError, ValueError) as error:
        fail(error)
    except OSError as error:
        fail(OutputError(error.filename, error) if error.filename else error)
