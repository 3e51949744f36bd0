"""How a command's help lists its options: in panels, with the most used ones first."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

MOST_USED = "Most used"
PANELS: dict[str, tuple[str, ...]] = {
    MOST_USED: ("output", "sidecar", "num", "html", "attention"),
    "What to caption": ("recursive", "include", "exclude", "files_from", "null", "max_pixels", "shard"),
    "How to decode": (
        *(
            "ban",
            "beam",
            "max_length",
            "length_penalty",
            "no_repeat",
            "no_echo",
            "agreement",
            "restraint",
            "sample",
            "temperature",
        ),
        *("top_p", "diversity", "attention_samples", "seed"),
    ),
    "What to write": (
        *(
            "format",
            "resume",
            "sidecar_ext",
            "output_dir",
            "write_metadata",
            "xmp",
            "fields",
            "keywords",
            "min_keyword_score",
        ),
        *("touch", "existing", "template", "separator", "replace", "min_score", "keep_unsure", "cache", "summary"),
    ),
    "On a cluster": (*("ray", "column", "retry_failed", "actors", "gpus_per_actor", "block_rows", "allow_https"),),
    "Attention": ("attention_size", "attention_style", "attention_scale", "smooth", "gif", "show"),
    "Running": ("model", "device", "precision", "engine", "batch_size", "on_error", "dry_run", "verbose", "quiet"),
}
NO_SURPRISE = re.compile(r"; x>=[01](?=\])|\s*\[x>=[01]\]$")  # ranges that go without saying
TRAINING_PANELS: dict[str, tuple[str, ...]] = {
    "The run": (
        *("output", "resume", "init", "epochs", "device", "precision", "seed", "feature_cache", "tensorboard", "more"),
        "dry_run",
    ),
    "The model": (
        *("encoder", "encoder_weights", "decoder", "refine", "feed_previous_word", "hidden_size", "dropout"),
    ),
    "How to learn": (
        *("self_critical", "captions_per_batch", "learning_rate", "fine_tune", "average", "attention_regularization"),
    ),
    "Photos and words": ("allow_outside", "image_size", "views", "min_count"),
}


class Command(TyperCommand):
    """List a command's options in panels, without Rich: importing it would take longer than all else that help does."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words after the command in its usage line, with PHOTO instead of Typer's {PHOTO}."""
        return [re.sub("[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options panel by panel, then those that are in no panel."""
        parameters = {parameter.name: parameter for parameter in self.get_params(ctx)}
        sections = {"Arguments": [n for n, p in parameters.items() if p.param_type_name == "argument"]}
        for panel, names in (TRAINING_PANELS if self.name == "train" else PANELS).items():
            sections[panel] = [name for name in names if name in parameters]
        listed = {name for names in sections.values() for name in names}
        sections["Options"] = [name for name in parameters if name not in listed]
        for title, chosen in sections.items():
            records = [record for name in chosen if (record := parameters[name].get_help_record(ctx)) is not None]
            records = [(names, NO_SURPRISE.sub("", text)) for names, text in records]
            if title == "Arguments":  # without the types that Typer adds, which are Python's
                records = [(name.partition(" ")[0], text) for name, text in records]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
