"""Options that determine a training run's result, and so must be the same when it is resumed."""

from __future__ import annotations

from dataclasses import dataclass

from capcli.model.config import DECODERS, ENCODERS, ModelConfig, TunedDecoding
from capcli.settings import check_ranges, check_types, same_setting, setting

MIN_COUNT = 4
MODEL, LEARN, RUN = "The model", "How to learn", "Running"  # panels of help
# Options fixed by --init's checkpoint: its shapes and vocabulary.
FIXED_BY_INIT = (
    "encoder encoder_stride encoder_layer encoder_weights decoder feed_previous_word hidden_size embedding_size "
    "attention_size min_count"
).split()


@dataclass(frozen=True)
class TrainOptions:
    """Hold a training run's options, each with its range and purpose.

    None means the value of init's checkpoint or, without init, ModelConfig's default.

    data: one `PATH` or `PATH=N` per data set, see `read_data_set`.
    init: folder of a checkpoint whose weights, architecture and vocabulary to begin from; None makes a new decoder.
    allow_outside: whether photos may lie outside their data set's folder; see `datasets.stay_below`.

    Raises ValueError for a wrong type, a value out of range, and options that need init or conflict with it.
    """

    data: tuple[str, ...]
    init: str | None = None
    limit: int | None = setting(
        None, "Use only N photos of each data set's splits, spread evenly, for a first try.", 1, 100_000_000
    )
    self_critical: bool = setting(
        False,
        "Reward sampled captions by CIDEr-D; needs --init (Rennie et al. 2017).",
        flags=("--self-critical",),
        panel=LEARN,
    )
    epochs: int = setting(10, "Go through the photos N times.", 1, 10_000, panel=RUN)
    patience: int | None = setting(
        None,
        "Stop after N epochs in which CIDEr on dev photos has not risen.",
        1,
        10_000,
        told="go on to the last epoch",
    )
    captions_per_batch: int = setting(160, "Captions per batch, up to five of a photo.", 1, 100_000)
    learning_rate: float = setting(1e-3, "Peak learning rate of the decoder.", 1e-9, 10, metavar="RATE", panel=LEARN)
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", 0, 100, metavar="DECAY")
    average: float = setting(
        0.0, "Measure and save a moving average of the weights, with this decay.", 0, 0.99999, metavar="DECAY"
    )
    init_share: float = setting(
        0.0, "Share of init's weights in the result, so that less is forgotten.", 0, 1, metavar="SHARE"
    )
    encoder: str | None = setting(
        None,
        f"{', '.join(ENCODERS)}; all but the first are torchvision's. Or timm/NAME, a network of timm's.",
        metavar="NAME",
        choices=tuple(ENCODERS),
        open_end="timm/",
        panel=MODEL,
        told=ModelConfig.encoder,
    )
    encoder_stride: int | None = setting(
        None,
        "Side of a grid cell; efficientnet_lite2 has 32 (7×7 cells at 224 px) and 16.",
        1,
        1024,
        metavar="PIXELS",
    )
    encoder_layer: int | None = setting(
        None,
        "Take this feature map of a network of timm's, or block of a ViT; −1 is the last.",
        -1000,
        1000,
        told="the last",
    )
    encoder_weights: str | None = setting(
        None,
        "Begin with the encoder of this checkpoint folder, with this state dict of the network, or random.",
        metavar="PATH",
        told="pretrained; downloaded for networks of torchvision and timm",
    )
    fine_tune: bool = setting(
        False, "Train the encoder too, on new crops in every epoch.", flags=("--fine-tune",), panel=LEARN
    )
    encoder_learning_rate: float = setting(
        5e-5, "With fine_tune: peak learning rate of the encoder.", 1e-9, 10, metavar="RATE"
    )
    frozen_blocks: int = setting(0, "With fine_tune: leave the encoder's first N blocks as they are.", 0, 1000)
    decoder: str | None = setting(
        None, "How the image enters the LSTM.", choices=tuple(DECODERS), told=ModelConfig.decoder, panel=MODEL
    )
    refine: bool | None = setting(
        None,
        "Let annotation vectors see each other first: a layer of self-attention; needs a decoder with attention.",
        flags=("--refine/--no-refine",),
        panel=MODEL,
        told="--init's, otherwise no-refine",
    )
    feed_previous_word: bool | None = setting(
        None,
        "Feed the previous word into the LSTM, or (for par-inject) the image alone.",
        told="true",
    )
    monte_carlo_samples: int = setting(1, "With hard attention: locations to draw per caption.", 1, 1000)
    image_size: int | None = same_setting(
        ModelConfig, "image_size", MODEL, f"--init's, otherwise {ModelConfig.image_size}"
    )
    views: int = setting(
        4,
        "Views of each photo: itself, mirrored, a crop, a mirrored crop, …; --fine-tune makes its own.",
        1,
        1000,
    )
    hidden_size: int | None = same_setting(ModelConfig, "hidden_size", told=str(ModelConfig.hidden_size))
    embedding_size: int | None = same_setting(ModelConfig, "embedding_size", told=str(ModelConfig.embedding_size))
    attention_size: int | None = same_setting(ModelConfig, "attention_size", told=str(ModelConfig.attention_size))
    dropout: float | None = same_setting(ModelConfig, "dropout", told=f"--init's, otherwise {ModelConfig.dropout}")
    label_smoothing: float = setting(0.1, "ε of label smoothing (Szegedy et al. 2016, §7).", 0, 1, metavar="EPSILON")
    attention_regularization: float = setting(
        0.0, "λ of doubly stochastic attention (Xu et al. 2015).", 0, 1000, metavar="LAMBDA"
    )
    attention_boxes: str | None = setting(
        None, "Teach attention where people are; FILE has boxes as for `capcli evaluate --pointing`.", metavar="FILE"
    )
    sentences: tuple[str, ...] = setting(
        (),
        "Text files, a sentence per line: each is read with the training photo whose captions are nearest.",
        several=True,
        metavar="FILE",
    )
    sentence_epochs: int = setting(1, "Spread the sentences over the first N epochs.", 1, 10_000)
    word_dropout: float = setting(
        0.0, "Probability that a previous word is read as <unk> while captions are taught.", 0, 0.99, metavar="P"
    )
    stray_penalty: float = setting(
        0.0,
        "With self_critical: reward lost for each content word that is in none of the photo's captions.",
        0,
        10,
        metavar="PENALTY",
    )
    min_count: int | None = setting(None, "Learn only words seen at least N times.", 1, 1_000_000, told=str(MIN_COUNT))
    max_length: int | None = same_setting(TunedDecoding, "max_length")
    beam: int | None = same_setting(TunedDecoding, "beam")
    length_penalty: float | None = same_setting(TunedDecoding, "length_penalty")
    no_repeat: int | None = same_setting(TunedDecoding, "no_repeat")
    no_echo: bool | None = same_setting(TunedDecoding, "no_echo")
    precision: str = setting(
        "auto",
        "Number format to compute in; auto chooses as `capcli caption` does.",
        choices=("auto", "fp32", "bf16"),
    )
    seed: int = setting(1, "Seed of initial weights, batches and dropout.", 0, 2**32 - 1, panel=RUN)
    allow_outside: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        check_ranges(self)
        if not self.init and (self.self_critical or self.init_share):
            raise ValueError("self_critical and init_share need --init, a checkpoint to start from")
        fixed = [name for name in FIXED_BY_INIT if getattr(self, name) is not None]
        if self.init and fixed:
            raise ValueError(f"{fixed[0]} is fixed by the checkpoint of --init: leave it out")
