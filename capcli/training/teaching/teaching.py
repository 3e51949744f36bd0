"""Teaching: a checkpoint learns a person's captions of some photos, and keeps what it knew of others."""

from __future__ import annotations

import copy
import dataclasses
import math
import random
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from capcli.captioner import candidates_of
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.card import made_with
from capcli.checkpoints.store import KINDS_FILE, MEMORY_FILE
from capcli.decoding.beam_search import beam_search
from capcli.decoding.options import BeamOptions
from capcli.engines.torch import as_arrays
from capcli.files import write_whole
from capcli.maps.shown import sentence
from capcli.model.config import ModelConfig
from capcli.model.decoders import Decoder
from capcli.model.encoders import Features
from capcli.model.taught import TaughtDecoder
from capcli.model.vocabulary import END, PAD, SPECIAL_WORDS, Vocabulary, tokenize
from capcli.progress import progress, stderr_console
from capcli.training.data.datasets import Batch, DataError, DataSet, Photo, behind_start, encode_captions, epoch_batches
from capcli.training.data.features import encode_views, is_mirrored
from capcli.training.learning.losses import caption_loss, summed_loss
from capcli.training.learning.self_critical import CiderD
from capcli.training.teaching.course import NOTHING_KEPT, Course
from capcli.training.teaching.memory import read_memory
from capcli.training.watching.watching import Sentence, Watcher

VIEWS = 2  # of each photo: itself and its mirror image
EPOCHS = 12  # at least
LEAST_STEPS = 84  # over all epochs: a few photos are shown more often
LEARNING_RATE = 3e-4
LABEL_SMOOTHING = 0.1
BATCH = 16  # captions taught at once
REPLAYED = 16  # remembered photos beside each batch
REPLAY_WEIGHT = 0.3
WARM_UP = 0.1  # share of the steps in which the learning rate rises
GRADIENT_NORM = 1.0
FOLDS = 3
SHARES = (0.6, 0.8, 1.0)  # of what was learnt; photos held out choose one, see `blend`
MANY = 100  # photos, from which all is kept: choosing, which chance may mislead, would cost more than it gains
MIN_COUNT = 2  # captions that must have a word for it to be learnt
FEWEST = 6  # photos, to hold some out in turn
SHOWN = 3
MEASURED = 3  # passes between measurements of the held-out loss, each of which takes a tenth of a pass
STRICTNESS = 3e-3  # of the gate's weights


@dataclass
class Lesson:
    """Hold what all learners share.

    before, old: the old decoder and its vocabulary.
    decoder, vocabulary: the same with new words, untrained.
    features: (photos × VIEWS, …), of taught photos, view by view.
    captions: their ids, see `encode_captions`.
    replay: features of remembered photos.
    sentences: (memory, 1, time) ids of their captions by the old decoder, from `<start>` on.
    targets: the same one step later.
    expected: (memory, 1, time, words), the old decoder's log-probabilities of every next word.
    """

    before: Decoder
    old: Vocabulary
    decoder: Decoder
    vocabulary: Vocabulary
    decoding: BeamOptions
    features: Features
    captions: list[list[tuple[list[int], ...]]]
    replay: Features
    sentences: Tensor
    targets: Tensor
    expected: Tensor
    seed: int
    config: ModelConfig


def teach(
    data_set: DataSet,
    init: Path,
    folder: Path,
    seed: int = 1,
    command: str | None = None,
    workers: int = 1,
) -> bool:
    """Write a checkpoint that has learnt a set's training photos, in float32 on the CPU; return whether it did.

    The taught decoder sits beside the old one, see `TaughtDecoder`. In learning, it is kept close to the old one's
    predictions for remembered photos. Photos held out in turn measure the gain, which is printed, and decide how much
    of what was learnt is kept, see `blend`: nothing, and no checkpoint is written, if they are described worse.
    folder/curves.html and folder/teaching.json show each pass.

    data_set: captioned by a person.
    init: folder of the checkpoint to begin from; one that was taught begins as what it was before.
    folder: of the new checkpoint.
    command: for the model card.
    workers: threads that learn side by side, 1 or more; each needs PyTorch to compute with one thread.

    Raises ModelError for a checkpoint without memory, DataError for fewer than two photos, ImageError and OSError.

    Source: Li & Hoiem 2016 (arXiv:1606.09282), for old predictions; Rebuffi et al. 2017 (arXiv:1611.07725), for
    remembered inputs.
    """
    console, started = stderr_console(), time.perf_counter()
    photos = data_set.split("train")
    if len(photos) < 2:
        raise DataError(f"{data_set.name}: one photo teaches nothing about others; correct two or more")
    folder.mkdir(parents=True, exist_ok=True)
    watcher = Watcher(folder, console)
    course = Course(folder.resolve().name, held_out=len(photos) >= FEWEST)
    course.tell(watcher)
    model = untaught(CaptionModel.load(init))
    remembered = {name: (init / name).read_bytes() for name in (MEMORY_FILE, KINDS_FILE) if (init / name).is_file()}
    memory = read_memory(init, model)
    model.decoder.requires_grad_(False)
    features = encode(console, model, photos)
    torch.manual_seed(seed)
    lesson = prepare(model, photos, features, memory, seed)
    announce(console, lesson, len(photos))
    near = separate(features.global_vector, memory.global_vector)
    course.passes = max(EPOCHS, math.ceil(LEAST_STEPS / math.ceil(len(photos) / BATCH)))
    order = random.Random(seed).sample(range(len(photos)), len(photos))
    folds = [order[i::FOLDS] for i in range(FOLDS)] if course.held_out else []
    taught, trial = learn_all(console, watcher, course, lesson, folds, workers)
    share = judge(console, course, lesson, photos, trial, folds) if folds else SHARES[0]
    course.kept, course.seconds = share > 0, time.perf_counter() - started
    if not course.kept:
        course.tell(watcher)
        console.print(f"capcli: {NOTHING_KEPT}", markup=False)
        return False
    taught = blend(lesson, taught, share)
    if not course.held_out:
        show_some(course, lesson, photos, taught)

    model.decoder, model.vocabulary = TaughtDecoder(lesson.before, taught, near), lesson.vocabulary
    captions = sum(len(photo.captions) for photo in photos)
    record = {
        "command": command,
        "made_with": made_with("cpu"),
        "data": [{"name": data_set.name, "photos": len(photos), "captions": captions}],
        "begun_from": model.config.training,
        "options": {"init": init.name, "epochs": course.passes, "share": share, "seed": seed},
    }
    usual = usual_agreement(model, lesson)
    model.config = dataclasses.replace(
        model.config, training=record, scores={}, words_before=len(lesson.old), usual_agreement=usual
    )
    for name, content in remembered.items():  # the next teaching needs them, and confidence
        write_whole(folder / name, content)
    model.save(folder, torch.float16)
    course.seconds = time.perf_counter() - started
    course.tell(watcher)
    place = shlex.quote(str(folder))
    console.print(f"taught in {course.seconds:.0f} s: capcli caption photos/ --model {place}", markup=False)
    return True


def announce(console: Console, lesson: Lesson, photos: int) -> None:
    """Print what is taught. photos: how many."""
    new = lesson.vocabulary.words[len(lesson.old) :]
    listed = f": {', '.join(new[:20])}{', …' if len(new) > 20 else ''}" if new else ""
    console.print(f"teaching {photos} photos and {len(new)} new words{listed}", markup=False)


def show_some(course: Course, lesson: Lesson, photos: list[Photo], taught: Decoder) -> None:
    """Show how some of the photos that were taught are described."""
    shown = list(range(min(SHOWN, len(photos))))
    before, after = look(lesson, lesson.before, lesson.old, shown), look(lesson, taught, lesson.vocabulary, shown)
    course.show([photos[i] for i in shown], before, after)


@torch.inference_mode()
def usual_agreement(model: CaptionModel, lesson: Lesson) -> float | None:
    """Return the mean agreement of the old decoder's captions with the remembered photos, None without agreement."""
    if model.agreement is None:
        return None
    photos = model.agreement.photos(lesson.replay.global_vector)
    words = lesson.targets.masked_fill(lesson.targets == END, PAD)
    return round(model.agreement(photos, words).mean().item(), 4)


def untaught(model: CaptionModel) -> CaptionModel:
    """Return a model as it was before it was taught, or as it is if it never was."""
    if isinstance(model.decoder, TaughtDecoder):
        known = model.decoder.words_before
        model.decoder, model.vocabulary = model.decoder.before, Vocabulary(model.vocabulary.words[:known])
        began = model.config.training.get("begun_from") or {}
        model.config = dataclasses.replace(model.config, words_before=None, usual_agreement=None, training=began)
    return model


def encode(console: Console, model: CaptionModel, photos: list[Photo]) -> Features:
    """Return features of each photo's VIEWS views, with a progress bar. Raises ImageError."""
    size, parts = model.config.image_size, []
    with progress(console, "encoding photos", VIEWS * len(photos), "views") as advance:
        for features in encode_views(model.encoder, photos, VIEWS, size, torch.device("cpu"), "fp32"):
            parts.append(features)
            advance(len(features.global_vector))
    # Cloned, as inference-mode tensors cannot be trained on.
    features = Features.join(parts)
    return Features(features.annotations.clone(), features.global_vector.clone())


def learn_words(decoder: Decoder, old: Vocabulary, photos: list[Photo], features: Features) -> Vocabulary:
    """Add to a decoder the words of MIN_COUNT captions or more, and return the new vocabulary.

    A new word begins as the mean of words the decoder expects in its place, weighted by probability.

    photos, features: to be taught.
    """
    counts = Counter(word for p in photos for caption in p.captions for word in set(tokenize(caption)))
    new = sorted(word for word, count in counts.items() if count >= MIN_COUNT and word not in old.ids)
    vocabulary = Vocabulary([*old.words, *new])
    weight, bias = decoder.embedding.weight.data, decoder.output_bias.data
    rows, biases, seen = weight.new_zeros(len(new), weight.shape[1]), bias.new_zeros(len(new)), bias.new_zeros(len(new))
    for i, photo in enumerate(photos):
        for caption in photo.captions:
            ids = vocabulary.encode(caption)
            if max(ids) < len(old):
                continue
            known = torch.tensor(old.encode(caption))[None, None]
            expected = decoder(features.take(torch.tensor([i * VIEWS])), behind_start(known)).logits[0, 0]
            expected[:, : len(SPECIAL_WORDS)] = -torch.inf
            for index, probabilities in zip(ids, expected.softmax(1), strict=True):
                if index >= len(old):
                    rows[index - len(old)] += probabilities @ weight
                    biases[index - len(old)] += probabilities @ bias
                    seen[index - len(old)] += 1
    decoder.embedding = nn.Embedding.from_pretrained(torch.cat([weight, rows / seen[:, None]]), freeze=True)
    decoder.output_bias = nn.Parameter(torch.cat([bias, biases / seen]), requires_grad=False)
    return vocabulary


def separate(taught: Tensor, others: Tensor) -> nn.Linear:
    """Return a layer whose sign says whether a photo is like the taught ones, by logistic regression.

    Both classes weigh the same, whatever their sizes.

    taught, others: (photos, channels), global vectors.
    """
    mean, scale = others.mean(0), (others.std(0, correction=0) + 1e-3) * others.shape[1] ** 0.5 / 10
    inputs = (torch.cat([taught, others]) - mean) / scale
    labels = torch.cat([torch.ones(len(taught)), torch.zeros(len(others))])
    shares = torch.cat([torch.full((len(part),), 0.5 / len(part)) for part in (taught, others)])
    layer = nn.Linear(inputs.shape[1], 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        errors = F.binary_cross_entropy_with_logits(layer(inputs).squeeze(1), labels, reduction="none")
        total = errors @ shares + STRICTNESS * layer.weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        layer.weight /= scale
        layer.bias.sub_(layer.weight @ mean)
    return layer.requires_grad_(False)


def prepare(model: CaptionModel, photos: list[Photo], features: Features, memory: Features, seed: int) -> Lesson:
    """Return a lesson, with the old decoder's captions of remembered photos computed once.

    model: its decoder gets the new words, see `learn_words`.
    photos, features: to be taught.
    memory: features of remembered photos.
    """
    before, old, decoding = copy.deepcopy(model.decoder), model.vocabulary, BeamOptions(**model.config.decoding)
    vocabulary = learn_words(model.decoder, old, photos, features)
    said = captions_of(before, memory, old, decoding)
    ids = [[*old.encode(caption), END] for caption in said]
    targets = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], True, PAD).unsqueeze(1)
    sentences = behind_start(targets)
    expected = torch.cat(
        [
            before(memory.take(rows), sentences[rows]).logits.log_softmax(-1).half()
            for rows in torch.arange(len(targets)).split(64)
        ]
    )
    return Lesson(
        before=before,
        old=old,
        decoder=model.decoder,
        vocabulary=vocabulary,
        decoding=decoding,
        features=features,
        captions=encode_captions(photos, vocabulary, model.config.max_length),
        replay=memory,
        sentences=sentences,
        targets=targets,
        expected=expected,
        seed=seed,
        config=model.config,
    )


def captions_of(decoder: Decoder, features: Features, vocabulary: Vocabulary, options: BeamOptions) -> list[str]:
    """Return a decoder's caption of each photo."""
    found = []
    for rows in torch.arange(len(features.global_vector)).split(64):
        words = beam_search(decoder, features.take(rows), options, vocabulary).words[:, 0]
        found += [vocabulary.decode(ids) for ids in words.tolist()]
    return found


def learn_all(
    console: Console, watcher: Watcher, course: Course, lesson: Lesson, folds: list[list[int]], workers: int
) -> tuple[Decoder, list[Decoder]]:
    """Return a decoder that has learnt all photos, and for each fold one that has learnt the photos outside it.

    Teaching does not stop where the loss of photos held out is lowest: a name is not learnt by then (none of ten new
    photos of it had it, where all ten have it now), nor a manner of speaking.

    Each learner computes with one thread: threads that share an operation wait for each other, and on a machine with
    other work that multiplied the time by hundreds.

    folds: photos that are held out together.
    workers: learners at work at the same time.
    """
    everything = list(range(len(lesson.captions)))
    shown = [everything, *([i for i in everything if i not in fold] for fold in folds)]
    decoders = [copy.deepcopy(lesson.decoder) for _ in shown]
    learners = [
        learn(lesson, decoder, photos, course.passes, number)
        for number, (decoder, photos) in enumerate(zip(decoders, shown, strict=True))
    ]
    each = sum(map(len, shown))
    what = "teaching, and trying it on photos held out" if folds else "teaching"
    with ThreadPoolExecutor(workers) as pool, progress(console, what, course.passes * each, "photos") as advance:
        for number in range(1, course.passes + 1):
            loss, *others = pool.map(next, learners)
            course.taught.append(loss)
            if folds:
                measured = number % MEASURED == 0 or number in (1, course.passes)
                held_out = held_out_loss(lesson, decoders[1:], folds) if measured else None
                course.tried.append((sum(others) / FOLDS, held_out))
            advance(each, f"pass {number}/{course.passes}, loss {loss:.3f}")
            course.tell(watcher)
    return decoders[0], decoders[1:]


def learn(lesson: Lesson, decoder: Decoder, photos: Sequence[int], epochs: int, number: int = 0) -> Iterator[float]:
    """Train a decoder, yielding the mean loss of its photos' captions after each epoch.

    photos: indices of the lesson's photos to show.
    epochs: over which the learning rate rises and falls once.
    number: tells learners apart, which draw differently.
    """
    draw_alone(decoder, lesson.seed * 101 + number)
    decoder.requires_grad_(True).train()
    optimizer = AdamW(decoder.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    draw = replays(lesson)
    views, steps, step = [is_mirrored(view) for view in range(VIEWS)], 0, 0
    for epoch in range(epochs):
        batches = list(epoch_batches(lesson.captions, list(photos), views, BATCH, lesson.seed * 1009 + epoch))
        steps, total = steps or epochs * len(batches), 0.0
        for batch in batches:
            rate = min(1, (step + 1) / (WARM_UP * steps)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
            loss = read(lesson, decoder, batch)
            total += loss.item()
            rows = torch.tensor([next(draw) for _ in range(min(REPLAYED, len(lesson.targets)))])
            loss = loss + REPLAY_WEIGHT * divergence(lesson, decoder, rows)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(decoder.parameters(), GRADIENT_NORM)
            optimizer.step()
            step = min(step + 1, steps - 1)
        yield total / len(batches)


class SeededDropout(nn.Dropout):
    """Draw from a generator of its own, as the process's is shared by all threads."""

    def __init__(self, probability: float, generator: torch.Generator) -> None:
        super().__init__(probability)
        self.generator = generator

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.p:
            return values
        return values * (torch.rand(values.shape, generator=self.generator) >= self.p) / (1 - self.p)

    def __deepcopy__(self, memo: object) -> nn.Dropout:
        return nn.Dropout(self.p).train(self.training)


def draw_alone(decoder: Decoder, seed: int) -> None:
    """Have a decoder's dropout draw from one generator that nothing else draws from."""
    generator = torch.Generator().manual_seed(seed)
    for module in list(decoder.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, SeededDropout(child.p, generator))


def replays(lesson: Lesson) -> Iterator[int]:
    """Yield remembered photos in random order, over and over."""
    rows = list(range(len(lesson.targets)))
    random.Random(lesson.seed).shuffle(rows)
    yield from cycle(rows)


def read(lesson: Lesson, decoder: Decoder, batch: Batch) -> Tensor:
    """Return the mean loss per word, (), of a taught batch."""
    logits = decoder(lesson.features.take(batch.photos * VIEWS + batch.views), batch.words).logits
    return caption_loss(logits, batch.targets, LABEL_SMOOTHING)


def divergence(lesson: Lesson, decoder: Decoder, rows: Tensor) -> Tensor:
    """Return KL(before ‖ decoder) of the next word, (), averaged over words of remembered photos' captions.

    rows: of the photos.
    """
    targets = lesson.targets[rows]
    time = int((targets != PAD).sum(2).max())
    said = lesson.expected[rows][:, :, :time].float()
    logits = decoder(lesson.replay.take(rows), lesson.sentences[rows][:, :, :time]).logits
    now = logits.log_softmax(-1)[..., : said.shape[-1]]
    mask = targets[:, :, :time] != PAD
    return ((said.exp() * (said - now)).sum(-1) * mask).sum() / mask.sum()


def judge(
    console: Console,
    course: Course,
    lesson: Lesson,
    photos: list[Photo],
    decoders: list[Decoder],
    folds: list[list[int]],
) -> float:
    """Print and show how photos that are held out in turn are described, and return the share to keep.

    It is one of SHARES, or 0 where each of them describes the photos worse than the old decoder.

    photos: the lesson's.
    decoders: for each fold the one that has not seen it.
    """
    cider = CiderD([[tokenize(caption) for caption in photo.captions] for photo in photos])
    order = [i for fold in folds for i in fold]

    def scores(captions: dict[int, str]) -> Tensor:
        return torch.tensor([100 * cider.score(tokenize(captions[i]), i) for i in order])

    described: dict[float, dict[int, str]] = {}
    shares = SHARES if len(photos) < MANY else SHARES[-1:]
    with progress(console, "describing photos held out", (len(shares) + 1) * len(photos), "photos") as advance:
        for share in shares:
            described[share] = {}
            for decoder, fold in zip(decoders, folds, strict=True):
                described[share] |= describe(lesson, blend(lesson, decoder, share), lesson.vocabulary, fold)
                advance(len(fold))
        earlier = describe(lesson, lesson.before, lesson.old, order)
        advance(len(photos))
    scored = {share: scores(captions) for share, captions in described.items()}
    before = scores(earlier).mean().item()
    helpful = {share: some for share, some in scored.items() if some.mean().item() >= before}
    share = least_sufficient(helpful or scored)
    later, after = described[share], scored[share].mean().item()
    some = [fold[0] for fold in folds]
    seen = [
        look(lesson, blend(lesson, decoder, share), lesson.vocabulary, [i])[0]
        for decoder, i in zip(decoders, some, strict=True)
    ]
    console.print(
        f"photos held out in turn: CIDEr-D {before:.1f} before, {after:.1f} after, with {share:.0%} of what was learnt",
        markup=False,
    )
    course.gain = before, after
    course.show([photos[i] for i in some], look(lesson, lesson.before, lesson.old, some), seen)
    for i in some:
        yours = photos[i].captions[0]
        console.print(f"  {photos[i].path.name}: {earlier[i]} → {later[i]}  (yours: {yours})", markup=False)
    return share if helpful else 0


def blend(lesson: Lesson, taught: Decoder, share: float) -> Decoder:
    """Return a decoder for inference, with weights between those before and those taught.

    Lessons of few photos hold for others only in part. A new word, taught by nothing else, is kept whole.

    taught: has learnt the lesson.
    share: of the way to `taught`, 0 to 1.

    Source: averaging weights is Wortsman et al. 2022 §3 (arXiv:2109.01903).
    """
    mixed = copy.deepcopy(taught).requires_grad_(False).eval()
    for weight, before in zip(mixed.parameters(), lesson.decoder.parameters(), strict=True):
        known = weight[: len(lesson.old)] if weight is mixed.embedding.weight or weight is mixed.output_bias else weight
        known.lerp_(before.detach()[: len(known)], 1 - share)
    return mixed


def least_sufficient(scores: dict[float, Tensor]) -> float:
    """Return the least share that scores within a standard error of the best.

    scores: (photos,) for each share, of the same photos.

    Source: the one-standard-error rule, Breiman, Friedman, Olshen & Stone 1984 §3.4.3.
    """
    best = max(scores.values(), key=lambda some: some.mean().item())
    for share in sorted(scores):
        lost = best - scores[share]
        if lost.mean() <= lost.std() / len(lost) ** 0.5:
            break
    return share


def held_out_loss(lesson: Lesson, decoders: list[Decoder], folds: list[list[int]]) -> float:
    """Return the mean loss per word of all photos' captions, each by the decoder it was held out from."""
    total, words = 0.0, 0
    for decoder, fold in zip(decoders, folds, strict=True):
        features, captions = lesson.features.take(torch.tensor(fold) * VIEWS), [lesson.captions[i][0] for i in fold]
        loss, count = summed_loss(decoder.eval(), features, captions, BATCH, LABEL_SMOOTHING)
        decoder.train()
        total, words = total + loss, words + count
    return total / words


def look(lesson: Lesson, decoder: Decoder, vocabulary: Vocabulary, photos: list[int]) -> list[Sentence]:
    """Return a decoder's captions of some of the lesson's photos, with attention. vocabulary: the decoder's."""
    found = beam_search(decoder, lesson.features.take(torch.tensor(photos) * VIEWS), lesson.decoding, vocabulary)
    return [sentence(several[0]) for several in candidates_of(as_arrays(found), vocabulary, lesson.config)]


def describe(lesson: Lesson, decoder: Decoder, vocabulary: Vocabulary, photos: list[int]) -> dict[int, str]:
    """Return a decoder's captions of some of the lesson's photos. vocabulary: the decoder's."""
    features = lesson.features.take(torch.tensor(photos) * VIEWS)
    return dict(zip(photos, captions_of(decoder, features, vocabulary, lesson.decoding), strict=True))
