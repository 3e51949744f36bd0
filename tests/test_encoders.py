import pytest
import torch

from capcli.encoders import EfficientNetLite2, imagenet_lite2


@pytest.fixture(scope="module")
def imagenet() -> dict[str, torch.Tensor]:
    return imagenet_lite2()


@pytest.mark.parametrize("size", [224, 225, 260])
def test_every_stage_equals_the_published_network(imagenet: dict[str, torch.Tensor], size: int) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_name("efficientnet-lite2", image_size=[size, size]).eval()
    theirs.load_state_dict(imagenet)
    ours = EfficientNetLite2().eval()
    ours.load_imagenet(imagenet)
    pixels = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    x = y = (pixels.float() - 127) / 128
    with torch.no_grad():
        x = ours.stem(x)
        y = theirs._swish(theirs._bn0(theirs._conv_stem(y)))
        assert (x - y).abs().max() <= 1e-4
        blocks = iter(theirs._blocks)
        for stage in ours.stages:
            x = stage(x)
            for _ in stage:
                y = next(blocks)(y)
            assert x.shape == y.shape
            assert (x - y).abs().max() <= 1e-4
        assert next(blocks, None) is None
        y = theirs._swish(theirs._bn1(theirs._conv_head(y)))
        features = ours(pixels)
    assert (features.annotations - y.flatten(2).transpose(1, 2)).abs().max() <= 1e-4
    assert (features.global_vector - y.mean((2, 3))).abs().max() <= 1e-4


def test_the_denser_grid_refines_the_coarse_one(imagenet: dict[str, torch.Tensor]) -> None:
    coarse, dense = EfficientNetLite2(32).eval(), EfficientNetLite2(16).eval()
    coarse.load_imagenet(imagenet)
    dense.load_imagenet(imagenet)
    pixels = torch.randint(0, 256, (1, 3, 224, 224), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a = coarse.stages(coarse.stem((pixels - 127) / 128))
        b = dense.stages(dense.stem((pixels - 127) / 128))
    assert a.shape[2:] == (7, 7)
    assert b.shape[2:] == (14, 14)
    # Away from the border the strided network computes exactly every other cell of the dense one: TensorFlow's SAME
    # puts the kernel's centre on the odd cells.
    inner = slice(3, 4)
    assert torch.allclose(a[:, :, inner, inner], b[:, :, 1::2, 1::2][:, :, inner, inner], atol=1e-3)


def test_a_grid_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="stride 16 or 32, not 8"):
        EfficientNetLite2(8)


def test_weights_of_another_network_are_refused(imagenet: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="not the weights"):
        EfficientNetLite2().load_imagenet({name: t for name, t in imagenet.items() if "head" not in name})
