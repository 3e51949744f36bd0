"""What a checkpoint is: for `capcli info`, and as the model card that goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcli.model import WEIGHTS_FILE, CaptionModel, write_whole

if TYPE_CHECKING:
    import torch

CARD_FILE = "README.md"
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
}


def describe_checkpoint(model: CaptionModel, folder: Path, device: torch.device) -> dict[str, Any]:
    """Architecture, vocabulary, training data, dev scores, size, and the device that would be used."""
    config = model.config
    return {
        "folder": str(folder),
        "encoder": config.encoder,
        "grid": list(config.grid),
        "image_size": config.image_size,
        "decoder": config.decoder,
        "hidden_size": config.hidden_size,
        "embedding_size": config.embedding_size,
        "attention_size": config.attention_size,
        "vocabulary": len(model.vocabulary),
        "parameters": {
            "encoder": sum(p.numel() for p in model.encoder.parameters()),
            "decoder": sum(p.numel() for p in model.decoder.parameters()),
        },
        "bytes": (folder / WEIGHTS_FILE).stat().st_size,
        "decoding": {
            "beam": config.beam,
            "length_penalty": config.length_penalty,
            "max_length": config.max_length,
        },
        "training": config.training,
        "scores": config.scores,
        "device": str(device),
    }


def as_text(description: dict[str, Any]) -> str:
    """A description for a person, one fact per line."""
    d = description
    rows, columns = d["grid"]
    decoding, parameters = d["decoding"], d["parameters"]
    lines = [
        f"checkpoint   {d['folder']} ({d['bytes'] / 1e6:.1f} MB)",
        f"encoder      {d['encoder']}, {d['image_size']} px, {rows}×{columns} annotation vectors, "
        f"{parameters['encoder'] / 1e6:.1f} M parameters",
        f"decoder      {d['decoder']} attention LSTM, hidden {d['hidden_size']}, embedding {d['embedding_size']}, "
        f"attention {d['attention_size']}, {parameters['decoder'] / 1e6:.1f} M parameters",
        f"vocabulary   {d['vocabulary']} words",
        f"decoding     beam {decoding['beam']}, length penalty {decoding['length_penalty']}, "
        f"at most {decoding['max_length']} words",
    ]
    lines += [f"trained on   {data_line(row)}" for row in d["training"].get("data", [])]
    lines += [f"dev scores   {name}: {score_line(scores)}" for name, scores in d["scores"].items()]
    return "\n".join([*lines, f"device       {d['device']}"])


def data_line(row: dict[str, Any]) -> str:
    """A data set in a few words."""
    times = f", counted {row['repeat']} times" if row.get("repeat", 1) > 1 else ""
    return f"{row['name']}: {row['photos']:,} photos, {row['captions']:,} captions{times}"


def score_line(scores: dict[str, Any]) -> str:
    """The scores that papers print first."""
    return ", ".join(f"{SCORES[k]} {scores[k]:.1f}" for k in ("bleu_4", "meteor", "rouge_l", "cider") if k in scores)


def model_card(model: CaptionModel) -> str:
    """A card in Markdown with the Hub's metadata header, from what the checkpoint's config records."""
    config = model.config
    names = list(config.scores)
    table = [
        "| | " + " | ".join(f"{name} dev" for name in names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for key, title in SCORES.items():
        values = [config.scores[name].get(key) for name in names]
        if any(value is not None for value in values):
            table.append(f"| {title} | " + " | ".join("" if v is None else f"{v:g}" for v in values) + " |")
    rows, columns = config.grid
    tokenizers = {scores.get("tokenizer") for scores in config.scores.values()}
    command = config.training.get("command")
    sections = [
        "---\nlanguage: en\nlibrary_name: capcli\npipeline_tag: image-to-text\n"
        "tags: [image-captioning, visual-attention, lstm]\nmetrics: [bleu, meteor, rouge, cider]\n---",
        f"# Image captioner: {config.encoder} encoder, {config.decoder}-attention LSTM decoder",
        f"Input {config.image_size}×{config.image_size} px (squashed), {rows}×{columns} annotation vectors, "
        f"LSTM {config.hidden_size}, {len(model.vocabulary):,} words. Read it with "
        "`capcli caption --model FOLDER photo.jpg`.",
        "## Data\n\n" + "\n".join(f"- {data_line(row)}" for row in config.training.get("data", [])),
        f"## Command\n\n```sh\n{command}\n```" if command else "",
        (
            f"## Scores\n\nThe stored weights, beam {config.beam}, length penalty {config.length_penalty:g}, "
            f"pycocoevalcap, {' and '.join(sorted(map(str, tokenizers)))} tokenizer, in percent.\n\n" + "\n".join(table)
        )
        if names
        else "",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def write_card(model: CaptionModel, folder: Path) -> None:
    """Write README.md beside the weights."""
    write_whole(folder / CARD_FILE, model_card(model).encode())
