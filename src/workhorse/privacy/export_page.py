"""An export as a page that a person can read: one file, no scripts, nothing loaded from anywhere."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any, Final

from workhorse.privacy.export import Entry, Export

__all__ = ["export_page"]

STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "section{overflow-x:auto}table{border-collapse:collapse;margin:.5rem 0 1.5rem}"
    "th,td{border:1px solid #8888;padding:.25rem .6rem;text-align:left;vertical-align:top;white-space:pre-wrap}"
)


def export_page(export: Export) -> bytes:
    """The export as HTML, a table for each source."""
    sources: dict[str, list[Entry]] = {}
    for entry in export.entries:
        sources.setdefault(entry.source, []).append(entry)
    made = export.made_at.strftime("%Y-%m-%d %H:%M UTC")
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>What is known of {escape(export.subject)}</title><style>{STYLE}</style>",
        f"<h1>What is known of {escape(export.subject)}</h1>",
        f"<p>{len(export.entries)} entries, gathered on {made}.</p>",
    ]
    for source, entries in sources.items():
        parts.append(f"<h2>{escape(source)}</h2><section>{_table(entries)}</section>")
    if export.withheld:
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in export.withheld)
        parts.append(f"<h2>Not shown</h2><p>{len(export.withheld)} entries, because:</p><ul>{reasons}</ul>")
    return "".join(parts).encode()


def _table(entries: list[Entry]) -> str:
    names = list(dict.fromkeys(name for entry in entries for name in entry.facts))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(f"<tr>{''.join(f'<td>{_cell(entry.facts, name)}</td>' for name in names)}</tr>" for entry in entries)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    if value is None:
        return ""
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
