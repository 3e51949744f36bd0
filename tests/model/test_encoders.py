import pytest
import torch

from capcli.model.config import ENCODERS, ModelConfig
from capcli.model.encoders import EfficientNetLite2, fold_batch_norm, make_encoder, pretrained_weights


@pytest.fixture(scope="module")
def imagenet() -> dict[str, torch.Tensor]:
    return pretrained_weights("efficientnet_lite2")


@pytest.mark.parametrize("size", [224, 225, 260])
def test_every_stage_equals_the_published_network(imagenet: dict[str, torch.Tensor], size: int) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_name("efficientnet-lite2", image_size=[size, size]).eval()
    theirs.load_state_dict(imagenet)
    ours = EfficientNetLite2().eval()
    ours.load_pretrained(imagenet)
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
    coarse.load_pretrained(imagenet)
    dense.load_pretrained(imagenet)
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
    with pytest.raises(ValueError, match="encoder_stride is 16; resnet50 has 32"):
        ModelConfig(encoder="resnet50", encoder_stride=16)
    with pytest.raises(ValueError, match="stride 32 or 16, not 8"):
        make_encoder("efficientnet_lite2", 8)
    with pytest.raises(ValueError, match="'alexnet' is not known; there are efficientnet_lite2, vgg16"):
        make_encoder("alexnet", 32)


def test_weights_of_another_network_are_refused(imagenet: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="not the weights"):
        EfficientNetLite2().load_pretrained({name: t for name, t in imagenet.items() if "head" not in name})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "grid", "channels", "pooled"),
    [
        ("vgg16", 14, 512, 4096),
        ("resnet50", 7, 2048, 2048),
        ("resnet101", 7, 2048, 2048),
        ("mobilenet_v3_large", 7, 960, 960),
        ("convnext_tiny", 7, 768, 768),
    ],
)
def test_torchvision_encoders_equal_the_network_up_to_its_classifier(
    name: str, grid: int, channels: int, pooled: int
) -> None:
    from torchvision import models
    from torchvision.transforms import Normalize

    torch.manual_seed(0)
    network = models.get_model(name, weights=None).eval()
    encoder = make_encoder(name, ENCODERS[name].strides[0]).eval()
    encoder.load_pretrained(network.state_dict())
    pixels = torch.randint(0, 256, (1, 3, 224, 224), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    seen = {}
    classifier = network.fc if name.startswith("resnet") else network.classifier
    last = network.classifier[6] if name == "vgg16" else classifier[2] if name.startswith("convnext") else classifier
    last.register_forward_pre_hook(lambda module, inputs: seen.update(pooled=inputs[0]))
    with torch.no_grad():
        network(Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(pixels / 255))
        features = encoder(pixels)
    assert features.annotations.shape == (1, grid * grid, channels) == (1, grid * grid, encoder.kind.annotation_size)
    assert features.global_vector.shape == (1, pooled) == (1, encoder.kind.global_size)
    assert 224 // encoder.stride == grid
    assert torch.allclose(features.global_vector, seen["pooled"], atol=1e-5)
    names = set(dict(encoder.named_parameters()))
    assert not any("classifier" in name or "fc." in name for name in names)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="Error"):
        make_encoder("resnet50", 32).load_pretrained({})


@pytest.mark.parametrize("name", ["efficientnet_lite2", "resnet50", "mobilenet_v3_large", "convnext_tiny"])
def test_folded_batch_norm_computes_the_same(name: str) -> None:
    torch.manual_seed(2)
    encoder = make_encoder(name, 32)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained
            module.momentum = 1
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    pixels = torch.rand(8, 3, 1, 1) * torch.rand(8, 3, 64, 64) * 255
    with torch.no_grad():
        encoder.train()(pixels)
        before = {key: tensor.clone() for key, tensor in encoder.eval().state_dict().items()}
        expected = encoder(pixels)
        folded = fold_batch_norm(encoder)
        found = folded(pixels)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    for theirs, ours in ((expected.annotations, found.annotations), (expected.global_vector, found.global_vector)):
        assert (theirs - ours).abs().max() <= 1e-4 * theirs.abs().max()
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.state_dict().items())
