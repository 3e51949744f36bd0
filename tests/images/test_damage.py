"""Damaged images in eight formats: no crash, no hang, no flood of memory, nothing on stdout.

CAPCLI_FULL_TESTS=1 pytest tests/images/test_damage.py runs 2,000 mutations instead of 160.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from damage import MUTATIONS, mutate, samples, try_to_open

from capcli.images.decode import open_square
from capcli.results import ImageError

SECONDS = 10
MEGABYTES = 1000


@pytest.mark.slow
@pytest.mark.timeout(max(1800, MUTATIONS * SECONDS))
def test_damaged_images_cost_an_error_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    files = list(samples().values())
    monkeypatch.chdir(tmp_path)
    results = []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            for seed in range(MUTATIONS):
                # A crash breaks the pool and a hang runs into the limit; the seed is in the traceback's locals.
                try:
                    result, memory = pool.submit(try_to_open, mutate(seed, files)).result(SECONDS + 20 * (seed == 0))
                except Exception as error:
                    raise AssertionError(f"seed {seed}: {error!r}") from None
                assert memory < MEGABYTES, f"seed {seed}: {memory} MB"
                assert result, f"seed {seed}"
                assert "\n" not in result, f"seed {seed}"
                results.append(result)
        finally:
            for process in list(pool._processes.values()):
                process.kill()
    assert len(results) == MUTATIONS
    read = sum(result == "RGB (64, 64)" for result in results)
    assert MUTATIONS * 0.1 < read < MUTATIONS * 0.9  # it damages, but not everything beyond recognition
    assert capfd.readouterr().out == ""


def test_an_enormous_image_is_refused_by_its_header(tmp_path: Path) -> None:
    header = samples()["BMP"]
    (tmp_path / "bomb.bmp").write_bytes(header[:18] + (60000).to_bytes(4, "little") * 2 + header[26:])
    with pytest.raises(ImageError, match="more than the limit of 100,000,000"):
        open_square(tmp_path / "bomb.bmp", 64)
