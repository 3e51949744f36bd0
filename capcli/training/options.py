"""What fixes a training run's result."""

from __future__ import annotations

from dataclasses import dataclass

MIN_COUNT = 4
LIMITS: dict[str, tuple[float, float]] = {
    "learning_rate": (1e-9, 10),
    "encoder_learning_rate": (1e-9, 10),
    "weight_decay": (0, 100),
    "average": (0, 0.99999),
    "init_share": (0, 1),
    "label_smoothing": (0, 1),
    "attention_regularization": (0, 1000),
    "seed": (0, 2**32 - 1),
}
# The shapes and the words of a checkpoint.
FIXED_BY_INIT = (
    "encoder encoder_stride encoder_weights decoder feed_previous_word hidden_size embedding_size attention_size "
    "min_count"
).split()


@dataclass(frozen=True)
class TrainOptions:
    """What fixes a run's result, and so has to be the same when it is resumed.

    data: arguments of `read_data_set`. captions_per_batch: captions, not photos. views: how many views of each photo
    (itself, mirrored, crops) are encoded. min_count: how often a word must occur to be learnt. init: a checkpoint
    folder to begin from, whose architecture and words stay. self_critical: reward sampled captions by CIDEr-D instead
    of predicting people's words. average: decay of the moving average of the weights, which is what is measured and
    kept; 0 is none. init_share: what the weights that the run begins with weigh in those that are measured and kept.
    encoder_weights: a torchvision state dict in place of the one that is downloaded. fine_tune: also train the encoder,
    on ever new crops, but for its first frozen_blocks. attention_boxes: a file that says where people are on some
    photos, for attention to learn. monte_carlo_samples: locations drawn for each caption while hard attention trains.
    precision: the number format as `choose_training_precision` takes it; a run records what came of auto.
    None elsewhere is what init has, else ModelConfig's default or MIN_COUNT; init takes none of FIXED_BY_INIT.
    """

    data: tuple[str, ...]
    init: str | None = None
    self_critical: bool = False
    epochs: int = 10
    captions_per_batch: int = 160
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    average: float = 0.0
    init_share: float = 0.0
    encoder: str | None = None
    encoder_stride: int | None = None
    encoder_weights: str | None = None
    fine_tune: bool = False
    encoder_learning_rate: float = 5e-5
    frozen_blocks: int = 0
    decoder: str | None = None
    feed_previous_word: bool | None = None
    monte_carlo_samples: int = 1
    image_size: int | None = None
    views: int = 4
    hidden_size: int | None = None
    embedding_size: int | None = None
    attention_size: int | None = None
    dropout: float | None = None
    label_smoothing: float = 0.1
    attention_regularization: float = 0.0
    attention_boxes: str | None = None
    min_count: int | None = None
    max_length: int | None = None
    beam: int | None = None
    length_penalty: float | None = None
    no_repeat: int | None = None
    precision: str = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for what is out of range, and for what makes no sense with a checkpoint to begin from, or
        without one.
        """
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:  # as no comparison with nan is
                raise ValueError(f"--{name.replace('_', '-')} {value}: not between {low:g} and {high:g}")
        if not self.init and (self.self_critical or self.init_share):
            raise ValueError("--self-critical and --init-share need --init, a checkpoint to begin from")
        fixed = [name for name in FIXED_BY_INIT if getattr(self, name) is not None]
        if self.init and fixed:
            raise ValueError(f"--{fixed[0].replace('_', '-')} is what the checkpoint of --init has: leave it out")
