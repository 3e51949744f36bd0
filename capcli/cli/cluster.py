"""`capcli caption --ray`: what is listed here is captioned by the machines of a cluster."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from capcli.cli.loading import decoding_options, load_captioner
from capcli.cli.messages import fail, say
from capcli.cli.options import (
    ClusterOptions,
    Decoding,
    ModelOptions,
    Sources,
    Views,
    Writing,
    refuse_others,
)
from capcli.cli.run import Run, count, tell_nothing_found
from capcli.cli.signals import Stop
from capcli.cli.streams import NoOutput
from capcli.cli.summary import Summary, check_summary, write_summary
from capcli.files import LockedFolder, OutputError
from capcli.images.decode import STANDARD_INPUT
from capcli.images.find import find_images, natural, read_names
from capcli.installing import install_line
from capcli.outputs.formats import format_by_ending
from capcli.outputs.parquet import ParquetFolder, check_parquet, check_place, parts_of
from capcli.outputs.rows import Layout
from capcli.progress import CaptionBar
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.distributed.actor import Orders, Report
    from capcli.distributed.listing import Listing
    from capcli.distributed.output import Done

# What --ray can be combined with, of two groups of options.
SOURCES = ("recursive", "include", "exclude", "files_from", "null", "max_pixels")
WRITING = ("output", "format", "resume", "existing", "min_score", "summary")


def caption_on_cluster(
    paths: list[str],
    cluster: ClusterOptions,
    sources: Sources,
    decoding: Decoding,
    writing: Writing,
    views: Views,
    model: ModelOptions,
    num: int,
    batch_size: int,
    verbose: bool,
    quiet: bool,
) -> None:
    """Caption images on the machines of a cluster; takes the options of `capcli caption`."""
    check_options(paths, cluster, sources, writing, views, model)
    output = os.fspath(writing.output or "")
    try:
        check_parquet(output)
        check_place(output, writing.resume or writing.existing == "overwrite")
        check_summary(writing.summary)
    except OutputError as error:
        fail(error)
    check_packages()
    orders = orders_for(cluster, sources, decoding, writing, model, num, batch_size)

    from capcli.distributed.manifest import ManifestError

    rows = ParquetFolder(NoOutput(output), Layout(num, writing.min_score))
    run = Run(rows, summary=Summary(verbose, kept=writing.summary is not None))
    try:
        folder = LockedFolder(Path(output))
        try:
            status = fill(run, paths, cluster, sources, writing, orders, quiet, verbose)
        finally:
            folder.close()
        if writing.summary is not None:
            write_summary(writing.summary, run.summary.as_json(run.counts(), status))
    except (OutputError, ManifestError) as error:
        fail(error)
    except OSError as error:
        fail(OutputError(output, error), 1)
    if status:
        raise typer.Exit(status)


def check_options(
    paths: list[str], cluster: ClusterOptions, sources: Sources, writing: Writing, views: Views, model: ModelOptions
) -> None:
    """Refuse options that make no sense on a cluster, or contradict each other. paths: the arguments."""
    for group, allowed in ((sources, SOURCES), (writing, WRITING), (views, ())):
        refuse_others(group, allowed, "cannot be combined with --ray")
    if writing.output in (None, STANDARD_INPUT):
        fail("--ray needs --output FOLDER/")
    if "://" in str(writing.output):
        fail(f"--output {writing.output}: must be a folder that all machines share")
    if writing.format not in (None, "parquet") or format_by_ending(writing.output) is not None:
        fail("--ray needs --output FOLDER/, which gets Parquet files, and no other format")
    if writing.existing not in (None, "overwrite"):
        fail(f"--existing {writing.existing} cannot be combined with --ray")
    if writing.existing and writing.resume:
        fail("--resume cannot be combined with --existing overwrite and --ray")
    if cluster.retry_failed and not writing.resume:
        fail("--retry-failed needs --resume")
    if cluster.column is not None and sources.files_from is not None:
        fail("--column cannot be combined with --files-from")
    if STANDARD_INPUT in paths:
        fail("- stands for an image on stdin, which a cluster cannot read")
    if model.device not in ("auto", "cuda" if cluster.gpus_per_actor else "cpu"):
        fail(f"--device {model.device}: with --ray, actors caption on GPUs if --gpus-per-actor gives them some")
    if model.engine == "onnx" and cluster.gpus_per_actor:
        fail("--engine onnx runs on CPUs, and cannot be combined with --gpus-per-actor")


def check_packages() -> None:
    """Exit with a line if the packages of the extra are not there."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("ray", "pandas", "fsspec")):
        fail(f"--ray needs extra packages: {install_line('ray')}")


def orders_for(
    cluster: ClusterOptions,
    sources: Sources,
    decoding: Decoding,
    writing: Writing,
    model: ModelOptions,
    num: int,
    batch_size: int,
) -> Orders:
    """Return how the actors are to caption, or exit with a line about a checkpoint or options that do not work."""
    from capcli import __version__
    from capcli.distributed.actor import Orders
    from capcli.distributed.reach import Reach

    gpus = bool(cluster.gpus_per_actor)
    here = replace(model, device="cpu", precision="auto" if gpus else model.precision)  # there may be no GPU here
    captioner = load_captioner(here, sources.max_pixels)
    folder = model.model if model.model is None or not os.path.isdir(model.model) else os.path.abspath(model.model)
    return Orders(
        os.path.abspath(str(writing.output)),
        Reach(os.getcwd(), cluster.allow_https),
        __version__,
        folder,
        "cuda" if gpus else "cpu",
        model.precision,
        model.engine,
        num,
        decoding_options(captioner, decoding, num),
        batch_size,
        sources.max_pixels,
        writing.min_score,
        functools.partial(set_up_actor, sources.max_pixels),
    )


def set_up_actor(max_pixels: int) -> None:
    """Set up the process of an actor as that of the command line is."""
    from capcli.cli.native import silence_libtiff
    from capcli.cli.process import set_up_process

    silence_libtiff()
    set_up_process(max_pixels)


def fill(
    run: Run,
    paths: list[str],
    cluster: ClusterOptions,
    sources: Sources,
    writing: Writing,
    orders: Orders,
    quiet: bool,
    verbose: bool,
) -> int:
    """Caption what is not in the output yet, and return the exit status.

    run: counts what becomes of the images.
    paths: the arguments.
    orders: how to caption.

    Raises OSError, OutputError and ManifestError.
    """
    from capcli.distributed.output import Done, clear, read_part, settle

    output = Path(orders.output)
    for line in clear(output):
        say(line)
    shards, named = divided(paths)
    done = settle(output, shards) if writing.resume else Done()
    old = parts_of(output) if writing.existing else []
    for part in old:
        read_part(part, captions=False)  # or it is not ours to replace
    listing = list_blocks(run, shards, named, cluster, sources, orders, done)
    for failure in listing.failures:
        run.found += 1
        run.fail([failure])
    status = 0
    if listing.blocks:
        total = None if shards else listing.rows + listing.skipped + run.found
        bar = CaptionBar(sys.stderr.isatty() and not quiet, None if total is None else lambda: total)
        status = hand_out(run, listing, cluster, orders, bar, old, verbose)
        if cluster.retry_failed:
            settle(output, shards)
    elif not (run.found or run.skipped):
        return tell_nothing_found(paths, sources.files_from)
    if status == 2 or status > 128:
        return status
    run.summarise(quiet)
    if done.failed and not cluster.retry_failed:
        say(f"{count(len(done.failed), 'image')} failed in earlier runs; --retry-failed tries again")
    return status or int(bool(run.failed or (done.failed and not cluster.retry_failed)))


def divided(paths: list[str]) -> tuple[list[str], list[str]]:
    """Return the WebDataset shards among the arguments, globs resolved, and the other arguments."""
    from capcli.distributed.listing import SHARD_ENDINGS

    shards: list[str] = []
    named: list[str] = []
    for path in paths:
        if not path.lower().endswith(SHARD_ENDINGS) or os.path.isdir(path):
            named.append(path)
        else:
            shards += [path] if "://" in path else [found for found in find_images([path]) if isinstance(found, str)]
    return shards, named


def list_blocks(
    run: Run,
    shards: list[str],
    named: list[str],
    cluster: ClusterOptions,
    sources: Sources,
    orders: Orders,
    done: Done,
) -> Listing:
    """Return what is to be captioned.

    run: counts what is skipped.
    shards, named: the arguments, as `divided` returns them.
    orders: how to caption.
    done: what the output has already.

    Raises OutputError and ManifestError.
    """
    from capcli.distributed.listing import Listing
    from capcli.distributed.manifest import ManifestError
    from capcli.distributed.output import first_number
    from capcli.distributed.reach import file_system

    output = Path(orders.output)
    listing = Listing(orders.reach, done, cluster.retry_failed, cluster.block_rows, first_number(output))
    if cluster.column is not None:
        if shards:
            fail(f"{shards[0]}: a shard has no --column")
        for file in manifests(named):
            listing.add_manifest(file, cluster.column)
    else:
        listing.add_paths(images(run, named, sources))
        listing.add_shards(shards, output)
    if not shards and done.others is not None and listing.others is not None and not done.others.equals(listing.others):
        raise ManifestError(f"{output}: has other columns beside the captions; name another folder")
    run.skipped = listing.skipped
    for protocol in sorted(listing.protocols):
        reason = orders.reach.refusal(protocol)
        if protocol == "https" and reason:
            raise ManifestError(reason)
        try:
            if reason is None:
                file_system(protocol)
        except ImportError as error:
            raise ManifestError(f"{protocol}:// needs another package: {error}") from None
    return listing


def images(run: Run, named: list[str], sources: Sources) -> Iterator[str | ImageError]:
    """Yield what arguments and --files-from name. run: counts pictures that capcli drew."""
    for argument in named:
        if argument.lower().endswith(".parquet"):
            fail(f"{argument}: needs --column NAME, which says where in it the images are")
        if "://" in argument:
            yield argument
        else:
            yield from find_images([argument], sources.selection, run.pass_over)
    if sources.files_from is not None:
        yield from read_names(sources.files_from, sources.null)


def manifests(named: list[str]) -> Iterator[str]:
    """Yield the Parquet files that arguments name, those of folders in natural order."""
    for argument in named:
        if os.path.isdir(argument):
            yield from sorted(map(str, Path(argument).rglob("*.parquet")), key=natural)
        elif "://" in argument:
            yield argument
        else:
            yield from (found for found in find_images([argument]) if isinstance(found, str))


def hand_out(
    run: Run, listing: Listing, cluster: ClusterOptions, orders: Orders, bar: CaptionBar, old: list[Path], verbose: bool
) -> int:
    """Have the blocks captioned, and return the exit status.

    run: counts what becomes of the images.
    listing: what is to be captioned.
    orders: how.
    bar: shows how far it is; is closed.
    old: files that the first new one replaces.
    verbose: whether to say who captions.
    """
    from capcli.distributed.cluster import Cluster, ClusterError

    address = cluster.ray or ""
    begun = False
    try:
        with Cluster(address, say) as connected:
            actors = connected.count_actors(cluster.actors, cluster.gpus_per_actor)
            if verbose:
                say(f"{count(len(listing.blocks), 'block')} for {count(actors, 'actor')}")
            for report in connected.caption(listing.blocks, orders, actors, cluster.gpus_per_actor):
                if report.trouble:
                    say(report.trouble)
                    return 1
                begun = True
                for part in old if report.rows else ():
                    part.unlink(missing_ok=True)
                with bar.aside():
                    keep(run, report)
                bar.update(run.found + run.skipped, run.failed)
    except ClusterError as error:
        say(error)
        return 1 if begun else 2
    except Stop as stop:
        say("interrupted; to continue, run the same command with --resume")
        return stop.code
    finally:
        bar.close()
    return 0


def keep(run: Run, report: Report) -> None:
    """Count what became of a block, and print a line for each failure."""
    run.found += report.rows
    run.unsure += report.unsure
    run.rejected += report.rejected
    for path, reason, kind in report.failures:
        run.fail([ImageError(path, reason, kind)])
