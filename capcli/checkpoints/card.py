"""A checkpoint described, for `capcli info` and in its model card."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from capcli import __version__
from capcli.checkpoints.facts import Facts
from capcli.checkpoints.store import CHECKPOINT_FILES, replace_controls
from capcli.model.confidence import CLUES
from capcli.model.config import ENCODERS, runs_of

CARD_FILE = "README.md"
MAX_CARD_BYTES = 1 << 20
SCORES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "distinct_words": "distinct words",
    "mean_length": "mean length",
    "repetition": "repetition %",
    "unseen": "unseen %",
    "distinct_share": "distinct words of candidates %",
    "self_cider": "self-CIDEr of candidates",
}
# The Hub's names for scores it knows, for its search and leaderboards.
HUB_METRICS = {"bleu_4": "bleu", "meteor": "meteor", "rouge_l": "rouge", "cider": "cider"}


def describe_checkpoint(facts: Facts, folder: Path, engine: str, device: str) -> dict[str, Any]:
    """Describe a checkpoint, as in `capcli info --json`.

    engine, device: those that would caption.
    """
    config = facts.config
    return {
        "folder": str(folder),
        "encoder": config.encoder,
        "grid": list(config.grid),
        "image_size": config.image_size,
        "decoder": config.decoder,
        "hidden_size": config.hidden_size,
        "embedding_size": config.embedding_size,
        "attention_size": config.attention_size,
        "refine": config.refine,
        "vocabulary": facts.words,
        "parameters": {
            "encoder": facts.encoder_parameters,
            "decoder": facts.decoder_parameters,
        },
        "bytes": sum((folder / name).stat().st_size for name in CHECKPOINT_FILES),
        "decoding": config.decoding,
        "unsure_below": config.unsure_below,
        "license": license_of(config.training),
        "training": config.training,
        "scores": config.scores,
        "engine": engine,
        "device": device,
        "card": read_card(folder),
    }


def as_text(description: dict[str, Any], card: bool = False) -> str:
    """Return a description as text, one fact per line.

    description: from `describe_checkpoint`.
    card: whether to append the model card as written.
    """
    d = description
    rows, columns = d["grid"]
    parameters = d["parameters"]
    lines = [
        f"checkpoint   {d['folder']} ({d['bytes'] / 1e6:.1f} MB)",
        f"encoder      {d['encoder']}, {d['image_size']} px, {rows}×{columns} annotation vectors, "
        f"{parameters['encoder'] / 1e6:.1f} M parameters",
        f"decoder      LSTM ({d['decoder']}), hidden {d['hidden_size']}, embedding {d['embedding_size']}, "
        f"attention {d['attention_size']}, {'refined, ' * d['refine']}{parameters['decoder'] / 1e6:.1f} M parameters",
        f"vocabulary   {d['vocabulary']:,} words",
        f"decoding     {decoding_clause(**d['decoding'])}",
    ]
    if d["unsure_below"] is not None:
        lines += [f"unsure       {unsure_clause(d['unsure_below'])}"]
    lines += [f"trained on   {data_line(row)}" for row in data_of(d["training"])]
    if d["license"] is not None:
        lines += [f"licence      {d['license']}"]
    lines += [f"dev scores   {name}: {score_line(scores)}" for name, scores in d["scores"].items()]
    lines += [f"engine       {d['engine']}", f"device       {d['device']}"]
    if card and d["card"]:
        lines += ["", without_metadata(d["card"])]
    return replace_controls("\n".join(lines))


def decoding_clause(
    beam: int, length_penalty: float, max_length: int, no_repeat: int, no_echo: bool, agreement: float, restraint: float
) -> str:
    """Describe the search in a few words."""
    clause = f"beam {beam}, length penalty {length_penalty:g}, at most {max_length} words"
    clause += f", no {no_repeat} words in a row twice" if no_repeat else ""
    clause += ", no word doubled" if no_echo else ""
    clause += f", {agreement:g} × the agreement with the photo added to the score" if agreement else ""
    return clause + (f", {restraint:g} taken from it for each content word" if restraint else "")


def unsure_clause(least: float) -> str:
    """Say in a few words what makes a caption unsure. least: gain in nats."""
    return f"below a gain of {least:g}, the log-probability that the photo adds to the caption over a blank picture"


def confidence_clause(weights: list[float]) -> str:
    """Say in a few words how confidence is computed. weights: of `confidence.CLUES`, then the bias."""
    *slopes, bias = weights
    parts = " + ".join(f"{slope:g} × {clue}" for slope, clue in zip(slopes, CLUES, strict=True))
    return f"the logistic of {parts} + {bias:g}; below a half, a caption is unsure too"


def data_of(training: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the data sets of a training and those it began from, one row each, the latest."""
    rows: dict[str, dict[str, Any]] = {}
    for run in runs_of(training):
        for row in run.get("data", []):
            rows.setdefault(row["name"], row)
    return list(rows.values())


def license_of(training: dict[str, Any]) -> str | None:
    """Return the terms of use of a training or, if it has none, of the latest it began from that has; else None."""
    return next((run["license"] for run in runs_of(training) if run.get("license")), None)


def data_line(row: dict[str, Any]) -> str:
    """Describe a training data set in a few words."""
    times = f", counted {row['repeat']} times" if row.get("repeat", 1) > 1 else ""
    return f"{row['name']}: {row['photos']:,} photos, {row['captions']:,} captions{times}"


def score_line(scores: dict[str, Any]) -> str:
    """Return the scores that papers report first, in a few words."""
    found = numbers(scores)
    return ", ".join(f"{SCORES[k]} {found[k]:.1f}" for k in ("bleu_4", "meteor", "rouge_l", "cider") if k in found)


def numbers(scores: dict[str, Any]) -> dict[str, float]:
    """Return a data set's numeric scores, in the tables' order."""
    return {k: scores[k] for k in SCORES if isinstance(scores.get(k), int | float)}


def read_card(folder: Path) -> str | None:
    """Return a folder's model card, or None if there is none to read."""
    path = folder / CARD_FILE
    try:
        # Reading a pipe would wait, and a device may never end; their size is 0.
        fits = path.is_file() and path.stat().st_size <= MAX_CARD_BYTES
        return path.read_text("utf-8", "replace") if fits else None
    except OSError:
        return None


def without_metadata(card: str) -> str:
    """Return a card without the YAML at its head, between lines of `---`, which is for the Hub."""
    if card.startswith("---\n"):
        _, end, body = card[3:].partition("\n---\n")
        card = body if end else card
    return card.strip()


def checkpoint_card(facts: Facts, folder: Path, name: str) -> str:
    """Return the card to publish: the folder's own if a person wrote or edited it, else a generated one.

    name: to publish under.
    """
    card = read_card(folder)
    return model_card(facts, name) if card in (None, model_card(facts)) else str(card)


def model_card(facts: Facts, name: str = "FOLDER") -> str:
    """Generate a model card from a checkpoint's records: the Hub's metadata, then Markdown.

    name: to pass as --model.
    """
    config = facts.config
    records = config.training
    what = "." if config.encoder in ENCODERS else "'.[timm]'"
    sections = [
        f"---\n{metadata(facts, name)}---",
        f"# Image captioner: {config.encoder} encoder, LSTM decoder ({config.decoder})",
        "Writes one English sentence about a photo, and tells for each word where in the photo it looked. Made with "
        "capcli after *Show, Attend and Tell* ([Xu et al. 2015](https://arxiv.org/abs/1502.03044)).",
        f"```sh\npip install {what}    # in a checkout of capcli\ncapcli caption --model {name} photo.jpg\n```",
        f'```python\nfrom capcli import Captioner\n\nprint(Captioner.load("{name}").caption("photo.jpg").text)\n```',
        "## Model\n\n" + "\n".join(f"- {line}" for line in architecture(facts)),
        "## Data\n\n" + "\n".join(f"- {data_line(row)}" for row in rows) if (rows := data_of(records)) else "",
        training_section(records),
        scores_section(facts),
        "## Limits\n\nIt knows what its training photos showed and how their captions spoke: other subjects, drawings "
        "and documents are described in terms of those, fluently and wrongly. It repeats what people assumed of the "
        "persons they saw. Do not rely on it where a mistake could harm anyone.",
        "## Files\n\nWeights as safetensors, settings and words as JSON: loading them runs no code of this repository.",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def metadata(facts: Facts, name: str) -> str:
    """Return the YAML for the head of a card (Hugging Face, "Model Cards").

    Strings are JSON, which is valid YAML.
    """
    terms = license_of(facts.config.training)
    lines = [
        "language: en",
        *(["license: other", f"license_name: {json.dumps(terms)}"] if terms else []),
        "library_name: capcli",
        "pipeline_tag: image-to-text",
        "tags: [image-captioning, visual-attention, lstm]",
        "metrics: [bleu, meteor, rouge, cider]",
    ]
    results = []
    for data_set, scores in facts.config.scores.items():
        found = numbers(scores)
        metrics = [
            {"type": kind, "name": f"{SCORES[key]} (dev)", "value": found[key]}
            for key, kind in HUB_METRICS.items()
            if key in found
        ]
        data = {"name": data_set, "type": data_set, "split": "dev"}
        task = {"type": "image-to-text", "name": "Image captioning"}
        results.append({"task": task, "dataset": data, "metrics": metrics})
    if results:
        index = [{"name": name.rpartition("/")[2], "results": results}]
        lines.append(f"model-index: {json.dumps(index)}")
    return "\n".join(lines) + "\n"


def architecture(facts: Facts) -> list[str]:
    """Describe the model in a few lines of Markdown."""
    config = facts.config
    rows, columns = config.grid
    return [
        f"input: {config.image_size}×{config.image_size} px, the whole photo squashed to a square",
        f"encoder: {config.encoder}{', pretrained on ImageNet' * (config.encoder in ENCODERS)}; "
        f"{rows}×{columns} annotation vectors; "
        f"{facts.encoder_parameters / 1e6:.1f} M parameters",
        f"decoder: LSTM, {config.decoder}; hidden {config.hidden_size}, embedding {config.embedding_size}, "
        f"attention {config.attention_size}{', refined' * config.refine}; "
        f"{facts.decoder_parameters / 1e6:.1f} M parameters",
        f"vocabulary: {facts.words:,} words",
        f"decoding unless told otherwise: {decoding_clause(**config.decoding)}",
        *([] if config.unsure_below is None else [f"unsure: {unsure_clause(config.unsure_below)}"]),
        *([f"confidence: {confidence_clause(config.confidence)}"] if config.confidence else []),
    ]


def made_with(device: object) -> str:
    """Return the programs that a training runs on, with their versions. device: where it computes."""
    versions = [f"{name} {version(package)}" for name, package in (("PyTorch", "torch"), ("NumPy", "numpy"))]
    return f"capcli {__version__}, Python {platform.python_version()}, {', '.join(versions)}, on {device}"


def training_section(records: dict[str, Any]) -> str:
    """Return a section with the recipe, or each run's command and options, first run first.

    records: of the last run; each names the run it began from.
    """
    if isinstance(recipe := records.get("recipe"), str):
        command = records.get("command") or "capcli train RECIPE.toml --output RUN"
        told = f"\n\nMade with {records['made_with']}." if records.get("made_with") else ""
        return f"## Training\n\n```sh\n{command}\n```\n\n```toml\n{recipe.strip()}\n```{told}"
    parts: list[str] = []
    for run in runs_of(records):
        command, options = run.get("command"), run.get("options")
        part = [f"```sh\n{command}\n```"] if isinstance(command, str) else []
        if isinstance(options, dict) and options:
            part.append(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in options.items()) + ".")
        if run.get("made_with"):
            part.append(f"Made with {run['made_with']}.")
        parts = part + parts
    return "\n\n".join(["## Training", *parts]) if parts else ""


def scores_section(facts: Facts) -> str:
    """Return a section with all dev scores in a table, and how they were measured; empty without scores."""
    config = facts.config
    columns = {name: numbers(scores) for name, scores in config.scores.items()}
    if not any(columns.values()):
        return ""
    table = [
        "| | " + " | ".join(f"{name} dev" for name in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for key, title in SCORES.items():
        if any(key in found for found in columns.values()):
            cells = [score_cell(config.scores[name], key) if key in found else "" for name, found in columns.items()]
            table.append(f"| {title} | " + " | ".join(cells) + " |")
    tokenizers = sorted({str(scores["tokenizer"]) for scores in config.scores.values() if "tokenizer" in scores})
    how = decoding_clause(**config.decoding) + ", pycocoevalcap"
    how += f", {' and '.join(tokenizers)} tokenizer" if tokenizers else ""
    precisions = sorted({str(scores["precision"]) for scores in config.scores.values() if "precision" in scores})
    how += f", {' and '.join(precisions)}" if precisions else ""
    about = f"In percent, on photos that were not trained on: {how}."
    if any(key.endswith("_interval") for scores in config.scores.values() for key in scores):
        about += " In brackets 95 % confidence intervals, by the bootstrap over photos."
    return f"## Scores\n\n{about}\n\n" + "\n".join(table)


def score_cell(scores: dict[str, Any], key: str) -> str:
    """Return a score and, if recorded, its confidence interval."""
    interval = scores.get(f"{key}_interval")
    return f"{scores[key]:g}" + (f" ({interval})" if isinstance(interval, str) else "")
