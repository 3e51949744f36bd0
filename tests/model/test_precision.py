import os
import subprocess
import sys

import pytest
import torch

from capcli.model.precision import PRECISIONS, choose_precision, choose_training_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True, "avx512_bf16": False}, "fp32")],
)
def test_auto_asks_the_processor(monkeypatch: pytest.MonkeyPatch, capabilities: dict, expected: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False)
    assert choose_precision("auto", CPU) == expected


@pytest.mark.slow
def test_auto_heeds_what_the_processor_may_not_use() -> None:
    script = (
        "import torch; from capcli.model.precision import choose_precision as c; print(c('auto', torch.device('cpu')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=True,
        timeout=1800,
    )
    assert done.stdout == "fp32\n"


def test_auto_is_fp32_where_pytorch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("auto", torch.device("mps")) == "fp32"


def test_what_is_asked_for_is_taken_or_refused() -> None:
    assert [choose_precision(name, CPU) for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert choose_precision("fp16", torch.device("cuda")) == "fp16"
    with pytest.raises(ValueError, match="fp16 is for GPUs"):
        choose_precision("fp16", CPU)
    with pytest.raises(ValueError, match="precision 'int8' is not known; there are auto, fp32, bf16, fp16"):
        choose_precision("int8", CPU)
    with pytest.raises(ValueError, match="fp16 is for captioning"):
        choose_training_precision("fp16", torch.device("cuda"))
    assert choose_training_precision("bf16", CPU) == "bf16"
    assert set(PRECISIONS) == {"fp32", "bf16", "fp16"}
