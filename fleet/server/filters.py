"""The filters that every `get_all` shares: ids, names, tags, patterns in fields, order, pages, only_fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.server.call import LARGEST, Call
from fleet.server.records import Doc, pick, value_at
from fleet.server.refusal import invalid

PAGE_SIZE = 500  # when a page is asked for without a size
MOST_IDS = 10_000  # in one call; a database takes only so many
MAX_PATTERN = 2000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRule:
    """One tag that an object must have (or, negated, must not)."""

    tag: str | None  # None: "has no tag at all"
    negated: bool = False

    def holds(self, tags: Sequence[str]) -> bool:
        found = self.tag in tags if self.tag is not None else not tags
        return found != self.negated


TagClause = tuple[TagRule, ...]  # one of these must hold


def tag_clauses(words: Sequence[str | None]) -> tuple[TagClause, ...]:
    """What a list of tags asks for; all clauses must hold.

    ["a", "b"]: a or b. "-x", and "__$not" before x: without x. After "__$all" or "__$and" every tag must be there;
    after "__$or" one of those up to the next operator.
    """
    clauses: list[TagClause] = []
    group: list[TagRule] = []  # the alternatives that are being collected
    mode, negate_next = "any", False
    for word in words:
        if word in ("__$all", "__$and", "__$or", "__$any"):
            if group:
                clauses.append(tuple(group))
                group = []
            mode = "or" if word in ("__$or", "__$any") else "all"
        elif word == "__$not":
            negate_next = True
        else:
            excludes = word is not None and word.startswith("-") and not negate_next
            rule = TagRule(tag=word[1:] if excludes and word else word, negated=negate_next or excludes)
            # "-x" excludes whatever else is said; so does "__$not" unless it stands among the alternatives of an "__$or"
            if mode == "all" or excludes or (negate_next and mode == "any"):
                clauses.append((rule,))
            else:
                group.append(rule)
            negate_next = False
    if group:
        clauses.append(tuple(group))
    return tuple(clauses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A regular expression that must be found in any (or all) of some fields."""

    fields: tuple[str, ...]
    regex: re.Pattern[str]
    needs_all: bool

    def holds(self, doc: Mapping[str, Any]) -> bool:
        found = (_is_found(self.regex, value_at(doc, field)) for field in self.fields)
        return all(found) if self.needs_all else any(found)


def _is_found(regex: re.Pattern[str], value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_found(regex, v) for v in value)
    return value is not None and regex.search(str(value)) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parsed get_all."""

    ids: tuple[str, ...] | None
    exact_name: str | None  # the pattern was `^literal$`
    patterns: tuple[Pattern, ...]
    tags: Mapping[str, tuple[TagClause, ...]]  # "tags" and "system_tags"
    order_by: tuple[tuple[str, bool], ...]  # (field, descending)
    offset: int
    limit: int | None
    only_fields: tuple[str, ...]

    def holds(self, doc: Mapping[str, Any]) -> bool:
        """Whether `doc` is asked for (but for order and page)."""
        if self.ids is not None and doc.get("id") not in self.ids:
            return False
        if self.exact_name is not None and doc.get("name") != self.exact_name:
            return False
        return self.tags_hold(doc) and all(p.holds(doc) for p in self.patterns)

    def tags_hold(self, doc: Mapping[str, Any]) -> bool:
        return all(
            any(rule.holds(doc.get(kind) or []) for rule in clause)
            for kind, clauses in self.tags.items()
            for clause in clauses
        )

    def arranged(self, docs: Sequence[Doc]) -> list[Doc]:
        """In order, one page of them. Missing values sort first."""
        docs = list(docs)
        for field, descending in reversed(self.order_by):
            docs.sort(key=lambda doc, f=field: _sort_key(value_at(doc, f)), reverse=descending)  # type: ignore[misc]
        return docs[self.offset : None if self.limit is None else self.offset + self.limit]

    def select(self, docs: Sequence[Doc]) -> list[Doc]:
        """All of it over objects in memory: filter, order, page, fields."""
        return [pick(doc, self.only_fields) for doc in self.arranged([d for d in docs if self.holds(d)])]


def _sort_key(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    if isinstance(value, bool | int | float):
        return (1, value)
    return (2, str(value))


def query_of(call: Call, order_by: tuple[tuple[str, bool], ...] = ()) -> Query:
    """Read the shared filters of a call; `order_by` holds when the call names none.

    Raises:
        Refusal: 400/800, a pattern or a number cannot be read.
    """
    page, page_size, size = (max(call.number(name, 0), 0) for name in ("page", "page_size", "size"))
    size = page_size or size or (PAGE_SIZE if call.has("page") else 0)
    if len(call.texts("id")) > MOST_IDS:
        raise invalid("id", f"more than {MOST_IDS} ids; ask for them in parts")
    patterns = []
    exact_name = None
    if name := call.text("name"):
        exact_name = _literal(name)
        if exact_name is None:
            patterns.append(Pattern(fields=("name",), regex=_regex("name", name), needs_all=True))
    if text := call.text("search_text"):
        patterns.append(Pattern(fields=("id", "name", "comment"), regex=_regex("search_text", text), needs_all=False))
    for key in ("_any_", "_all_"):
        if wish := call.mapping(key):
            named = wish.get("fields")
            fields = tuple(f for f in named if isinstance(f, str)) if isinstance(named, list) else ()
            regex = _regex(key, str(wish.get("pattern") or ""))
            patterns.append(Pattern(fields=fields, regex=regex, needs_all=key == "_all_"))
    return Query(
        ids=tuple(call.texts("id")) if call.has("id") else None,
        exact_name=exact_name,
        patterns=tuple(patterns),
        tags={kind: tag_clauses(_tag_words(call, kind)) for kind in ("tags", "system_tags") if call.has(kind)},
        order_by=tuple((f.lstrip("-"), f.startswith("-")) for f in call.texts("order_by")) or order_by,
        offset=min(page * size, LARGEST),
        limit=size or None,
        only_fields=tuple(call.texts("only_fields")),
    )


def _tag_words(call: Call, kind: str) -> list[str | None]:
    words = call.fields[kind]
    words = words if isinstance(words, list) else [words]
    if not all(w is None or isinstance(w, str) for w in words):
        raise invalid(kind, "expected a list of strings")
    return [None if w is None else str(w) for w in words]


def _regex(field: str, pattern: str) -> re.Pattern[str]:
    if len(pattern) > MAX_PATTERN:
        raise invalid(field, f"pattern is longer than {MAX_PATTERN} characters")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise invalid(field, f"not a regular expression: {error}") from error


def _literal(pattern: str) -> str | None:
    """The text that `^...$` stands for when it is escaped literal text, as the SDK sends names; else None."""
    if not (pattern.startswith("^") and pattern.endswith("$")):
        return None
    literal = re.sub(r"\\(\W)", r"\1", pattern[1:-1])
    return literal if "^" + re.escape(literal) + "$" in (pattern, _escaped_lightly(pattern)) else None


def _escaped_lightly(pattern: str) -> str:
    """The same pattern with the characters escaped that `re.escape` would escape and that mean themselves anyway."""
    return re.sub(r"(?<!\\)([-#&~ ])", r"\\\1", pattern)
