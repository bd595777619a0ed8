"""Tags: the names under which values are invalidated together, as templates of a call's arguments and its result.

A tag is its text; no character means anything in it. What is compared with what, and when, is native: `core/coherence`.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

from samovar._exceptions import NotFound
from samovar._options import is_name, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: A value has no more tags than this: each is a comparison when something was invalidated.
MOST = 16
#: A tag has no more bytes than this, in UTF-8.
LONGEST = 512
#: What the result is called in a template.
RESULT = "result"


def check_tags(given: Any) -> tuple[str, ...]:
    """Tags as they are kept: each once, none empty, at most 16.

    Raises:
        ConfigError: They are no texts, or too many.
    """
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise refuse("tags", given, f"give a list of texts: [{given!r}]")
    tags = tuple(dict.fromkeys(given))
    for tag in tags:
        if not is_name(tag) or not tag:
            raise refuse("tags", tag, "give texts that are not empty, such as 'user:7'")
        if len(tag.encode()) > LONGEST:
            raise refuse("tags", tag, f"give shorter ones: a tag has at most {LONGEST} bytes")
    if len(tags) > MOST:
        raise refuse("tags", list(tags), f"give at most {MOST}: what belongs together shares a tag")
    return tags


def check_named(tags: tuple[Any, ...], method: str) -> tuple[str, ...]:
    """The tags that a call is about: one at least, as many as are wanted."""
    if not tags:
        raise refuse("tags", tags, f"name one at least: {method}('users'); clear() is for all")
    for tag in tags:
        if not is_name(tag) or not tag:
            raise refuse("tags", tag, f"give texts: {method}('users', 'user:7')")
    return tuple(dict.fromkeys(tags))


class TagRule:
    """What gives a value its tags: called with the value and its call's arguments."""

    __slots__ = ("_tags", "given")

    def __init__(self, given: Any, tags: Callable[..., tuple[str, ...]]) -> None:
        #: As it was given.
        self.given = given
        self._tags = tags

    def __call__(self, value: Any, *args: Any, **names: Any) -> tuple[str, ...]:
        """The tags of a value; where there is none, `NotFound` stands for it."""
        return self._tags(value, *args, **names)

    def __bool__(self) -> bool:
        return callable(self.given) or bool(self.given)

    def __eq__(self, other: object) -> bool:
        return self.given == other.given if isinstance(other, TagRule) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.given)


def tag_rule(given: Any, parameters: Sequence[str] | None) -> TagRule:
    """The rule that this option is.

    Args:
        given: Tags, templates of them, or a callable ``(value, *args)`` that returns tags.
        parameters: The names of the function's parameters; None: no function is known.

    Raises:
        ConfigError: It is none of these, or a template names what there is not.
    """
    if isinstance(given, TagRule):
        return given
    if given is None:
        return TagRule((), lambda *_args, **_names: ())
    if callable(given):
        rule: Any = given
        return TagRule(given, asked(rule))
    templates = check_tags(given)
    fields = [field_names(template, parameters) for template in templates]
    if not any(fields):
        plain = tuple(template.format() for template in templates)
        return TagRule(list(templates), lambda *_args, **_names: plain)
    return TagRule(list(templates), filled(templates, fields, parameters or ()))


def field_names(template: str, parameters: Sequence[str] | None) -> set[str]:
    """What a template is filled with: parameters by name, and the result."""
    known = {RESULT, *(parameters or ())}
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise refuse("tags", template, f"{error}; write '{{{{' for the character itself") from None
    roots = {name.partition(".")[0].partition("[")[0] for name in fields}
    wrong = sorted(roots - known)
    if wrong:
        if parameters is None:
            known_here = f"here only {{{RESULT}}} is known, as in 'owner:{{{RESULT}.owner}}'"
            cure = f"{known_here}; say it where a function is decorated"
        else:
            cure = f"there is no parameter {wrong[0]!r}, only {', '.join(parameters) or 'none'}, and {RESULT!r}"
        raise refuse("tags", template, cure)
    return roots


def filled(
    templates: tuple[str, ...], fields: list[set[str]], parameters: Sequence[str]
) -> Callable[..., tuple[str, ...]]:
    """Gives the tags that templates make. What speaks of the result is left out where there is none."""
    of_result = [RESULT in names and RESULT not in parameters for names in fields]

    def tags(value: Any, *args: Any, **names: Any) -> tuple[str, ...]:
        given = {RESULT: value, **dict(zip(parameters, args, strict=False)), **names}
        absent = value is None or value is NotFound
        made = (
            template.format_map(given)
            for template, speaks in zip(templates, of_result, strict=True)
            if not (speaks and absent)
        )
        return check_tags(made)

    return tags


def asked(rule: Callable[..., Iterable[str]]) -> Callable[..., tuple[str, ...]]:
    """Gives the tags that a callable returns; it is not asked about what is not there."""

    def tags(value: Any, *args: Any, **names: Any) -> tuple[str, ...]:
        return () if value is NotFound else check_tags(rule(value, *args, **names))

    return tags
