"""The options that determine a training run's result, and so have to be the same when it is resumed."""

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
    "sentence_epochs": (1, 10_000),
    "word_dropout": (0, 0.99),
    "stray_penalty": (0, 10),
    "seed": (0, 2**32 - 1),
}
# Options that --init's checkpoint determines: its shapes and its vocabulary.
FIXED_BY_INIT = (
    "encoder encoder_stride encoder_weights decoder feed_previous_word hidden_size embedding_size attention_size "
    "min_count"
).split()


@dataclass(frozen=True)
class TrainOptions:
    """Hold the options of a training run.

    Unless said otherwise, None takes the value of init's checkpoint or, without init, ModelConfig's default.

    data: the data sets, each as `read_data_set` takes it, `PATH` or `PATH=N`.
    init: a checkpoint to begin from, as `find_checkpoint` takes it, whose architecture and vocabulary are kept; None
        begins with a new decoder.
    self_critical: whether to reward captions drawn from the decoder by their CIDEr-D, instead of teaching people's
        captions; needs init.
    epochs: passes over the training photos, 1 or more.
    captions_per_batch: the most captions (not photos) in a batch, 1 or more.
    learning_rate: the decoder's, at its peak, 1e-9 to 10.
    weight_decay: AdamW's, 0 to 100.
    average: decay of a moving average of the weights, which is measured and kept instead of them, 0 to 0.99999; 0
        keeps the weights themselves.
    init_share: the share of init's weights in those that are measured and kept, 0 to 1; needs init.
    encoder: a name in ENCODERS; not with init.
    encoder_stride: pixels per cell of the annotation grid; None takes the encoder's first stride; not with init.
    encoder_weights: a file with a state dict for the encoder, or the folder of a checkpoint whose encoder is taken;
        None takes ImageNet weights; not with init.
    fine_tune: whether to train the encoder too, on crops that are new in each epoch.
    encoder_learning_rate: the encoder's with fine_tune, at its peak, 1e-9 to 10.
    frozen_blocks: how many of the encoder's first blocks fine_tune leaves as they are, 0 or more.
    decoder: a name in DECODERS; not with init.
    refine: whether annotation vectors see each other first, see `refiner.Refiner`; init's decoder may get this layer
        now, and then begins as it was.
    feed_previous_word: whether the previous word is an input of the decoder; not with init.
    monte_carlo_samples: locations drawn for each word of a caption in training hard attention, 1 or more.
    image_size: the side in pixels of the square that photos are squashed to.
    views: views of each photo (itself, mirrored, crops) that are encoded, 1 or more; not used with fine_tune.
    hidden_size, embedding_size, attention_size: channels; not with init.
    dropout: probability, 0 to 0.99.
    label_smoothing: the share of each word's probability that is spread over all words, 0 to 1.
    attention_regularization: λ of doubly stochastic attention (Xu et al. 2015 §4.2.1), 0 to 1000.
    attention_boxes: a file as `read_boxes` takes it, with where people are, to teach attention; None teaches none.
    sentences: files of text, a sentence per line, each of which is read beside the training photo whose captions are
        nearest, as if it were one of its captions; see `pairing`.
    sentence_epochs: how many of the first epochs they are spread over, 1 or more.
    stray_penalty: what each content word that no caption of the photo holds takes from the reward of self_critical, 0
        to 10.
    word_dropout: probability that a previous word is read as `<unk>` while captions are taught, 0 to 0.99.
    min_count: how often a word has to occur to be learnt, 1 or more; None takes MIN_COUNT; not with init.
    max_length: the most words in a caption, 1 or more.
    beam, length_penalty, no_repeat, no_echo: the decoding on dev photos and of the checkpoint, see `BeamOptions`.
    precision: number format, as `choose_training_precision` takes it; a run records what auto has chosen.
    seed: of the random numbers, 0 to 2³² − 1.
    allow_outside: whether data may name photos outside its folders; the result does not depend on it.

    Raises ValueError for a value outside LIMITS, and for options that need init, or cannot be combined with it.
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
    refine: bool | None = None
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
    sentences: tuple[str, ...] = ()
    sentence_epochs: int = 1
    word_dropout: float = 0.0
    stray_penalty: float = 0.0
    min_count: int | None = None
    max_length: int | None = None
    beam: int | None = None
    length_penalty: float | None = None
    no_repeat: int | None = None
    no_echo: bool | None = None
    precision: str = "auto"
    seed: int = 1
    allow_outside: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:  # true of nan too, with which every comparison is false
                raise ValueError(f"--{name.replace('_', '-')} {value}: not between {low:g} and {high:g}")
        if not self.init and (self.self_critical or self.init_share):
            raise ValueError("--self-critical and --init-share need --init, a checkpoint to start from")
        fixed = [name for name in FIXED_BY_INIT if getattr(self, name) is not None]
        if self.init and fixed:
            raise ValueError(f"--{fixed[0].replace('_', '-')} is fixed by the checkpoint of --init: leave it out")
