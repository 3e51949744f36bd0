"""What fixes a training run's result, and so has to be the same when the run is resumed."""

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
    """Hold what a run is told.

    Where None is the default, and nothing else is said, None takes what the checkpoint of init has, or ModelConfig's
    default without one.

    data: data sets as `read_data_set` takes them, `PATH` or `PATH=N`.
    init: folder of a checkpoint to begin from, whose architecture and words stay; None begins with a new decoder.
    self_critical: reward captions that the decoder draws by CIDEr-D, instead of teaching people's; needs init.
    epochs: passes over the training photos, 1 or more.
    captions_per_batch: captions, not photos; 1 or more.
    learning_rate: the decoder's highest, 1e-9 to 10.
    weight_decay: AdamW's, 0 to 100.
    average: decay of a moving average of the weights, which is measured and kept in their place, 0 to 0.99999; 0 has
        none.
    init_share: what the weights of init weigh in those that are measured and kept, 0 to 1; needs init.
    encoder: a name in ENCODERS; not with init.
    encoder_stride: pixels per cell of the annotation grid; None takes the encoder's first; not with init.
    encoder_weights: a file with a state dict for the encoder; None downloads ImageNet's; not with init.
    fine_tune: train the encoder too, on crops that are new each epoch.
    encoder_learning_rate: the encoder's highest, with fine_tune, 1e-9 to 10.
    frozen_blocks: how many of the encoder's first blocks fine_tune leaves alone, 0 or more.
    decoder: a name in DECODERS; not with init.
    feed_previous_word: whether the previous word is an input of the decoder; not with init.
    monte_carlo_samples: locations drawn for each caption while hard attention trains, 1 or more.
    image_size: pixels; photos are squashed to a square of this side.
    views: how many views of each photo (itself, mirrored, crops) are encoded, 1 or more; not for fine_tune.
    hidden_size, embedding_size, attention_size: channels; not with init.
    dropout: probability, 0 to 0.99.
    label_smoothing: share of each word's probability that goes to all words alike, 0 to 1.
    attention_regularization: λ of doubly stochastic attention (Xu et al. 2015 §4.2.1), 0 to 1000.
    attention_boxes: a file as `read_boxes` takes it, of where people are, for attention to learn; None teaches none.
    min_count: how often a word must occur to be learnt, 1 or more; None is MIN_COUNT; not with init.
    max_length: words in a caption, 1 or more.
    beam: width of the beam on dev and in the checkpoint, 1 or more.
    length_penalty: α of the search on dev and in the checkpoint, −10 to 10.
    no_repeat: n-grams that may not come twice in a caption, on dev and in the checkpoint; 0 allows all.
    precision: number format as `choose_training_precision` takes it; a run records what came of auto.
    seed: of whatever is drawn at random, 0 to 2³² − 1.

    Raises ValueError for a value outside LIMITS, and for what makes no sense with a checkpoint to begin from, or
    without one.
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
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:  # as no comparison with nan is
                raise ValueError(f"--{name.replace('_', '-')} {value}: not between {low:g} and {high:g}")
        if not self.init and (self.self_critical or self.init_share):
            raise ValueError("--self-critical and --init-share need --init, a checkpoint to start from")
        fixed = [name for name in FIXED_BY_INIT if getattr(self, name) is not None]
        if self.init and fixed:
            raise ValueError(f"--{fixed[0].replace('_', '-')} is fixed by the checkpoint of --init: leave it out")
