"""Whether every message can be put into words: said at start, so that a broken template stops no customer's mail."""

import traceback
from pathlib import Path
from typing import Final

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from backorder_notifier.errors import ConfigurationError
from backorder_notifier.kinds import KINDS, OPTIONAL
from backorder_notifier.rendering import BUILT_IN, FILES, Templates, write
from backorder_notifier.samples import UNSUBSCRIBE_URL, Sample, recipient, samples_of
from backorder_notifier.view import NAMES

# What Jinja2 and its translations bring along.
_ALWAYS_THERE: Final = frozenset(
    (
        "_",
        "gettext",
        "ngettext",
        "pgettext",
        "npgettext",
        "range",
        "dict",
        "lipsum",
        "cycler",
        "joiner",
        "namespace",
        "_trans",
    )
)


def check(templates: Templates) -> None:
    """Raises ConfigurationError naming file, line and variable of everything found wrong, in one text.

    Looked at: every template as it is written (names that no message has), then every kind in every language with
    every sample, all parts.
    """
    problems = [*_strangers(templates), *_unknown_names(templates)]
    if not problems:
        problems = _rendered(templates)
    if problems:
        raise ConfigurationError("\n".join(problems))


def _strangers(templates: Templates) -> list[str]:
    """Files of the shop that nothing would ever use, probably misspelt."""
    if templates.folder is None:
        return []
    problems = []
    for path in sorted(templates.folder.rglob("*")):
        relative = path.relative_to(templates.folder)
        if (
            path.is_dir()
            or relative.parts[0] == "locales"
            or str(relative) == "shop.toml"
            or relative.name.startswith((".", "_", "README"))
        ):
            continue
        if len(relative.parts) != 2 or relative.parts[0] not in KINDS or relative.name not in FILES.values():
            problems.append(
                f"{path}: is no template of a message; expected <kind>/{'|'.join(FILES.values())}, _<anything> to be "
                f"included, locales/<language>.po, or shop.toml"
            )
    return problems


def _unknown_names(templates: Templates) -> list[str]:
    problems = []
    for environment in (templates.plain[templates.default_language], templates.html[templates.default_language]):
        for name in environment.list_templates(filter_func=lambda name: name.endswith((".txt", ".html", ".j2"))):
            if name.endswith(".html") == environment.autoescape or name.endswith(".j2"):
                problems += _unknown_names_in(name, environment)
    return list(dict.fromkeys(problems))


def _unknown_names_in(name: str, environment: ImmutableSandboxedEnvironment) -> list[str]:
    if environment.loader is None:
        return []
    source, path, _ = environment.loader.get_source(environment, name)
    try:
        tree = environment.parse(source, name, path)
        used = meta.find_undeclared_variables(tree)
    except TemplateSyntaxError as error:
        return [f"{path}:{error.lineno}: {error.message}"]
    known = NAMES | _ALWAYS_THERE | _brought_by_frames(name, tree, environment)
    problems = []
    for unknown in sorted(used - known):
        line = next((node.lineno for node in tree.find_all(nodes.Name) if node.name == unknown), 1)
        problems.append(f"{path}:{line}: '{unknown}' is no variable of a message")
    return problems


def _brought_by_frames(name: str, tree: nodes.Template, environment: ImmutableSandboxedEnvironment) -> frozenset[str]:
    """Names that a template has because the one it extends imports or defines them."""
    if environment.loader is None:
        return frozenset()
    names: set[str] = set()
    for extends in tree.find_all(nodes.Extends):
        if isinstance(extends.template, nodes.Const) and extends.template.value != name:
            try:
                source, path, _ = environment.loader.get_source(environment, extends.template.value)
                frame = environment.parse(source, extends.template.value, path)
            except TemplateError:
                continue  # said of that file, or when it is rendered
            names |= {node.target for node in frame.find_all(nodes.Import)}
            names |= {node.name for node in frame.find_all(nodes.Macro)}
            names |= _brought_by_frames(extends.template.value, frame, environment)
    return frozenset(names)


def _rendered(templates: Templates) -> list[str]:
    """What is wrong with each place, and the first message where it shows."""
    found: dict[str, str] = {}
    for language in templates.languages:
        for kind in KINDS:
            for number, sample in enumerate(samples_of(kind)):
                for shop_name in ("The Shop", None) if number == 0 else ("The Shop",):
                    problem = _problem(sample, language, templates, shop_name)
                    if problem is not None:
                        found.setdefault(problem, f"{problem} ({kind} in {language}: {sample.name})")
    return list(found.values())


def _problem(sample: Sample, language: str, templates: Templates, shop_name: str | None) -> str | None:
    url = UNSUBSCRIBE_URL if sample.kind in OPTIONAL and shop_name else None
    try:
        written = write(
            sample.content,
            recipient(language),
            templates,
            shop_name=shop_name,
            unsubscribe_url=url,
            as_of=sample.as_of,
        )
    except Exception as error:  # whatever a template may do
        return f"{_place(error, templates)}: {_words_of(error)}"
    for part, text in written.items():
        path = _path(templates, f"{sample.kind}/{FILES[part]}")
        if not text.strip():
            return f"{path}: is empty"
        if part == "subject" and "\n" in text.strip():
            return f"{path}: has more than one line"
    return None


def _words_of(error: Exception) -> str:
    return str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"


def _place(error: Exception, templates: Templates) -> str:
    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename or error.name}:{error.lineno}"
    roots = [str(path) for path in (templates.folder, BUILT_IN) if path is not None]
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if any(frame.filename.startswith(r) for r in roots)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "templates"


def _path(templates: Templates, name: str) -> Path:
    own = templates.folder / name if templates.folder is not None else None
    return own if own is not None and own.is_file() else BUILT_IN / name
