"""Training runs that take seconds."""

from typer.testing import CliRunner, Result

from capcli.cli.app import app

# What people say of two photos.
SAID = {
    "chelsea.jpg": ["a cat looks into the camera", "a cat looks into the camera"],
    "coffee.jpg": ["a cup of coffee on a wooden table", "a cup of coffee on a wooden table"],
}
SMALL = ["--image-size", "96", "--hidden-size", "64", "--set", "embedding_size=64", "--set", "attention_size=32"]
SMALL += ["--min-count", "1", "--views", "1", "--set", "label_smoothing=0", "--dropout", "0", "--device", "cpu"]
SMALLER = {"image_size": 64, "hidden_size": 8, "embedding_size": 8, "attention_size": 8, "min_count": 1, "views": 1}


def train(*arguments: object) -> Result:
    """Run `capcli train` in this process."""
    return CliRunner().invoke(app, ["train", *map(str, arguments)])
