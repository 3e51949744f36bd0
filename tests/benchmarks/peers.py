"""capcli beside other ways to caption, on the CPU: images/s, seconds to the first caption, peak memory, size on disk.

    python tests/benchmarks/peers.py [--images N]

BLIP-base (Salesforce/blip-image-captioning-base) and ViT-GPT2 (nlpconnect/vit-gpt2-image-captioning) through
transformers, in batches of 8; and ResNet-101 with an attention LSTM that searches one image at a time, word by word in
Python, as PyTorch captioning tutorials do. All of theirs have random weights, since speed alone is compared, and write
12 words with beam 3. Each runs in a process of its own on photos made from tests/photos; seconds to the first caption
begin with the process. Size: the parameters in float32; for capcli, its files. Ours writes what it has to say.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

WORDS, BEAM, BATCH = 12, 3, 8
SIZE = (320, 240)
Captioning = Callable[[list[Path]], None]


def blip() -> tuple[Captioning, int]:
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil

    model = BlipForConditionalGeneration(BlipConfig()).eval()
    processor = BlipImageProcessorPil(size={"height": 384, "width": 384})
    return generating(model, processor), parameter_bytes(model)


def vit_gpt2() -> tuple[Captioning, int]:
    from transformers import (
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessorPil,
    )

    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(), GPT2Config())
    config.decoder_start_token_id = config.pad_token_id = 50256
    model = VisionEncoderDecoderModel(config=config).eval()
    return generating(model, ViTImageProcessorPil()), parameter_bytes(model)


def generating(model: Any, processor: Any) -> Captioning:
    """A transformers model that writes WORDS words for a batch."""
    import torch

    limits: dict[str, Any] = {"num_beams": BEAM, "max_new_tokens": WORDS, "min_new_tokens": WORDS, "do_sample": False}

    def caption(paths: list[Path]) -> None:
        for begin in range(0, len(paths), BATCH):
            images = [Image.open(path).convert("RGB") for path in paths[begin : begin + BATCH]]
            with torch.inference_mode():
                ids = model.generate(pixel_values=processor(images, return_tensors="pt").pixel_values, **limits)
            assert len(ids) == len(images)

    return caption


def one_at_a_time() -> tuple[Captioning, int]:
    """ResNet-101 at 256 px, a 14×14 grid, attention over 196 places, LSTM of 512, 9,490 words."""
    import torch
    from torch import nn
    from torchvision import models, transforms

    vocabulary, hidden = 9490, 512
    encoder = nn.Sequential(*list(models.resnet101(weights=None).children())[:-2], nn.AdaptiveAvgPool2d(14)).eval()
    parts = nn.ModuleDict(
        {
            "embedding": nn.Embedding(vocabulary, hidden),
            "key": nn.Linear(2048, hidden),
            "query": nn.Linear(hidden, hidden),
            "score": nn.Linear(hidden, 1),
            "gate": nn.Linear(hidden, 2048),
            "hidden": nn.Linear(2048, hidden),
            "cell": nn.Linear(2048, hidden),
            "lstm": nn.LSTMCell(hidden + 2048, hidden),
            "output": nn.Linear(hidden, vocabulary),
        }
    ).eval()
    to_tensor = transforms.Compose(
        [
            transforms.Resize((256, 256)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )

    def search(path: Path) -> list[int]:
        grid = encoder(to_tensor(Image.open(path).convert("RGB")).unsqueeze(0))
        places = grid.flatten(2).transpose(1, 2).expand(BEAM, -1, -1)
        state = parts["hidden"](places.mean(1)), parts["cell"](places.mean(1))
        sentences = [[0] for _ in range(BEAM)]
        scores = torch.zeros(BEAM, 1)
        for step in range(WORDS):
            words = torch.tensor([sentence[-1] for sentence in sentences])
            mixed = torch.relu(parts["key"](places) + parts["query"](state[0]).unsqueeze(1))
            context = (parts["score"](mixed).softmax(1) * places).sum(1)
            context = torch.sigmoid(parts["gate"](state[0])) * context
            state = parts["lstm"](torch.cat([parts["embedding"](words), context], 1), state)
            totals = scores + parts["output"](state[0]).log_softmax(1)
            scores, best = (totals[0] if step == 0 else totals.flatten()).topk(BEAM)
            scores = scores.unsqueeze(1)
            parents = (best // vocabulary).tolist()
            sentences = [
                [*sentences[parent], int(index) % vocabulary] for parent, index in zip(parents, best, strict=True)
            ]
            state = state[0][parents], state[1][parents]
        return sentences[0]

    def caption(paths: list[Path]) -> None:
        with torch.inference_mode():
            for path in paths:
                assert len(search(path)) == WORDS + 1

    return caption, parameter_bytes(encoder, parts)


def capcli() -> tuple[Captioning, int]:
    from capcli.captioner import Captioner
    from capcli.checkpoints.hub import bundled_checkpoint
    from capcli.cli.process import one_core_per_batch, set_up_process

    set_up_process()
    captioner = Captioner.load(device="cpu")
    one_core_per_batch(captioner, captioner.options)

    def caption(paths: list[Path]) -> None:
        assert all(len(result.text) for result in captioner.stream(paths))  # type: ignore[union-attr]

    return caption, sum(file.stat().st_size for file in bundled_checkpoint().iterdir())


def parameter_bytes(*modules: Any) -> int:
    return sum(4 * parameter.numel() for module in modules for parameter in module.parameters())


# Name, how it is built, the module that it needs, its share of the images: the slow ones get fewer.
PEERS: dict[str, tuple[Callable[[], tuple[Captioning, int]], str, float]] = {
    "capcli": (capcli, "torch", 1),
    "ResNet-101 + LSTM, one at a time": (one_at_a_time, "torchvision", 0.08),
    "ViT-GPT2": (vit_gpt2, "transformers", 0.04),
    "BLIP-base": (blip, "transformers", 0.02),
}


def run(name: str, folder: Path, started: float) -> None:
    """In a process of its own: prints the figures as JSON."""
    build, _, share = PEERS[name]
    paths = sorted(folder.iterdir())
    caption, size = build()
    caption(paths[:1])
    first = time.time() - started
    caption(paths[:BATCH])  # warm
    paths = paths[: max(BATCH, round(share * len(paths)))]
    begun = time.perf_counter()
    caption(paths)
    print(json.dumps({"rate": len(paths) / (time.perf_counter() - begun), "first": first, "disk": size}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)  # what this program calls itself with
    options = parser.parse_args()
    if options.run:
        run(options.run[0], Path(options.run[1]), float(options.run[2]))
        return
    from photos import write_photos

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        write_photos(folder, options.images, *SIZE)
        print(f"{'':34} {'images/s':>9} {'capcli ×':>9} {'first s':>8} {'peak MB':>8} {'disk MB':>8}")
        ours = 0.0
        for peer, (_, module, _) in PEERS.items():
            if importlib.util.find_spec(module) is None:
                print(f"{peer:34} skipped: {module} is not installed")
                continue
            command = [sys.executable, __file__, "--run", peer, str(folder), str(time.time())]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert process.stdout is not None
            assert process.stderr is not None
            lines, complaints = process.stdout.read().splitlines(), process.stderr.read().splitlines()
            _, status, usage = os.wait4(process.pid, 0)
            if status or not lines:
                print(f"{peer:34} skipped: {complaints[-1] if complaints else status}")
                continue
            figures = json.loads(lines[-1])
            ours = ours or figures["rate"]
            print(
                f"{peer:34} {figures['rate']:9.2f} {ours / figures['rate']:9.1f} {figures['first']:8.1f} "
                f"{usage.ru_maxrss / 1024:8.0f} {figures['disk'] / 1e6:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
