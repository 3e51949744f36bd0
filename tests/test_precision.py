import pytest
import torch

from capcli.precision import PRECISIONS, choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True, "avx512_bf16": False}, "fp32")],
)
def test_auto_asks_the_processor(monkeypatch: pytest.MonkeyPatch, capabilities: dict, expected: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto", CPU) == expected


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
    assert set(PRECISIONS) == {"fp32", "bf16", "fp16"}
