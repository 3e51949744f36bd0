"""`capcli alt`: alt texts for the images of web pages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from capcli.cli.loading import load_captioner, require_confidence
from capcli.cli.messages import fail, one_line, say, show_lines
from capcli.cli.options import BATCH_SIZE, ModelOptions, Only, Sources, finite, grouped

if TYPE_CHECKING:
    from capcli.outputs.alt.pages import Page
    from capcli.outputs.alt.reports import Finding
    from capcli.progress import CaptionBar
    from capcli.results import Caption, ImageError


Format = Literal["text", "github", "sarif"]


@grouped
def alt(
    model: Annotated[ModelOptions, Only("model")],
    sources: Annotated[Sources, Only("exclude")],
    site: Annotated[
        list[str], typer.Argument(metavar="SITE", help="HTML and Markdown files, and folders with such files.")
    ],
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only list images without an alt text, then alt texts that say nothing; exit with 1 if there are any.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be changed, as a unified diff; write nothing.")
    ] = False,
    max_chars: Annotated[int, typer.Option(min=1, metavar="N", help="Write no alt text of more than N characters.")] = (
        125
    ),
    min_confidence: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="P",
            callback=finite,
            help="Write no caption that is less likely right than P, a probability; 0 writes all.  [default: 0.5]",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        Format,
        typer.Option(help="Print what --check finds as text, as annotations of GitHub Actions, or as SARIF 2.1."),
    ] = "text",
    root: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder that /photo.jpg starts from.  [default: the folder SITE; for a file, the working directory]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the missing alt texts of HTML and Markdown.

    In HTML these are <img> without alt, in Markdown ![](photo.jpg) and HTML. alt="" says that an image is decoration:
    it stays, and so do all your texts. Only images on this machine get an alt text; nothing else in a file changes, and
    each file is replaced whole. Images that may get an alt text from code in the page are left alone and counted. Those
    in links, and those that only fill space, are listed and left.

    With --check, alt texts that say nothing are listed as well: a file's name, a word such as "photo", or a caption
    that another image of the page has.

    The model knows photos. It gets diagrams, screenshots and logos wrong: --dry-run shows what it would write.

    Exit status: 0 if no image lacks an alt text any more, 1 if some do, or could not be read, 2 for a usage error.
    """
    if check and dry_run:
        fail("--check writes nothing, so it cannot be combined with --dry-run")
    if format != "text" and not check:
        fail(f"--format {format} is for --check")
    plan = AltPlan.check(AltOptions(site, sources, model, max_chars, min_confidence, root))
    if check:
        plan.list_findings(format)
    elif dry_run:
        plan.dry_run()
    else:
        plan.run()
    raise typer.Exit(plan.conclude())


@dataclass(frozen=True)
class AltOptions:
    """Hold the options of `capcli alt` as given."""

    site: list[str]
    sources: Sources
    model: ModelOptions
    max_chars: int
    min_confidence: float | None
    root: str | None

    def rules(self) -> Iterator[tuple[object, str]]:
        """Yield rules about the arguments."""
        from capcli.outputs.alt.pages import is_page

        for path in self.site:
            yield not os.path.exists(path), f"{path}: no such file or folder"
            readable = os.path.isdir(path) or is_page(path)
            yield not readable, f"{path}: neither a folder nor HTML or Markdown, by its ending"
        yield self.root is not None and not os.path.isdir(self.root), f"--root {self.root}: no such folder"


@dataclass
class AltPlan:
    """Hold the pages to look through, and findings so far.

    pages: paths, each with the folder that /photo.jpg starts from.
    problems: how many images lack alt text or cannot be read, and unreadable pages.
    silent: alt texts that say nothing.
    in_code: places where code in a page may give alt text.
    unread: files in languages that are not read.
    """

    options: AltOptions
    pages: list[tuple[str, str]] = field(default_factory=list)
    problems: int = 0
    silent: list[Finding] = field(default_factory=list)
    in_code: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @classmethod
    def check(cls, options: AltOptions) -> AltPlan:
        """Return the plan for the options, or exit with status 2 and one line."""
        from capcli.cli.rules import refuse
        from capcli.outputs.alt.pages import find_pages, has_pages

        refuse(options.rules())
        plan = cls(options)
        found = list(find_pages(options.site, options.sources.selection, plan.report, plan.unread.append))
        for folder in filter(os.path.isdir, options.site):
            if folder not in {root for _, root in found} and not has_pages(folder):
                fail(f"no HTML or Markdown in {folder}")
        plan.pages = [(path, options.root or root) for path, root in found]
        return plan

    def report(self, problem: object) -> None:
        self.problems += 1
        say(problem)

    def read(self, pages: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, Page]]:
        """Yield pages with their paths and roots, reporting unreadable ones."""
        from capcli.outputs.alt.pages import Page
        from capcli.results import ImageError

        for path, root in pages:
            try:
                page = Page.read(path, root)
            except ImageError as error:
                self.report(error)
                continue
            yield path, root, page

    def look_through(self) -> Iterator[tuple[str, str, Page]]:
        """Yield all pages with their paths and roots, noting silent alt texts, and images left to code."""
        from capcli.outputs.alt.reports import SILENT, Finding

        for path, root, page in self.read(self.pages):
            self.in_code += [f"{path}:{line}" for line in page.in_code]
            self.silent += [Finding(path, line, address, why, SILENT) for line, address, why in page.silent]
            yield path, root, page

    def list_findings(self, format: str) -> None:
        """Print images without alt text, then alt texts that say nothing."""
        from capcli.outputs.alt.reports import REPORTS

        for line in REPORTS[format](self.findings()):
            show_lines(one_line(line))

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with pages, counting it."""
        from capcli.outputs.alt.gaps import LINKED, SPACER
        from capcli.outputs.alt.reports import MISSING, Finding

        for path, _, page in self.look_through():
            for missing in page.missing:
                self.problems += 1
                doubt = f"; {missing.gap.doubt}" if missing.gap.doubt in (LINKED, SPACER) else ""
                yield Finding(path, missing.line, missing.address, f"no alt text{doubt}", MISSING)
        self.problems += len(self.silent)
        yield from self.silent
        self.silent = []

    def dry_run(self) -> None:
        self.fill(write=False)

    def run(self) -> None:
        self.fill(write=True)

    def fill(self, write: bool) -> None:
        """Caption the images without alt text; write the texts into their pages, or print a diff."""
        from capcli.progress import CaptionBar
        from capcli.results import ImageError

        images, lacking = self.find_gaps()
        if not images:
            return
        bar = CaptionBar(sys.stderr.isatty(), lambda: len(images))
        texts = Texts(list(images), self.options, bar)
        try:
            for path, _, page in self.read(lacking):  # again, as holding all pages would take too much memory
                try:
                    self.fill_page(path, page, texts, write)
                except ImageError as error:
                    self.report(error)
        finally:
            bar.close()

    def find_gaps(self) -> tuple[dict[str, None], dict[tuple[str, str], None]]:
        """Return the images to caption and their pages as (path, root), reporting the rest."""
        images: dict[str, None] = {}
        lacking: dict[tuple[str, str], None] = {}
        for path, root, page in self.look_through():
            for missing in page.missing:
                place = f"{path}:{missing.line}: {missing.address}"
                if missing.gap.doubt:
                    self.report(f"{place}: left as it is: {missing.gap.doubt}")
                elif not os.path.exists(missing.file):
                    self.report(f"{place}: no such file")
                else:
                    images[missing.file] = lacking[path, root] = None
        return images, lacking

    def fill_page(self, path: str, page: Page, texts: Texts, write: bool) -> None:
        """Write a page's missing texts, or print the diff. Raises ImageError."""
        from capcli.outputs.originals import folders_of

        wanted = [missing for missing in page.missing if missing.file in texts.images and not missing.gap.doubt]
        known = texts.of({missing.file for missing in wanted})
        new = page.filled({file: text for file, text in known.items() if isinstance(text, str)})
        with texts.bar.aside():
            if not write:
                sys.stdout.flush()
                sys.stdout.buffer.write(page.diff(new))
            elif new != page.text:
                page.write(new, folders_of(self.options.site))
            for missing in wanted:
                text, place = known[missing.file], f"{path}:{missing.line}: {missing.address}"
                if isinstance(text, str):
                    if write:
                        show_lines(one_line(f"{place}: {text}"))
                elif missing.file not in texts.told:  # it may be on every page
                    texts.told.add(missing.file)
                    self.report(f"{place}: {text.reason}")

    def conclude(self) -> int:
        """Report what is left, and return the exit status."""
        if self.silent:
            texts = "alt texts say nothing, and are" if len(self.silent) > 1 else "alt text says nothing, and is"
            say(f"{len(self.silent)} {texts} left as before; --check lists what and where")
        if self.unread:
            files = "files are" if len(self.unread) > 1 else "file is"
            say(f"{len(self.unread)} {files} not read, as MDX, reStructuredText and AsciiDoc are not: {self.unread[0]}")
        if self.in_code:
            count = f"{len(self.in_code)} images are" if len(self.in_code) > 1 else "1 image is"
            say(f"{count} left alone, as code in the page may give an alt text; the first is at {self.in_code[0]}")
        return 1 if self.problems else 0


class Texts:
    """Hold alt texts, captioning images in order as far as asked.

    told: images with a problem already reported.
    """

    def __init__(self, images: list[str], options: AltOptions, bar: CaptionBar) -> None:
        from capcli.cli.process import one_core_per_batch

        self.options, self.bar, self.images = options, bar, dict.fromkeys(images)
        most = options.sources.max_pixels
        captioner = load_captioner(options.model, most)
        one_core_per_batch(captioner, captioner.options)
        require_confidence(captioner, options.min_confidence)
        # Each with as many candidates as its search keeps.
        results = captioner.stream(images, captioner.options.beam, None, BATCH_SIZE, most)
        self.results = zip(images, results, strict=True)
        self.known: dict[str, str | ImageError] = {}
        self.told: set[str] = set()

    def of(self, files: set[str]) -> dict[str, str | ImageError]:
        """Return all texts so far, those of these files included, or why a file has none."""
        while not self.known.keys() >= files:
            file, result = next(self.results)
            self.known[file] = alt_text(result, self.options.max_chars, self.options.min_confidence)
            self.bar.update(len(self.known), 0)
        return self.known


def alt_text(result: Caption | ImageError, max_chars: int, min_confidence: float | None) -> str | ImageError:
    """Return the best caption that is short enough, or why there is none.

    Long ones are not cut: half a sentence tells a listener less than the next best.

    min_confidence: how likely right it has to be; None wants one that is not unsure.
    """
    from capcli.outputs.rows import is_rejected
    from capcli.results import ImageError

    if isinstance(result, ImageError):
        return result
    if result.unsure if min_confidence is None else is_rejected(result, min_confidence):
        return ImageError(result.path, f"left as it is; the caption is unsure: {result.text}")
    short = (candidate.text for candidate in result.candidates if len(candidate.text) <= max_chars)
    return next(short, None) or ImageError(
        result.path, f"left as it is; no caption has {max_chars} characters or fewer"
    )
