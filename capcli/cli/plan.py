"""A captioning run in three steps: options are checked, then images are listed or captioned."""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcli.cli.loading import decoding_options, load_captioner, require_confidence
from capcli.cli.messages import fail, fail_to_open, say
from capcli.cli.options import ModelOptions, Sources, Views, Writing, choose_format
from capcli.cli.process import one_core_per_batch
from capcli.cli.rules import (
    cache_rules,
    file_rules,
    keyword_rules,
    named_outputs,
    output_rules,
    refuse,
    require_presence,
    shard_rules,
    source_rules,
    uses_keywords,
    watch_rules,
    wording_rules,
)
from capcli.cli.run import Run, tell_nothing_found
from capcli.cli.streams import STANDARD_OUTPUT, NoOutput, StandardOutput
from capcli.cli.summary import Summary, check_summary, write_summary
from capcli.cli.views import open_views
from capcli.cli.writing import (
    add_keywords,
    keep_best,
    name_machines_texts,
    open_cache,
    open_places,
    open_watch,
    read_replacements,
    read_template,
    read_written,
    recall,
    signed,
)
from capcli.files import OutputError
from capcli.images.decode import STANDARD_INPUT
from capcli.images.find import find_images, ignore, read_names
from capcli.images.shards import PLACEHOLDER, Shard, parse_shard
from capcli.outputs.formats import format_for
from capcli.outputs.imagefolder import FILE, ImageFolderRows
from capcli.outputs.keywords import MOST
from capcli.outputs.parquet import is_folder
from capcli.outputs.resume import check_output, check_rows, finished_images, how_to_go_on, open_rows
from capcli.outputs.rows import Layout, Rows
from capcli.progress import CaptionBar

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.decoding.options import DecodingOptions
    from capcli.images.watch import Watch
    from capcli.outputs.replacements import Replacements
    from capcli.outputs.sink import Sink
    from capcli.outputs.written import Written
    from capcli.results import Caption, ImageError

Results = Iterator[list["Caption | ImageError"]]


@dataclass(frozen=True)
class CaptionOptions:
    """Hold the options of `capcli caption` as given.

    num: candidates per image, 1 or more.
    batch_size: images through the model at once, 1 or more.
    """

    paths: list[str]
    sources: Sources
    decoding: dict[str, Any]
    writing: Writing
    views: Views
    model: ModelOptions
    num: int
    batch_size: int
    verbose: bool
    quiet: bool
    watch: bool = False

    @property
    def output(self) -> str | None:
        """Return the rows' file, None for stdout."""
        output = self.writing.output
        if output == STANDARD_INPUT:  # - means stdout, too
            return None
        if self.writing.format == ImageFolderRows.name and is_folder(output):
            return os.path.join(str(output), FILE)
        return output

    @property
    def overwrite(self) -> bool:
        return self.writing.existing == "overwrite"

    @property
    def is_one_image(self) -> bool:
        """Return whether just one image is named outright."""
        paths = self.paths
        named = len(paths) == 1 and self.sources.files_from is None
        return named and (paths[0] == STANDARD_INPUT or os.path.isfile(paths[0]))

    def of_shard(self, shard: Shard | None) -> CaptionOptions:
        """Return the options with the shard put into output names; None changes nothing."""
        if shard is None:
            return self
        named: dict[str, Any] = {
            option.removeprefix("--"): name if name is None else type(name)(str(name).replace(PLACEHOLDER, str(shard)))
            for option, name in named_outputs(self.writing, self.views).items()
        }
        writing = replace(self.writing, output=named["output"], summary=named["summary"])
        return replace(
            self, writing=writing, views=replace(self.views, html=named["html"], attention=named["attention"])
        )


@dataclass
class Listed:
    """List the images that arguments and --files-from name, as often as asked.

    shard: the part to take; None for all.
    watch: waits for more; None if those that are there are all.
    elsewhere: whether other parts had images.
    """

    paths: list[str]
    sources: Sources
    shard: Shard | None
    watch: Watch | None = None
    elsewhere: bool = False

    def images(self, pass_over: Callable[[str, str], object] = ignore) -> Iterator[str | ImageError]:
        """Yield paths, and ImageErrors for what could not be listed. pass_over: as in `find_images`."""
        if self.watch is None:
            return self.there(pass_over)
        told = itertools.chain([pass_over], itertools.repeat(ignore))  # once
        return self.watch.arrivals(lambda: self.there(next(told)))

    def there(self, pass_over: Callable[[str, str], object]) -> Iterator[str | ImageError]:
        """Yield those that are there."""
        for image in self.every(pass_over if self.shard is None else self.of_shard(pass_over)):
            if self.shard is None or self.shard.takes(image if isinstance(image, str) else image.path):
                yield image
            else:
                self.elsewhere = True

    def every(self, pass_over: Callable[[str, str], object]) -> Iterator[str | ImageError]:
        """Yield all parts' images."""
        yield from find_images(self.paths, self.sources.selection, pass_over)
        if self.sources.files_from is not None:
            yield from read_names(self.sources.files_from)

    def of_shard(self, pass_over: Callable[[str, str], object]) -> Callable[[str, str], object]:
        """Limit pass_over to paths in the part."""
        shard = self.shard
        return lambda path, reason: (shard is None or shard.takes(path)) and pass_over(path, reason)

    @property
    def countable(self) -> bool:
        """Return whether images can be listed twice, unlike names from a pipe."""
        return self.watch is None and (self.sources.files_from is None or os.path.isfile(self.sources.files_from))

    def count(self) -> int:
        return sum(1 for _ in self.images())

    def tell_nothing_found(self) -> int:
        """Say why there was no image, and return the exit status."""
        if self.elsewhere:  # no failure: a small listing has empty shards
            say(f"no image of the listing is in shard {self.sources.shard}")
            return 0
        return tell_nothing_found(self.paths, self.sources.files_from)


@dataclass
class CaptionPlan:
    """Hold a captioning run that passed every check possible without the model.

    places: the sinks beside images and inside them.
    most_keywords: keywords per image at most; 0 for none.
    """

    options: CaptionOptions
    kind: type[Rows]
    layout: Layout
    listed: Listed
    places: list[Sink]
    most_keywords: int
    replacements: Replacements
    written: Written | None

    @classmethod
    def check(cls, options: CaptionOptions, dry_run: bool = False) -> CaptionPlan:
        """Return the plan for the options, or exit with status 2 and one line.

        dry_run: whether nothing will be written.
        """
        paths, sources, num = options.paths, options.sources, options.num
        shard = read_shard(sources.shard)
        refuse(shard_rules(options.writing, options.views, shard), source_rules(paths, sources))
        options = options.of_shard(shard)
        writing, views, output = options.writing, options.views, options.output
        kind = format_for(choose_format(writing.format, output), output)
        files: dict[str, str | Path | None] = {"--files-from": sources.files_from, "--output": output}
        files |= {"--html": views.html, "--summary": writing.summary, "--cache": writing.cache}
        refuse(output_rules(writing, views, output, kind, dry_run))
        template = read_template(writing.template)
        refuse(wording_rules(writing, template, kind, num), keyword_rules(writing, template, kind, bool(views.html)))
        replacements = read_replacements(writing.replace)
        refuse(cache_rules(writing.cache, options.decoding))
        require_presence(paths, sources.files_from)
        refuse(watch_rules(paths, sources, dry_run) if options.watch else ())
        refuse(file_rules(files, paths, options.model.model))
        most_keywords = writing.keywords or (MOST if uses_keywords(writing, template) else 0)
        to_terminal = output is None and sys.stdout.isatty()
        layout = Layout(
            *(num, writing.min_confidence, template, not options.is_one_image, to_terminal, most_keywords > 0),
            "\n" if writing.separator is None else writing.separator,
            writing.keep_unsure,
        )
        written = read_written(writing.cache)
        places = open_places(paths, writing, files, template, num, written)
        watch = open_watch(paths, sources.recursive) if options.watch else None
        listed = Listed(paths, sources, shard, watch)
        plan = cls(options, kind, layout, listed, places, most_keywords, replacements, written)
        plan.check_outputs()
        return plan

    def check_outputs(self) -> None:
        """Refuse outputs that cannot be written, without touching them."""
        writing, overwrite = self.options.writing, self.options.overwrite
        try:
            check_rows(self.options.output, self.kind, self.layout, writing.resume, overwrite)
            check_output(self.options.views.html, overwrite)
            check_summary(writing.summary)
            if writing.cache is not None:
                from capcli.outputs.cache import check_cache  # loads SQLite

                check_cache(writing.cache)
        except OutputError as error:
            fail(error)

    @property
    def unseen(self) -> bool:
        """Return whether captions go elsewhere, so that a terminal shows none."""
        options = self.options
        shown = options.writing.output is not None or options.views.show
        return not shown and bool(self.places or options.views.html) and sys.stdout.isatty()

    def dry_run(self) -> int:
        """List what would be captioned and where; return the exit status."""
        from capcli.cli.dry_run import Listing, list_images

        options, output = self.options, self.options.output
        done = finished_images(output, self.kind, self.layout) if options.writing.resume and output else {}
        rows = self.kind(NoOutput("" if self.unseen else output or STANDARD_OUTPUT), self.layout, done)
        run = Run(rows, self.places, Listing())
        views = [os.fspath(view) for view in (options.views.html, options.views.attention) if view is not None]
        status = list_images(run, self.listed.images(run.pass_over), views, options.quiet)
        if run.found or run.skipped or self.listed.elsewhere:
            return status
        return self.listed.tell_nothing_found()

    def run(self) -> int:
        """Caption the images, and return the exit status; exit with 2 for options that the model cannot follow."""
        options, writing = self.options, self.options.writing
        captioner = load_captioner(options.model, options.sources.max_pixels)
        decoding = decoding_options(captioner, options.decoding, options.num)
        one_core_per_batch(captioner, decoding)
        require_confidence(captioner, writing.min_confidence)
        if options.verbose:
            say(f"captioning with {captioner.engine.name} on {captioner.device} in {captioner.precision}")
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # Pillow's, about files that capcli reports itself
        # Keywords use all captions found anyway, and a cache keeps them.
        decoded = decoding.found(options.num) if self.most_keywords or writing.cache is not None else options.num
        record = Summary(options.verbose, kept=writing.summary is not None)
        # With --resume too, as a stopped run may have drawn overlays without their row.
        redrawn = options.overwrite or writing.resume
        with (
            open_views(captioner, options.views, options.num, redrawn) as views,
            # When watching, an image that is renamed keeps its caption.
            open_cache(writing.cache, captioner, decoded, decoding, not views, record.note, options.watch) as cache,
        ):
            # The output is opened last, when all else is in order.
            run = Run(self.open_rows(), [*self.places, *views], record, cache, bool(decoding.ban), self.listed.watch)
            status = self.execute(run, captioner, decoded, decoding)
        if status > 128:
            going_on = how_to_go_on(run.rows if options.output else None, options.views.html is not None, self.places)
            say("interrupted" + going_on)
        return status

    def open_rows(self) -> Rows:
        """Return the opened rows, or exit with a line."""
        options = self.options
        try:
            if options.output is not None:
                return open_rows(options.output, self.kind, self.layout, options.writing.resume, options.overwrite)
            return self.kind(NoOutput() if self.unseen else StandardOutput(), self.layout)
        except OutputError as error:
            fail_to_open(error)

    def execute(self, run: Run, captioner: Captioner, decoded: int, decoding: DecodingOptions) -> int:
        """Caption, write the summary, and return the exit status. decoded: candidates to decode."""
        quiet, summary = self.options.quiet, self.options.writing.summary
        bar = CaptionBar(sys.stderr.isatty() and not quiet, self.listed.count if self.listed.countable else None)
        results = self.captions(run, captioner, decoded, decoding)
        results = map(self.replacements.reword, results)
        if self.places or self.written:
            results = signed(results, signature_of(captioner, self.options.model.model), self.written)
        status = run.execute(results, bar, quiet)
        if not (status or run.found or run.skipped):
            status = self.listed.tell_nothing_found()
        if summary is not None:
            try:
                write_summary(summary, run.summary.as_json(run.counts(), status))
            except OutputError as error:
                say(error)
                status = status or 1
        return status

    def captions(self, run: Run, captioner: Captioner, decoded: int, decoding: DecodingOptions) -> Results:
        """Return batches of captions with the candidates and keywords asked for."""
        options, writing, cache = self.options, self.options.writing, run.cache
        listed = self.listed.images(run.pass_over)
        if options.verbose and (writing.write_metadata or writing.xmp is not None):
            listed = name_machines_texts(listed, run.summary.note)
        to_do = run.to_do(listed)
        wanted = to_do if cache is None else recall(cache, to_do)
        photo_side = max((sink.photo_side for sink in run.others), default=0)
        batches: Results = captioner.batches(
            wanted, decoded, decoding, options.batch_size, options.sources.max_pixels, photo_side
        )
        if cache is not None:
            batches = cache.remember(batches)
        if self.most_keywords:
            return add_keywords(batches, options.num, self.most_keywords)
        return keep_best(batches, options.num) if decoded > options.num else batches


def signature_of(captioner: Captioner, model: str | None) -> str:
    """Return how the checkpoint signs. model: as named by the user."""
    from capcli.checkpoints.hub import BUNDLED
    from capcli.outputs.ownership import signature

    name = model or BUNDLED
    return signature(os.path.basename(os.path.abspath(name)) if os.path.isdir(name) else name, captioner.version)


def read_shard(text: str | None) -> Shard | None:
    """Return the shard to take, None for everything, or exit with a line."""
    try:
        return None if text is None else parse_shard(text)
    except ValueError as error:
        fail(f"--shard {text}: {error}")
