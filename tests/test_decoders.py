import torch

from capcli.decoders import NEVER_PRINTED
from capcli.encoders import Features
from capcli.model import CaptionModel
from capcli.vocabulary import START, UNKNOWN


def features(batch: int, seed: int = 0) -> Features:
    annotations = torch.randn(batch, 4, 1280, generator=torch.Generator().manual_seed(seed))
    return Features(annotations, annotations.mean(1))


def test_teacher_forcing_equals_stepping(tiny_model: CaptionModel) -> None:
    decoder, given = tiny_model.decoder, features(2)
    words = torch.tensor([[[START, 4, 5, 9], [START, 6, 9, 10]], [[START, 7, 8, 4], [START, UNKNOWN, 5, 5]]])
    reading = decoder(given, words)
    state = decoder.start(given, 2)
    printable = [i for i in range(len(tiny_model.vocabulary)) if i not in NEVER_PRINTED]
    for time in range(4):
        step = decoder.step(words[:, :, time], state)
        state = step.state
        assert torch.allclose(step.logits[..., printable], reading.logits[:, :, time][..., printable], atol=1e-5)
        assert torch.allclose(step.attention, reading.attention[:, :, time], atol=1e-6)
        assert torch.allclose(step.gate, reading.gate[:, :, time], atol=1e-6)
        assert (step.logits[..., NEVER_PRINTED] == -torch.inf).all()
        assert torch.allclose(step.attention.sum(2), torch.ones(2, 2), atol=1e-6)


def test_beams_of_one_image_do_not_mix(tiny_model: CaptionModel) -> None:
    decoder, given = tiny_model.decoder, features(1)
    state = decoder.step(torch.tensor([[4, 5, 6]]), decoder.start(given, 3)).state
    moved = decoder.step(torch.tensor([[7, 8, 9]]), state.reorder(torch.tensor([[2, 2, 0]])))
    alone = decoder.step(torch.tensor([[6]]), decoder.start(given, 1)).state
    expected = decoder.step(torch.tensor([[7]]), alone)
    assert torch.allclose(moved.logits[0, 0], expected.logits[0, 0], atol=1e-5)
    assert not torch.allclose(moved.logits[0, 2], decoder.step(torch.tensor([[9]]), alone).logits[0, 0], atol=1e-3)


def test_kept_images_go_on_as_if_alone(tiny_model: CaptionModel) -> None:
    decoder, given = tiny_model.decoder, features(3)
    words = torch.tensor([[4], [5], [6]])
    state = decoder.step(words, decoder.start(given)).state
    kept = decoder.step(torch.tensor([[7], [7]]), state.keep(torch.tensor([0, 2])))
    everyone = decoder.step(torch.full((3, 1), 7), state)
    assert torch.allclose(kept.logits, everyone.logits[[0, 2]], atol=1e-5)
