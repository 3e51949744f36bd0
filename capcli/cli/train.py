"""`capcli train`: training of a captioner on photos with captions."""

from __future__ import annotations

import signal
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from capcli.cli.learning import failures_told, is_left_over, require_room, typed_command
from capcli.cli.messages import fail
from capcli.cli.options import AllowOutside, Device, TensorBoard, finite, one_of
from capcli.cli.signals import Stop
from capcli.model.config import DECODERS, ENCODERS

if TYPE_CHECKING:
    from capcli.training.ranks import Ranks


def train(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA",
            help="JSON file, folder with one, or one for each split; COCO, Flickr8k, Flickr30k; or what capcli "
            "writes: JSONL, CSV or TSV, ImageFolder, a folder of photos with sidecars; DATA=2 counts it twice.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="RUN", help="Keep checkpoints and the log in this folder.")
    ],
    resume: Annotated[bool, typer.Option(help="Continue RUN after its last finished epoch.")] = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start from this checkpoint, with its architecture, vocabulary and decoding; bundled "
            "is the one that came with capcli.",
        ),
    ] = None,
    self_critical: Annotated[
        bool,
        typer.Option("--self-critical", help="Reward sampled captions by CIDEr-D (Rennie et al. 2017); needs --init."),
    ] = False,
    device: Device = "auto",
    precision: Annotated[
        str,
        one_of(("auto", "fp32", "bf16"), "Number format to compute in; auto chooses as `capcli caption` does."),
    ] = "auto",
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="Go through the photos N times.")] = 10,
    captions_per_batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Captions per batch, up to five of a photo.")
    ] = 160,
    learning_rate: Annotated[
        float, typer.Option(metavar="RATE", callback=finite, help="Peak learning rate of the decoder.")
    ] = 1e-3,
    weight_decay: Annotated[
        float, typer.Option(metavar="DECAY", callback=finite, help="Weight decay of AdamW.")
    ] = 0.01,
    average: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.99999,
            metavar="DECAY",
            callback=finite,
            help="Measure and save a moving average of the weights, with this decay.",
        ),
    ] = 0.0,
    init_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            callback=finite,
            help="Share of --init's weights in the result, so that what they knew is not forgotten.",
        ),
    ] = 0.0,
    encoder: Annotated[
        str | None,
        one_of(
            ENCODERS,
            f"{', '.join(ENCODERS)}; all but the first are torchvision's.  [default: efficientnet_lite2]",
            metavar="NAME",
        ),
    ] = None,
    encoder_stride: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Side of a grid cell; efficientnet_lite2 has 32 (7×7 cells at 224 px) and 16."
        ),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="State dict of torchvision's network, instead of downloading the ImageNet one."
        ),
    ] = None,
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="Train the encoder too, on new crops in every epoch.")
    ] = False,
    encoder_learning_rate: Annotated[
        float,
        typer.Option(metavar="RATE", callback=finite, help="With --fine-tune: peak learning rate of the encoder."),
    ] = 5e-5,
    frozen_blocks: Annotated[
        int,
        typer.Option(min=0, help="With --fine-tune: leave the encoder's first N blocks as they are.", metavar="N"),
    ] = 0,
    decoder: Annotated[
        str | None,
        one_of(DECODERS, "How the image enters the LSTM.  [default: soft]"),
    ] = None,
    refine: Annotated[
        bool | None,
        typer.Option(
            "--refine/--no-refine",
            help="With attention: a layer of self-attention lets annotation vectors see each other first.  "
            "[default: --init's, otherwise no-refine]",
        ),
    ] = None,
    feed_previous_word: Annotated[
        bool | None,
        typer.Option(
            "--feed-previous-word/--no-feed-previous-word",
            help="Feed the previous word into the LSTM, or (for par-inject) the image alone.  [default: feed it]",
        ),
    ] = None,
    monte_carlo_samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="With hard attention: locations to draw per caption.")
    ] = 1,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=32,
            metavar="PIXELS",
            help="Side of the square that photos are squashed to.  [default: --init's, otherwise 224]",
        ),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Views of each photo: itself, mirrored, a crop, a mirrored crop, …; --fine-tune makes its own.",
        ),
    ] = 4,
    hidden_size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Size of the LSTM's state.  [default: 512]")
    ] = None,
    embedding_size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Size of the word embeddings.  [default: 512]")
    ] = None,
    attention_size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Size of attention's hidden layer.  [default: 512]")
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            metavar="P",
            callback=finite,
            help="Dropout probability in the decoder.  [default: --init's, otherwise 0.5]",
        ),
    ] = None,
    label_smoothing: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="EPSILON", callback=finite, help="ε of label smoothing (Szegedy et al. 2016, §7)."
        ),
    ] = 0.1,
    attention_regularization: Annotated[
        float,
        typer.Option(
            min=0, metavar="LAMBDA", callback=finite, help="λ of doubly stochastic attention (Xu et al. 2015)."
        ),
    ] = 0.0,
    attention_boxes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Teach attention where people are; boxes as `capcli evaluate --pointing` takes them."
        ),
    ] = None,
    min_count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Learn only words seen at least N times.  [default: 4]")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop after N words.  [default: --init's, otherwise 20]"),
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Width of the beam search, in sentences.  [default: --init's, otherwise 3]"
        ),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(
            min=-10,
            max=10,
            metavar="ALPHA",
            callback=finite,
            help="α in log_prob / nᵅ, which ranks captions.  [default: --init's, otherwise 1]",
        ),
    ] = None,
    no_repeat: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Never repeat a sequence of N words; 0 allows repeats.  [default: --init's, otherwise 0]",
        ),
    ] = None,
    no_echo: Annotated[
        bool | None,
        typer.Option(
            "--no-echo/--echo",
            help='Never say "red red" or "red and red", or allow it.  [default: --init\'s, otherwise never]',
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of initial weights, batches and dropout.")] = 1,
    feature_cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep encoded photos here, for other runs too; not used with --fine-tune."),
    ] = None,
    tensorboard: TensorBoard = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Train a captioner on photos with captions.

    A JSON file of DATA is COCO's, its own or in Karpathy's form, or a list, beside the photos or their folder images/:
    [{"file_path": "a.jpg", "captions": ["a cat", …]}, …] or [{"image": "a.jpg", "caption": "a cat"}, …]. One photo in
    twenty is held out as dev where none names its split.

    RUN receives the checkpoint with the best CIDEr on dev photos, averaged over the data sets, ready for
    `capcli caption --model RUN`; a line per epoch in log.jsonl, and curves.html to watch it by; and after each epoch,
    what --resume needs. Without --fine-tune the encoder keeps its weights: photos are encoded once, and an epoch trains
    the decoder only.
    """
    values = dict(locals())
    import dataclasses

    from capcli.cli.process import set_up_process
    from capcli.engines.torch import choose_device
    from capcli.files import LockedFolder

    set_up_process()
    ranks: Ranks | None = None

    def stop(message: object, status: int = 2) -> NoReturn:
        """Exit; of the processes that torchrun started, the first one that fails says why."""
        if ranks and ranks.count > 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, to those that are left
        if ranks is None or ranks.first_to_fail():
            fail(message, status)
        raise typer.Exit(status)

    with failures_told(stop):
        from capcli.checkpoints.hub import find_checkpoint
        from capcli.checkpoints.store import MEMORY_FILE, WEIGHTS_FILE
        from capcli.training.loop import train as train_captioner
        from capcli.training.options import TrainOptions
        from capcli.training.ranks import RankLost, Ranks
        from capcli.training.snapshot import LAST_FILE, LOG_FILE
        from capcli.training.watching import PAGE_FILE

        try:
            ranks = Ranks.started()
            if not resume and any((output / name).exists() for name in (LAST_FILE, WEIGHTS_FILE)):
                stop(f"{output}: holds a run; continue it with --resume, or name another folder")
            if init is not None and output.resolve() == find_checkpoint(init).resolve():
                stop(f"{output}: is the checkpoint of --init; name another folder")
            if (output / WEIGHTS_FILE).exists() and not any((output / name).exists() for name in (LAST_FILE, LOG_FILE)):
                stop(f"{output}: holds a checkpoint, but no run that could be resumed; name another folder")
            if not (resume and ((output / LAST_FILE).exists() or is_left_over(output / LOG_FILE))):
                require_room(output, [MEMORY_FILE, PAGE_FILE, LOG_FILE], stop)
            values["data"] = tuple(data)
            names = {field.name for field in dataclasses.fields(TrainOptions)}
            options = TrainOptions(**{name: value for name, value in values.items() if name in names})
            begin = ["torchrun", f"--nproc-per-node={ranks.count}", "-m"] if ranks.count > 1 else []
            with ExitStack() as stack:
                place = stack.enter_context(ranks.meet(choose_device(device)))
                if ranks.leads:
                    stack.enter_context(closing(LockedFolder(output)))
                train_captioner(
                    options, output, place, feature_cache, resume, typed_command("train", *begin), tensorboard, ranks
                )
        except RankLost as lost:
            stop(lost, 1)
        except Stop as asked:
            if ranks and not ranks.first_to_fail():
                raise SystemExit(asked.code) from None
            raise
