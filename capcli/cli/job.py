"""Captioning on a Ray cluster: checked, listed here, and handed out to its machines."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcli.cli.loading import decoding_options, load_captioner
from capcli.cli.messages import fail, say
from capcli.cli.options import ClusterOptions, ModelOptions, Sources, Writing
from capcli.cli.rules import refuse, require_presence, source_rules
from capcli.cli.run import Run, count, tell_nothing_found
from capcli.cli.signals import Stop
from capcli.cli.streams import NoOutput
from capcli.files import LockedFolder, OutputError
from capcli.images.decode import STANDARD_INPUT
from capcli.images.find import find_images, natural, read_names
from capcli.installing import install_line
from capcli.outputs.formats import format_by_ending
from capcli.outputs.parquet import ParquetFolder, check_parquet, check_place
from capcli.outputs.rows import Layout
from capcli.progress import CaptionBar
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.distributed.actor import Orders, Report
    from capcli.distributed.listing import Listing
    from capcli.distributed.output import Done


@dataclass
class Job:
    """Hold the options of `capcli cluster` as given, and carry them out."""

    paths: list[str]
    output: str
    cluster: ClusterOptions
    sources: Sources
    decoding: dict[str, Any]
    writing: Writing
    model: ModelOptions
    num: int

    def run(self) -> int:
        """Caption, and return the exit status; exit with a line for options that cannot be followed."""
        refuse(source_rules(self.paths, self.sources), self.rules())
        require_presence([path for path in self.paths if "://" not in path], self.sources.files_from)
        try:
            check_parquet(self.output)
            check_place(self.output, self.writing.resume, "--resume")
        except OutputError as error:
            fail(error)
        check_packages()
        orders = self.orders()

        from capcli.distributed.manifest import ManifestError

        run = Run(ParquetFolder(NoOutput(self.output), Layout(self.num)))
        try:
            with closing(LockedFolder(Path(self.output))):
                return self.fill(run, orders)
        except (OutputError, ManifestError) as error:
            fail(error)
        except OSError as error:
            fail(OutputError(self.output, error), 1)

    def rules(self) -> Iterator[tuple[object, str]]:
        """Yield rules about options that a cluster cannot follow, or that contradict each other."""
        output, resume = self.output, self.writing.resume
        yield "://" in output, f"--output {output}: must be a folder that all machines share"
        is_file = output == STANDARD_INPUT or format_by_ending(output) is not None
        yield is_file, f"--output {output}: must be a FOLDER/, which gets Parquet files"
        yield self.cluster.retry_failed and not resume, "--retry-failed needs --resume"
        listed = self.sources.files_from is not None
        yield self.cluster.column is not None and listed, "--column cannot be combined with --files-from"
        yield STANDARD_INPUT in self.paths, "- stands for an image on stdin, which a cluster cannot read"

    def orders(self) -> Orders:
        """Return the actors' orders, or exit with a line if the checkpoint cannot follow them."""
        from capcli import __version__
        from capcli.distributed.actor import Orders
        from capcli.distributed.reach import Reach

        model, most = self.model.model, self.sources.max_pixels
        captioner = load_captioner(replace(self.model, device="cpu"), most)  # there may be no GPU here
        return Orders(
            os.path.abspath(self.output),
            Reach(os.getcwd(), self.cluster.allow_https),
            __version__,
            os.path.abspath(model) if model is not None and os.path.isdir(model) else model,
            "cuda" if self.cluster.gpus_per_actor else "cpu",
            num=self.num,
            options=decoding_options(captioner, self.decoding, self.num),
            max_pixels=most,
            prepare=functools.partial(set_up_actor, most),
        )

    def fill(self, run: Run, orders: Orders) -> int:
        """Caption what the output lacks, and return the exit status. Raises OSError, OutputError and ManifestError."""
        from capcli.distributed.output import Done, clear, settle

        output, retries = Path(orders.output), self.cluster.retry_failed
        for line in clear(output):
            say(line)
        shards, named = divided(self.paths)
        done = settle(output, shards) if self.writing.resume else Done()
        listing = self.list_blocks(run, shards, named, orders, done)
        for failure in listing.failures:
            run.found += 1
            run.fail([failure])
        status = 0
        if listing.blocks:
            total = None if shards else listing.rows + listing.skipped + run.found
            bar = CaptionBar(sys.stderr.isatty(), None if total is None else lambda: total)
            status = self.hand_out(run, listing, orders, bar)
            if retries:
                settle(output, shards)
        elif not (run.found or run.skipped):
            return tell_nothing_found(self.paths, self.sources.files_from)
        if status == 2 or status > 128:
            return status
        run.summarise(False)
        if done.failed and not retries:
            say(f"{count(len(done.failed), 'image')} failed in earlier runs; --retry-failed tries again")
        return status or int(bool(run.failed or (done.failed and not retries)))

    def list_blocks(self, run: Run, shards: list[str], named: list[str], orders: Orders, done: Done) -> Listing:
        """Return what is to be captioned.

        shards, named: from `divided`.
        done: what the output has.

        Raises OutputError and ManifestError.
        """
        from capcli.distributed.listing import BLOCK_ROWS, Listing
        from capcli.distributed.manifest import ManifestError
        from capcli.distributed.output import first_number

        output, column = Path(orders.output), self.cluster.column
        listing = Listing(orders.reach, done, self.cluster.retry_failed, BLOCK_ROWS, first_number(output))
        if column is not None:
            if shards:
                fail(f"{shards[0]}: --column does not apply to shards")
            for file in manifests(named):
                listing.add_manifest(file, column)
        else:
            listing.add_paths(self.images(run, named))
            listing.add_shards(shards, output)
        known, others = done.others, listing.others
        if not shards and known is not None and others is not None and not known.equals(others):
            raise ManifestError(f"{output}: has other columns besides the captions; name another folder")
        run.skipped = listing.skipped
        check_protocols(listing.protocols, orders)
        return listing

    def images(self, run: Run, named: list[str]) -> Iterator[str | ImageError]:
        """Yield the images that arguments and --files-from name. run: counts pictures drawn by capcli."""
        for argument in named:
            if argument.lower().endswith(".parquet"):
                fail(f"{argument}: needs --column NAME, the column that holds the images")
            if "://" in argument:
                yield argument
            else:
                yield from find_images([argument], self.sources.selection, run.pass_over)
        if self.sources.files_from is not None:
            yield from read_names(self.sources.files_from)

    def hand_out(self, run: Run, listing: Listing, orders: Orders, bar: CaptionBar) -> int:
        """Have the blocks captioned, and return the exit status.

        bar: shows progress; closed at the end.
        """
        from capcli.distributed.cluster import Cluster, ClusterError

        gpus, has_captions = self.cluster.gpus_per_actor, False
        try:
            with Cluster(self.cluster.address, say) as connected:
                actors = connected.count_actors(self.cluster.actors, gpus)
                for report in connected.caption(listing.blocks, orders, actors, gpus):
                    if report.trouble:
                        say(report.trouble)
                        return 1
                    has_captions = True
                    with bar.aside():
                        keep(run, report)
                    bar.update(run.found + run.skipped, run.failed)
        except ClusterError as error:
            say(error)
            return 1 if has_captions else 2
        except Stop as stop:
            say("interrupted; to continue, run the same command with --resume")
            return stop.code
        finally:
            bar.close()
        return 0


def check_packages() -> None:
    """Exit with a line if the extra's packages are missing."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("ray", "pandas", "fsspec")):
        fail(f"a cluster needs extra packages: {install_line('ray')}")


def check_protocols(protocols: set[str], orders: Orders) -> None:
    """Raise ManifestError for a kind of URL that may not or cannot be fetched."""
    from capcli.distributed.manifest import ManifestError
    from capcli.distributed.reach import file_system

    for protocol in sorted(protocols):
        reason = orders.reach.refusal(protocol)
        if protocol == "https" and reason:
            raise ManifestError(reason)
        try:
            if reason is None:
                file_system(protocol)
        except ImportError as error:
            raise ManifestError(f"{protocol}:// needs another package: {error}") from None


def set_up_actor(max_pixels: int) -> None:
    """Set up an actor's process like the command line's."""
    from capcli.cli.native import silence_libtiff
    from capcli.cli.process import set_up_process

    silence_libtiff()
    set_up_process(max_pixels)


def divided(paths: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that are WebDataset shards, globs resolved, and the others."""
    from capcli.distributed.listing import SHARD_ENDINGS

    shards: list[str] = []
    named: list[str] = []
    for path in paths:
        if not path.lower().endswith(SHARD_ENDINGS) or os.path.isdir(path):
            named.append(path)
        else:
            shards += [path] if "://" in path else [found for found in find_images([path]) if isinstance(found, str)]
    return shards, named


def manifests(named: list[str]) -> Iterator[str]:
    """Yield the Parquet files among the arguments; a folder's in natural order."""
    for argument in named:
        if os.path.isdir(argument):
            yield from sorted(map(str, Path(argument).rglob("*.parquet")), key=natural)
        elif "://" in argument:
            yield argument
        else:
            yield from (found for found in find_images([argument]) if isinstance(found, str))


def keep(run: Run, report: Report) -> None:
    """Count a block's results, and print a line for each failure."""
    run.found += report.rows
    run.unsure += report.unsure
    for path, reason, kind in report.failures:
        run.fail([ImageError(path, reason, kind)])
