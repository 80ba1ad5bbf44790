"""`render` and `gallery`: what messages look like, before a customer sees them. Neither needs a database."""

import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated, Literal

import typer

from backorder_notifier import terminal
from backorder_notifier.display import print_json
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.kinds import KINDS
from backorder_notifier.terminal import Json

Part = Literal["subject", "text", "html", "sms"]
PARTS: tuple[Part, ...] = ("subject", "text", "html", "sms")


def render(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS))],
    locale: Annotated[str, typer.Option(help="Such as de, or en-GB.")] = "en",
    part: Annotated[str | None, typer.Option(help="subject, text, html or sms; left out: all but html.")] = None,
    variant: Annotated[str | None, typer.Option(help="Another sample of the kind; a wrong name lists them.")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show the HTML in a browser.")] = False,
    as_json: Json = False,
) -> None:
    """A sample message of one kind, in the templates of NOTIFIER_TEMPLATES if that is set."""
    from backorder_notifier.gallery import render_sample  # noqa: PLC0415 - half a second that other commands don't need
    from backorder_notifier.rendering import load_templates  # noqa: PLC0415

    if kind not in KINDS:
        raise ConfigurationError(f"{kind}: no such kind; it is one of {', '.join(KINDS)}")
    if part is not None and part not in PARTS:
        raise ConfigurationError(f"--part {part}: should be one of {', '.join(PARTS)}")
    settings = terminal.settings_without_database()
    templates = load_templates(settings.templates, default_locale=settings.locale_default)

    def of(which: Part) -> str:
        return render_sample(templates, kind, locale=locale, part=which, variant=variant, shop_name=settings.shop_name)

    if open_it:
        with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False, encoding="utf-8") as file:
            file.write(of("html"))
        webbrowser.open(Path(file.name).as_uri())
        sys.stderr.write(f"{file.name}\n")
        return
    if as_json:
        print_json({"kind": kind, "locale": locale} | {each: of(each) for each in PARTS})
    elif part is not None:
        sys.stdout.write(of(part).rstrip("\n") + "\n")
    else:
        sys.stdout.write(f"{of('subject')}\n\n{of('text').rstrip()}\n\nSMS: {of('sms')}\n")


def gallery(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made if it is not there.")],
    open_it: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    as_json: Json = False,
) -> None:
    """Every kind in every language, every part, and a page that shows them all."""
    from backorder_notifier.gallery import write_gallery  # noqa: PLC0415
    from backorder_notifier.rendering import load_templates  # noqa: PLC0415

    settings = terminal.settings_without_database()
    templates = load_templates(settings.templates, default_locale=settings.locale_default)
    try:
        page = write_gallery(folder, templates, shop_name=settings.shop_name)
    except OSError as error:
        raise ConfigurationError(f"{folder}: {error.strerror}") from None
    if open_it:
        webbrowser.open(page.resolve().as_uri())
    if as_json:
        print_json({"page": str(page), "files": sum(1 for each in folder.iterdir() if each.is_file())})
    else:
        sys.stdout.write(f"{page}\n")
