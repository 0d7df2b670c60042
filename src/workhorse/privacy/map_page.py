"""The data map as a page: what an app's declaration says for a record of processing (GDPR, article 30, 1).

One file, no scripts, nothing loaded from anywhere. What no declaration knows stands at its end, so that nobody takes
the page for the whole record.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

from workhorse.journal.kinds import EventType
from workhorse.privacy.classes import OF_PERSONS, STRICTNESS, DataClass
from workhorse.privacy.data_map import personal_members
from workhorse.privacy.export_page import STYLE
from workhorse.privacy.places import Blank, Keep, Place, Rule
from workhorse.privacy.privacy import Privacy

__all__ = ["map_page"]

UNKNOWN: Final = (
    "the controller's name and contact, and those of the data protection officer (a)",
    "the purposes of the processing, and its legal grounds (b; articles 6 and 9)",
    "who receives the data, and transfers to third countries with their safeguards (d, e)",
    "backups, and how long they are kept",
)


def map_page(privacy: Privacy, *, title: str, events: Iterable[EventType[Any]] = ()) -> bytes:
    """The page as HTML.

    Args:
        privacy: the app's declaration.
        title: what it is of, such as the service's name.
        events: the kinds of events of the service.
    """
    kinds = [(kind, personal_members(kind.schema)) for kind in sorted(events, key=lambda kind: kind.name)]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Data map of {escape(title)}</title><style>{STYLE}</style>",
        f"<h1>Data map of {escape(title)}</h1>",
        "<p>What the service's own declaration says (GDPR, article 30, 1: c, f and g).</p>",
        _section(
            "Fields about people",
            ("field", "class"),
            [(f"{field.model}.{field.name}", _word(field.class_)) for field in privacy.data_map.of(*OF_PERSONS)],
        ),
        _section(
            "Fields of which nobody has said what they hold",
            ("field",),
            [(f"{field.model}.{field.name}",) for field in privacy.data_map.unclassified],
        ),
        _section(
            "Who may see what",
            ("scope", "classes"),
            [
                (scope, ", ".join(class_.value for class_ in STRICTNESS if class_ in classes))
                for scope, classes in sorted(privacy.visibility.by_scope.items())
            ],
        ),
        _section(
            "Where rows about people are, and what becomes of them when a person is erased",
            ("table", "of", "sealed columns", "at an erasure"),
            [(place.table, _whose(place), ", ".join(place.sealed), _rule(place.erase)) for place in privacy.places],
        ),
        _section(
            "Events about people",
            ("event", "sealed for", "sealed members"),
            [(kind.name, kind.person, ", ".join(members)) for kind, members in kinds if kind.person or members],
        ),
        _section(
            "What is forgotten when it is old",
            ("table", "after", "what happens", "because"),
            [
                (
                    rule.table,
                    f"{rule.older_than.total_seconds() / 86_400:g} days by {rule.by}",
                    _rule(rule.erase),
                    rule.because,
                )
                for rule in privacy.retention
            ],
        ),
        f"<h2>How it is kept safe</h2><p>{escape(_safety(privacy))}</p>",
        "<h2>What this page cannot know</h2><ul>",
        *(f"<li>{escape(line)}</li>" for line in UNKNOWN),
        "</ul>",
    ]
    return "".join(parts).encode()


def _section(heading: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return f"<h2>{escape(heading)}</h2><p>None.</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<h2>{escape(heading)}</h2><section>{table}</section>"


def _word(class_: DataClass | None) -> str:
    return "" if class_ is None else class_.value


def _whose(place: Place) -> str:
    return f"{place.person}, by {place.column}"


def _rule(rule: Rule) -> str:
    if isinstance(rule, Keep):
        return f"kept: {rule.because}"
    if isinstance(rule, Blank):
        return f"emptied: {', '.join(rule.columns)}"
    return "deleted"


def _safety(privacy: Privacy) -> str:
    if privacy.keys is None:
        return "Nothing is sealed: the service has no keys of persons."
    return (
        "Sealed fields are encrypted with AES-256-GCM under a key for each person, which is wrapped by"
        f" {type(privacy.keys.wrapper).__name__} ({privacy.keys.wrapper.current}) and destroyed at an erasure. Personal"
        " fields are masked in logs."
    )
