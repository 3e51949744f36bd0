"""Evaluation: caption a data set's photos from file to sentence, and score captions, whoever made them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from capcli.captioner import Captioner
from capcli.checkpoints.card import SCORES, decoding_clause
from capcli.decoding.options import DecodingOptions
from capcli.model.config import TunedDecoding
from capcli.model.vocabulary import tokenize
from capcli.progress import progress, stderr_console
from capcli.results import Caption, ImageError
from capcli.settings import settings
from capcli.training.data.datasets import DataSet, Photo
from capcli.training.measuring.bootstrap import paired
from capcli.training.measuring.calibration import agrees, calibrate, gains_of_one_colour, least_gain, reliability
from capcli.training.measuring.metrics import describe, diversity, score_captions

EXTREMES = 10
SENTENCES_AT_ONCE = 64  # with gains computed together


def evaluate_captioner(
    captioner: Captioner, data_set: DataSet, split: str, options: DecodingOptions, batch_size: int, num: int = 1
) -> dict[str, Any]:
    """Return a split's scores, every caption and its own scores, as `capcli evaluate --json` prints them.

    To `evaluate_captions` it adds "calibration", how well confidence, or scores where it is unknown, tells good
    captions from bad, how often captions are right when it says so, and how well gains tell photos from pictures of one
    colour; and "images_per_second", for decoding, encoding and search, not loading the checkpoint.

    batch_size: images per pass through the model, 1 or more.
    num: candidates per photo, 1 or more; from two on, diversity is measured too.

    Raises DataError for a split without photos, and ImageError.
    """
    photos = data_set.require(split)
    started = time.perf_counter()
    captions = caption_photos(captioner, photos, options, batch_size, num)
    seconds = time.perf_counter() - started
    result = evaluate_captions([caption.text for caption in captions], data_set, split)
    if num > 1:
        several = [[candidate.text for candidate in caption.candidates] for caption in captions]
        result["scores"] |= diversity(several, [photo.captions for photo in photos])
    pieces = [captions[begin : begin + SENTENCES_AT_ONCE] for begin in range(0, len(captions), SENTENCES_AT_ONCE)]
    gains = [gain for piece in pieces for gain in captioner.gains([caption.best for caption in piece])]
    least = least_gain(gains)
    below = [gain < least for gain in gains_of_one_colour(captioner)]
    for row, caption, gain in zip(result["captions"], captions, gains, strict=True):
        row["score"], row["gain"] = round(caption.score, 4), round(gain, 4)
        row["clues"] = [round(clue, 4) for clue in captioner.clues(caption.best, gain, caption.kinds)]
        row["confidence"] = None if caption.confidence is None else round(caption.confidence, 4)
    sure = [caption.confidence for caption in captions if caption.confidence is not None]
    told = len(sure) == len(captions)
    ranking = sure if told else [caption.score for caption in captions]
    calibration = calibrate(ranking, [row["cider"] for row in result["captions"]])
    calibration |= {"by": "confidence" if told else "score"}
    calibration |= {"reliability": reliability(sure, list(map(agrees, result["captions"]))) if told else []}
    return result | {
        "decoding": asdict(options),
        "device": captioner.device,
        "precision": captioner.precision,
        "images_per_second": round(len(photos) / seconds, 1),
        "calibration": calibration | {"unsure_below": least, "one_colour_below": sum(below) / len(below)},
    }


def evaluate_captions(captions: Sequence[str], data_set: DataSet, split: str) -> dict[str, Any]:
    """Return the scores of a split's captions, by whomever, with every caption and its own scores.

    "unseen" compares with this set's training captions.

    captions: of the split's photos, in order.

    Raises DataError for a split without photos.
    """
    photos = data_set.require(split)
    scores = score_captions(captions, [photo.captions for photo in photos])
    each = scores.pop("each")
    seen = {" ".join(tokenize(c)) for photo in data_set.split("train") for c in photo.captions}
    rows = [
        {"path": str(photo.path), "caption": caption}
        | {name: round(value, 2) if isinstance(value, float) else value for name, value in own.items()}
        | {"references": photo.captions}
        for photo, caption, own in zip(photos, captions, each, strict=True)
    ]
    about = {"data": data_set.name, "split": split, "photos": len(photos)}
    return about | {"scores": scores | describe(captions, seen), "captions": rows}


def add_other(result: dict[str, Any], other: dict[str, Any], name: str) -> None:
    """Add to a model's scores another's captions and scores, and the differences.

    result, other: from `evaluate_captioner` or `evaluate_captions`, for the same photos.
    name: the other model's.
    """
    ours, theirs = result["scores"], other["scores"]
    measured = {key: (ours[key], theirs[key]) for key in ours["intervals"] if key in theirs}
    found = paired(result["captions"], other["captions"], measured)
    result["against"] = {"name": name, "scores": theirs, "differences": found}
    for row, their in zip(result["captions"], other["captions"], strict=True):
        row["against"] = {key: value for key, value in their.items() if key not in ("path", "references")}


def caption_photos(
    captioner: Captioner, photos: Sequence[Photo], options: DecodingOptions, batch_size: int, num: int = 1
) -> list[Caption]:
    """Return captions of photos in order, with progress on stderr.

    options, batch_size, num: see `evaluate_captioner`.

    Raises ImageError.
    """
    captions = []
    with progress(stderr_console(), "captioning photos", len(photos), "photos") as advance:
        for result in captioner.stream((photo.source() for photo in photos), num, options, batch_size):
            if isinstance(result, ImageError):
                raise result
            captions.append(result)
            advance(1)
    return captions


def decoding_line(options: dict[str, Any]) -> str:
    """Describe the search, and what else differs from the defaults, in a few words."""
    others = {name: value for name, value in options.items() if name not in settings(TunedDecoding)}
    changed = [
        f"{name.replace('_', ' ')} {', '.join(value) if isinstance(value, tuple) else value}"
        for name, value in others.items()
        if value != getattr(DecodingOptions, name)
    ]
    return ", ".join([decoding_clause(**{name: options[name] for name in settings(TunedDecoding)}), *changed])


def as_lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the scores as lines for a person, and the captions of lowest and highest CIDEr.

    result: from `evaluate_captioner` or `evaluate_captions`.
    """
    told = f", {decoding_line(result['decoding'])}" if "decoding" in result else ""
    yield f"{result['data']} {result['split']}: {result['photos']} photos{told}"
    if "device" in result:
        yield f"{result['images_per_second']} images/s on {result['device']} in {result['precision']}"
    scores = result["scores"]
    for key, title in SCORES.items():
        if key in scores:
            low, high = scores["intervals"].get(key, (None, None))
            yield f"{title:32}{scores[key]:8.2f}" + (f"  ({low:.1f} to {high:.1f})" if low is not None else "")
    missing = "" if "meteor" in scores else "  (no Java that works: no METEOR)"
    yield f"{'tokenizer':32}{scores['tokenizer']:>8}{missing}"
    if "cider" not in scores:
        yield f"{SCORES['cider']:32}{'—':>8}  (takes two photos or more)"
    if "calibration" in result:
        yield from calibration_lines(result["calibration"])
    if "against" in result:
        yield from difference_lines(result)
    ranked = sorted(result["captions"], key=lambda row: row["cider"] or 0.0)
    for title, rows in (("worst", ranked[:EXTREMES]), ("best", ranked[: -EXTREMES - 1 : -1])):
        yield f"\n{title} by CIDEr"
        for row in rows:
            cider = "—" if row["cider"] is None else f"{row['cider']:.1f}"
            yield f"{cider:>7}  {row['path']}\n         {row['caption']}  ({row['references'][0]})"


def calibration_lines(calibration: dict[str, Any]) -> Iterator[str]:
    """Yield lines on what scores and gains tell. calibration: see `evaluate_captioner`."""
    if (area := calibration["auc"]) is not None:
        yield f"{'AUC of the ' + calibration['by']:32}{area:8.2f}  (better against worse half by CIDEr)"
    option = "--min-confidence" if calibration["by"] == "confidence" else "score from"
    for row in calibration["thresholds"]:
        yield f"  {option} {row['least']:.2f} keeps {row['kept']:.0%}, whose CIDEr is {row['cider']:.1f}"
    for row in calibration["reliability"]:
        tenth, bar = f"  confidence {row['from']:.0%} to {row['from'] + 0.1:.0%}", "█" * round(20 * row["right"])
        yield f"{tenth:30}{row['captions']:5} captions, {row['right']:4.0%} of them right  {bar}"
    least, below = calibration["unsure_below"], calibration["one_colour_below"]
    yield f"{'gain of 98 % of the captions':32}{least:8.2f}  (pictures of one colour with less: {below:.0%})"


def difference_lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield lines on how two models differ. result: see `add_other`."""
    other = result["against"]
    yield f"\nagainst {other['name']}, on the same photos"
    for key, found in other["differences"].items():
        (low, high), p = found["interval"], found["p"]
        told = f"{found['difference']:+8.2f}  ({low:+.1f} to {high:+.1f}), p = {p:.3f}"
        yield f"{SCORES[key]:24}{other['scores'][key]:8.2f}{told}"
