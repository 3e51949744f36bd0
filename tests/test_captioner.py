import dataclasses
import hashlib
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from fakes import PHOTOS
from PIL import Image

from capcli import Caption, Captioner, ImageError
from capcli.captioner import BATCHES_AHEAD, BLANK
from capcli.checkpoints.caption_model import CaptionModel
from capcli.decoding.options import DecodingOptions
from capcli.engines.torch import TorchEngine, choose_device
from capcli.explaining.reading import explain
from capcli.images.decode import open_square, to_pixels
from capcli.model.vocabulary import SPECIAL_WORDS


@pytest.fixture
def captioner(tiny_model: CaptionModel) -> Captioner:
    return Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32"))


@pytest.fixture
def hard_model(tiny_model: CaptionModel) -> CaptionModel:
    """The same weights behind hard attention."""
    model = CaptionModel(dataclasses.replace(tiny_model.config, decoder="hard"), tiny_model.vocabulary)
    model.load_state_dict(tiny_model.state_dict())
    return model


def test_paths_pictures_and_lists_agree(captioner: Captioner) -> None:
    path = PHOTOS / "coffee.jpg"
    by_path = captioner.caption(str(path))
    assert by_path.text == captioner.caption(path).text
    assert by_path.path == str(path)
    assert captioner.caption(Image.open(path)).text == by_path.text
    several = captioner.caption([path, PHOTOS / "chelsea.jpg"])
    assert [c.path for c in several] == [str(path), str(PHOTOS / "chelsea.jpg")]
    assert several[0].text == by_path.text


def test_what_a_caption_says_of_itself(captioner: Captioner) -> None:
    caption = captioner.caption(PHOTOS / "coffee.jpg", num=4)
    assert isinstance(caption, Caption)
    assert len(caption.candidates) == 4
    assert caption.candidates[0].text == caption.text
    assert [c.score for c in caption.candidates] == sorted((c.score for c in caption.candidates), reverse=True)
    for candidate in caption.candidates:
        assert captioner.vocabulary.decode(captioner.vocabulary.ids[w] for w in candidate.words) == candidate.text
        assert len(candidate.word_log_probs) == len(candidate.words) + 1
        assert candidate.log_prob == pytest.approx(sum(candidate.word_log_probs))
        assert candidate.score == pytest.approx(candidate.log_prob / (len(candidate.words) + 1) ** 0.7, abs=1e-4)
        assert candidate.attention.shape == (len(candidate.words), 2, 2)
        assert np.allclose(candidate.attention.sum((1, 2)), 1, atol=1e-5)
        assert not set(candidate.words) & set(SPECIAL_WORDS)


def test_a_stream_keeps_order_and_survives_bad_files(captioner: Captioner, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    paths = [PHOTOS / "coffee.jpg", tmp_path / "bad.jpg", PHOTOS / "chelsea.jpg", PHOTOS / "astronaut.jpg"] * 5
    results = list(captioner.stream(paths, batch_size=3))
    assert [r.path for r in results] == [str(path) for path in paths]
    assert [isinstance(r, ImageError) for r in results] == [False, True, False, False] * 5
    alone = {str(p): captioner.caption(p).text for p in paths[:4:2]}
    for result in results:
        if result.path in alone:
            assert result.text == alone[result.path]


def test_a_stream_is_lazy(captioner: Captioner) -> None:
    asked = []

    def endless():
        while True:
            asked.append(PHOTOS / "coffee.jpg")
            yield asked[-1]

    stream = captioner.stream(endless(), batch_size=2)
    assert next(stream).text
    assert len(asked) <= 2 * (BATCHES_AHEAD + 1) + 1  # one more was given out
    stream.close()


def test_a_bad_file_raises(captioner: Captioner, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        captioner.caption(tmp_path / "absent.jpg")


def test_an_image_is_opened_for_the_model_or_its_error_is_kept(captioner: Captioner, tmp_path: Path) -> None:
    name, pictures = captioner.open(PHOTOS / "coffee.jpg", photo_side=80)
    assert name == str(PHOTOS / "coffee.jpg")
    square, photo = pictures  # type: ignore[misc]
    assert square.size == (64, 64)
    assert max(photo.size) == 80
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    name, error = captioner.open(str(tmp_path / "bad.jpg"))
    assert (name, type(error)) == (str(tmp_path / "bad.jpg"), ImageError)
    assert captioner.open(PHOTOS / "coffee.jpg", max_pixels=100)[1].kind == "more than the limit of 100"  # type: ignore[union-attr]
    assert captioner.open(error) == (error.path, error)  # type: ignore[arg-type, union-attr]


def test_captions_among_the_images_are_passed_on(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    made = captioner.caption(PHOTOS / "coffee.jpg")
    known, error = dataclasses.replace(made, path="known.jpg"), ImageError("bad.jpg", "gone")
    results = list(captioner.stream([known, PHOTOS / "coffee.jpg", error, known]))
    assert (results[0], results[2], results[3]) == (known, error, known)
    assert (results[1].path, results[1].text) == (made.path, made.text)  # type: ignore[union-attr]
    for name in ("prepare", "encode"):
        monkeypatch.setattr(captioner.engine, name, None)  # which takes no call
    assert list(captioner.stream([known, error])) == [known, error]


def test_a_fingerprint_tells_what_captions_depend_on(
    tiny_copy: Path, tiny_captioner: Captioner, captioner: Captioner
) -> None:
    options = tiny_captioner.options
    prints = [
        tiny_captioner.fingerprint(3, options),
        tiny_captioner.fingerprint(4, options),
        tiny_captioner.fingerprint(3, dataclasses.replace(options, ban=("cat",))),
        Captioner.load(tiny_copy, "cpu", "fp32", engine="torch").fingerprint(3, options),
        Captioner.load(tiny_copy, "cpu", "bf16").fingerprint(3, options),
    ]
    assert [len(each) for each in prints] == [32] * 5
    assert len(set(prints)) == 5
    same = Captioner.load(tiny_copy, "cpu")  # in another folder, with another number of workers
    assert same.fingerprint(3, dataclasses.replace(options, seed=1)) == prints[0]
    weights = tiny_copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert Captioner.load(tiny_copy, "cpu").fingerprint(3, options) != prints[0]
    with pytest.raises(ValueError, match="not loaded from a checkpoint folder"):
        captioner.fingerprint(3, options)


def test_options_are_heeded(captioner: Captioner) -> None:
    short = captioner.caption(PHOTOS / "coffee.jpg", options=DecodingOptions(2, max_length=2))
    assert len(short.words) <= 2


@pytest.fixture
def comparing(tiny_model: CaptionModel) -> Captioner:
    """The same captioner, which can also compare sentences with photos."""
    config = dataclasses.replace(tiny_model.config, agreement=30.0, agreement_size=8)
    model = CaptionModel(config, tiny_model.vocabulary)
    model.load_state_dict(tiny_model.state_dict(), strict=False)
    return Captioner(TorchEngine(model, torch.device("cpu"), "fp32"))


def test_agreement_with_the_photo_ranks_what_the_beam_has_found(comparing: Captioner, captioner: Captioner) -> None:
    changed = 0
    for path in sorted(PHOTOS.glob("*.jpg")):
        plain, compared = captioner.caption(path, 3).candidates, comparing.caption(path, 3).candidates
        before = {candidate.text: candidate for candidate in plain}
        assert before.keys() == {candidate.text for candidate in compared}
        features = comparing.engine.encode(to_pixels(open_square(path, 64))[None])
        for candidate in compared:
            ids = np.array([[[comparing.vocabulary.ids[word] for word in candidate.words]]])
            cosine = comparing.engine.agree(features, ids).item()
            assert candidate.score == pytest.approx(before[candidate.text].score + 30 * cosine, abs=1e-3)
            assert candidate.log_prob == pytest.approx(before[candidate.text].log_prob, abs=1e-4)
            assert np.allclose(candidate.attention, before[candidate.text].attention, atol=1e-5)
        scores = [candidate.score for candidate in compared]
        assert scores == sorted(scores, reverse=True)
        without = comparing.caption(path, 3, dataclasses.replace(comparing.options, agreement=0.0))
        assert [c.text for c in without.candidates] == [c.text for c in plain]
        changed += [c.text for c in compared] != [c.text for c in plain]
    assert changed


def test_a_sentence_is_scored_as_a_caption_is(comparing: Captioner) -> None:
    path = PHOTOS / "chelsea.jpg"
    found = comparing.caption(path, 3).candidates
    for read, candidate in zip(explain(comparing, path, [c.text for c in found]), found, strict=True):
        assert read.score == pytest.approx(candidate.score, abs=1e-4)


def test_gains_are_those_of_each_sentence_alone(captioner: Captioner) -> None:
    candidates = [c for caption in captioner.caption(sorted(PHOTOS.glob("*.jpg")), num=4) for c in caption.candidates]
    assert len({c.words for c in candidates}) > 4
    alone = [captioner.gains([candidate])[0] for candidate in candidates]
    assert captioner.gains(candidates) == pytest.approx(alone, abs=1e-4)
    assert captioner.gains([]) == []
    size = captioner.config.image_size
    blank = np.full((1, size, size, 3), BLANK, np.uint8)
    (said_of_nothing,) = captioner.caption_pixels(blank, ["blank"], 1, captioner.options)
    assert captioner.gains([said_of_nothing]) == pytest.approx([0], abs=1e-4)


def test_a_caption_is_unsure_where_there_is_nothing_to_see(tiny_model: CaptionModel) -> None:
    photos: list[Image.Image] = [Image.open(path) for path in sorted(PHOTOS.glob("*.jpg"))]
    transparent = Image.linear_gradient("L").convert("LA")
    transparent.putalpha(0)
    nothing = [Image.new("RGB", (1, 1), "red"), Image.new("RGB", (300, 200), "navy"), transparent]
    captions = Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32")).caption([*photos, *nothing])
    assert [c.unsure for c in captions] == [False] * 3 + [True] * 3
    assert [c.gain for c in captions] == [None] * 6  # this checkpoint does not say what is little
    assert all(c.words for c in captions)
    gains = Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32")).gains(
        [caption.best for caption in captions]
    )
    tiny_model.config = dataclasses.replace(tiny_model.config, unsure_below=sorted(gains[:3])[1] - 1e-3)
    captions = Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32")).caption([*photos, *nothing])
    assert [c.gain for c in captions] == pytest.approx(gains, abs=1e-4)
    assert sum(c.unsure for c in captions[:3]) == 1
    assert all(c.unsure for c in captions[3:])


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("cuda:99", "toaster", "meta", "fpga", ""):
        with pytest.raises(ValueError, match=f"device '{name}' cannot be used"):
            choose_device(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_gives_the_captions_of_the_cpu(tiny_checkpoint: Path) -> None:
    paths = sorted(PHOTOS.glob("*.jpg"))
    on_cpu = Captioner.load(tiny_checkpoint, "cpu").caption(paths)
    on_cuda = Captioner.load(tiny_checkpoint, "cuda").caption(paths)
    assert [c.text for c in on_cpu] == [c.text for c in on_cuda]


def test_precision_changes_no_model(tiny_model: CaptionModel) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    half = Captioner(TorchEngine(tiny_model, torch.device("cpu"), "bf16")).caption(PHOTOS / "coffee.jpg")
    assert np.allclose(half.attention.sum((1, 2)), 1, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_model.state_dict().items())
    with pytest.raises(ValueError, match="precision 'half' is not known"):
        Captioner(TorchEngine(tiny_model, torch.device("cpu"), "half"))


LEAVES_ALONE = """
import sys, warnings
import torch
from PIL import Image
from capcli import Captioner, DecodingOptions

def state():
    ours = torch.get_num_threads(), torch.get_rng_state().tolist()
    return *ours, Image.MAX_IMAGE_PIXELS, list(Image.ID), list(warnings.filters)

def never(*_):
    raise AssertionError("this is the whole process's")

Image.init()
before = state()
torch.manual_seed = torch.set_num_threads = never
captioner = Captioner.load(sys.argv[1], "cpu", workers=2)
photo = sys.argv[2]
for options in (captioner.options, DecodingOptions(sample=True, seed=1), DecodingOptions(attention_samples=4, seed=1)):
    stream = captioner.stream([photo] * 9, 2, options, 2, 1_000_000)
    next(stream)
    stream.close()
    assert len(list(captioner.stream([photo] * 9, 2, options, 2, 1_000_000))) == 9
assert state() == before
assert "capcli.cli" not in sys.modules  # which sets up malloc, and what else is the whole process's
"""


@pytest.mark.slow
def test_the_process_is_left_as_it_was(hard_model: CaptionModel, tmp_path: Path) -> None:
    hard_model.save(tmp_path / "hard")
    command = [sys.executable, "-c", LEAVES_ALONE, str(tmp_path / "hard"), str(PHOTOS / "coffee.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert (done.returncode, done.stderr) == (0, "")


OPTIONS = (
    DecodingOptions(beam=1),
    DecodingOptions(beam=5, no_repeat=1),
    DecodingOptions(max_length=2),
    DecodingOptions(diversity=2.0),
    DecodingOptions(sample=True),
    DecodingOptions(sample=True, temperature=0.5, top_p=0.9, attention_samples=3),
    DecodingOptions(attention_samples=16),
    DecodingOptions(attention_samples=2, beam=4),
)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_threads_with_different_options_get_what_one_thread_gets(
    hard_model: CaptionModel, workers: int, engine: str, tmp_path: Path
) -> None:
    hard_model.save(tmp_path)
    captioner = Captioner.load(tmp_path, "cpu", "fp32", workers, engine)
    photos = [PHOTOS / name for name in ("coffee.jpg", "chelsea.jpg", "astronaut.jpg")] * 3
    # With a seed batches are always cut alike, and so add up alike to the last bit.
    options = [dataclasses.replace(each, seed=number) for number, each in enumerate(OPTIONS)]

    def caption(each: DecodingOptions) -> list[tuple]:
        results = captioner.stream(photos, 3, each, batch_size=2)
        return [(c.text, c.word_log_probs, c.attention.tolist()) for r in results for c in r.candidates]  # type: ignore[union-attr]

    alone = [caption(each) for each in options]
    together = threading.Barrier(len(options), timeout=1800)

    def caption_with_others(each: DecodingOptions) -> list[list[tuple]]:
        together.wait()
        return [caption(each) for _ in range(5)]

    with ThreadPoolExecutor(len(options)) as pool:
        for expected, found in zip(alone, pool.map(caption_with_others, options), strict=True):
            assert found == [expected] * 5


def test_what_is_given_in_memory_is_captioned_as_files_are(captioner: Captioner, tmp_path: Path) -> None:
    path = PHOTOS / "coffee.jpg"
    expected = captioner.caption(path).text
    for source, name in (
        (path.read_bytes(), "image"),
        (io.BytesIO(path.read_bytes()), "image"),
        (path.open("rb"), str(path)),
    ):
        assert (captioner.caption(source).text, captioner.caption(source).path) == (expected, name)
    assert [c.text for c in captioner.caption((path.read_bytes(), path))] == [expected] * 2
    assert [c.text for c in captioner.caption(path for _ in range(2))] == [expected] * 2  # type: ignore[arg-type]
    assert explain(captioner, path.read_bytes(), ["a cat"])[0].gain == explain(captioner, path, ["a cat"])[0].gain
    with pytest.raises(ImageError, match="image: not an image"):
        captioner.caption(b"no picture")


def test_files_are_read_when_their_turn_comes(captioner: Captioner) -> None:
    """So a generator may close each before it opens the next, and one file may come twice."""
    expected = captioner.caption(PHOTOS / "coffee.jpg").text

    def files() -> Iterator[BinaryIO]:
        for _ in range(20):
            with (PHOTOS / "coffee.jpg").open("rb") as file:
                yield file
                yield file

    assert [c.text for c in captioner.stream(files(), batch_size=4)] == [expected] * 40  # type: ignore[union-attr]
    closed = io.BytesIO()
    closed.close()
    results = list(captioner.stream([closed, PHOTOS / "coffee.jpg"]))
    assert [str(results[0]), results[1].text] == ["image: I/O operation on closed file.", expected]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (None, "an image is a path, .* not NoneType"),
        (7, "not int"),
        ([None], "not NoneType"),
        ([PHOTOS / "coffee.jpg", [PHOTOS / "coffee.jpg"]], "not list"),
        (np.zeros((8, 8, 3), "uint8"), r"pass PIL\.Image\.fromarray"),
        ([np.zeros((8, 8, 3), "uint8")], r"pass PIL\.Image\.fromarray"),
        (torch.zeros(3, 8, 8), r"pass PIL\.Image\.fromarray"),
        (io.StringIO("a.jpg"), "open it with mode 'rb'"),
    ],
)
def test_what_is_no_image_is_refused_with_what_to_pass(captioner: Captioner, thing: object, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        captioner.caption(thing)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=said if not isinstance(thing, io.StringIO) else "put it into a list"):
        list(captioner.stream(thing))  # type: ignore[arg-type]


def test_one_image_is_no_stream(captioner: Captioner) -> None:
    photo = PHOTOS / "coffee.jpg"
    for one in (str(photo), photo, photo.read_bytes(), io.BytesIO(photo.read_bytes()), Image.open(photo)):
        with pytest.raises(TypeError, match="expected several images, got one; put it into a list"):
            list(captioner.stream(one))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="put it into a list"):
        explain(captioner, photo, "a cat")


def test_attention_is_the_callers_own(captioner: Captioner) -> None:
    results = list(captioner.stream([PHOTOS / "coffee.jpg"] * 8, batch_size=8))
    attention = results[0].attention
    attention -= attention.min()
    assert attention.flags.owndata  # and no view of its whole batch
    explained = explain(captioner, PHOTOS / "coffee.jpg", ["a cat", "a dog"])
    assert explained[0] != explained[1]
    explained[0].attention[:] *= 2


def test_absurd_numbers_are_refused(captioner: Captioner) -> None:
    for numbers in ({"num": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="both are 1 or more"):
            next(captioner.stream([PHOTOS / "coffee.jpg"], **numbers))


def test_the_engine_has_got_ready_when_a_stream_ends(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ready = threading.Event(), []

    def prepare() -> None:
        begun.set()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)  # C code, without Python's lock
        ready.append(True)

    monkeypatch.setattr(captioner.engine, "prepare", prepare)
    stream = captioner.stream([b""])
    assert isinstance(next(stream), ImageError)
    assert begun.wait(1800)
    stream.close()
    assert ready
