"""`capcli train`: training of a captioner on photos with captions."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from capcli.cli.learning import failures_told, is_left_over, require_room, typed_command
from capcli.cli.messages import fail, show_lines
from capcli.cli.options import AllowOutside, Changes, Device, Running, TensorBoard, grouped
from capcli.cli.signals import Stop
from capcli.training.learning.options import RUN, TrainOptions

if TYPE_CHECKING:
    import torch

    from capcli.training.learning.ranks import Ranks

MORE = "Any other setting, as a recipe names it"
RECIPE = ".toml"


@grouped
def train(
    settings: Annotated[dict[str, Any], Changes(TrainOptions, MORE, "--init's, otherwise ours", RUN)],
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA",
            help="JSON file, folder with one, or one for each split; COCO, Flickr8k, Flickr30k; WebDataset, Parquet; "
            "or what capcli writes: JSONL, CSV or TSV, ImageFolder, a folder of photos with sidecars; DATA=2 counts it "
            "twice. Or a recipe, FILE.toml.",
        ),
    ],
    output: Annotated[
        Path, Running("--output", "-o", metavar="RUN", help="Keep checkpoints and the log in this folder.")
    ],
    resume: Annotated[bool, Running("--resume", help="Continue RUN after its last finished epoch.")] = False,
    init: Annotated[
        str | None,
        Running(
            metavar="MODEL",
            help="Start from this checkpoint, a folder or bundled, with its architecture, vocabulary and decoding.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    feature_cache: Annotated[
        Path | None,
        Running(metavar="FOLDER", help="Keep encoded photos here, for other runs too; not used with --fine-tune."),
    ] = None,
    tensorboard: TensorBoard = False,
    allow_outside: AllowOutside = False,
    dry_run: Annotated[
        bool,
        Running(
            "--dry-run", help="Measure what a run will take, or list a recipe's stages with the time they once took."
        ),
    ] = False,
) -> None:
    """Train a captioner on photos with captions.

    A JSON file of DATA is COCO's, its own or in Karpathy's form, or a list, beside the photos or their folder images/:
    [{"file_path": "a.jpg", "captions": ["a cat", …]}, …] or [{"image": "a.jpg", "caption": "a cat"}, …]. If no
    photo names its split, one in twenty is held out as dev.

    RUN gets the checkpoint with the best CIDEr on dev photos, averaged over the data sets, ready for
    `capcli caption --model RUN`; a line per epoch in log.jsonl; curves.html, a page to follow the run; and what
    --resume needs, after each epoch. Without --fine-tune the encoder keeps its weights: photos are encoded once, and an
    epoch trains the decoder only.

    `capcli train recipe.toml --output RUN` runs the recipe's stages one after another. If it was stopped, the same
    command continues it.
    """
    from capcli.cli.process import set_up_process

    set_up_process()
    run = Training(output, resume, device, feature_cache, tensorboard)
    recipe = recipe_in(data, [*settings, *([init] if init else [])])
    with failures_told(run.stop):
        if recipe is None:
            run.train(settings | {"data": tuple(data), "allow_outside": allow_outside}, init, dry_run)
        elif dry_run:
            show_stages(recipe, output)
        else:
            run.follow(recipe)


def recipe_in(data: list[str], others: list[str]) -> Path | None:
    """Return the recipe among the arguments, if any, or exit with a line about what cannot be beside it.

    others: settings and options that only a training without a recipe takes.
    """
    if not (data[0].endswith(RECIPE) and Path(data[0]).is_file()):
        return None
    for other in [*data[1:], *others]:
        fail(f"{data[0]}: a recipe holds all data and settings; {other} cannot come beside it")
    return Path(data[0])


@dataclass
class Training:
    """Hold a run's folder and options; `ranks` is set once torchrun's processes have met."""

    output: Path
    resume: bool
    device: str
    cache: Path | None
    tensorboard: bool
    ranks: Ranks | None = None

    def stop(self, message: object, status: int = 2) -> NoReturn:
        """Exit; of torchrun's processes, the first to fail says why."""
        if self.ranks and self.ranks.count > 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from torchrun, to the rest
        if self.ranks is None or self.ranks.first_to_fail():
            fail(message, status)
        raise typer.Exit(status)

    def train(self, settings: dict[str, Any], init: str | None, dry_run: bool = False) -> None:
        """Train once. settings: of TrainOptions, by name; init: the checkpoint to begin with."""
        from capcli.checkpoints.hub import find_checkpoint
        from capcli.training.learning.loop import train
        from capcli.training.learning.rehearsal import rehearse

        with self.together() as (place, ranks):
            self.check_folder(None if init is None else find_checkpoint(init))
            options = TrainOptions(**settings, init=init)
            if dry_run:
                for line in rehearse(options, self.output, place, self.cache):
                    show_lines(line)
                return
            command = self.command(ranks)
            with self.locked(ranks):
                train(options, self.output, place, self.cache, self.resume, command, self.tensorboard, ranks)

    def follow(self, recipe: Path) -> None:
        from capcli.training.recipes import follow

        with self.together() as (place, ranks), self.locked(ranks):
            follow(recipe, self.output, place, self.cache, self.command(ranks), ranks)

    @contextmanager
    def together(self) -> Iterator[tuple[torch.device, Ranks]]:
        """Yield a run's device and its processes, joined, for a `with` block; exit with status 1 if one is lost."""
        from capcli.engines.torch import choose_device
        from capcli.training.learning.ranks import RankLost, Ranks

        try:
            self.ranks = Ranks.started()
            with self.ranks.meet(choose_device(self.device)) as place:
                yield place, self.ranks
        except RankLost as lost:
            self.stop(lost, 1)
        except Stop as asked:
            if self.ranks and not self.ranks.first_to_fail():
                raise SystemExit(asked.code) from None
            raise

    def locked(self, ranks: Ranks) -> AbstractContextManager[object]:
        """Return a context that locks the folder against other runs."""
        from capcli.files import LockedFolder

        return closing(LockedFolder(self.output)) if ranks.leads else nullcontext()

    def command(self, ranks: Ranks) -> str | None:
        """Return the command line, for the model card."""
        begin = ["torchrun", f"--nproc-per-node={ranks.count}", "-m"] if ranks.count > 1 else []
        return typed_command("train", *begin)

    def check_folder(self, init: Path | None) -> None:
        """Stop with a line if the folder is not for this run. init: the checkpoint to begin with."""
        from capcli.checkpoints.store import MEMORY_FILE, WEIGHTS_FILE
        from capcli.training.learning.snapshot import LAST_FILE, LOG_FILE
        from capcli.training.watching.watching import PAGE_FILE

        def holds(*names: str) -> bool:
            return any((self.output / name).exists() for name in names)

        if not self.resume and holds(LAST_FILE, WEIGHTS_FILE):
            self.stop(f"{self.output}: holds a run; continue it with --resume, or name another folder")
        if init is not None and self.output.resolve() == init.resolve():
            self.stop(f"{self.output}: is the checkpoint of --init; name another folder")
        if holds(WEIGHTS_FILE) and not holds(LAST_FILE, LOG_FILE):
            self.stop(f"{self.output}: holds a checkpoint, but no run that could be resumed; name another folder")
        if not (self.resume and (holds(LAST_FILE) or is_left_over(self.output / LOG_FILE))):
            require_room(self.output, [MEMORY_FILE, PAGE_FILE, LOG_FILE], self.stop)


def show_stages(recipe: Path, folder: Path) -> None:
    from capcli.training.recipes import describe, read_recipe

    for line in describe(read_recipe(recipe), folder):
        show_lines(line)
