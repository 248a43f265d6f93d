"""The classes of answers as docs/api.md shows them: in words, each in a section of its own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec import inspect

from tools.class_docs import about, bases_of, class_of, field_docs

MAX_VALUES = 8
"""The most values of a type that are listed."""


class Shown(NamedTuple):
    """A type in words, its unit, and a remark that always applies."""

    text: str
    unit: str = ""
    about: str = ""


@dataclass
class ApiClass:
    """A section about a class, or about several that `type` distinguishes."""

    title: str
    about: str
    docs: dict[str, str] = field(default_factory=dict)
    """The description of each field."""
    base: str = ""
    """A link to the class whose keys it has as well."""
    fields: Sequence[Any] = ()
    """All other keys."""
    variants: Sequence[tuple[str, str, str]] = ()
    """The value of `type`, its meaning, and a link to its keys."""


class ApiClasses:
    """Turns types into words, and collects the classes that these mention, in that order."""

    def __init__(self, prefix: str = "") -> None:
        """`prefix` precedes the titles of the classes."""
        self._prefix = prefix
        self._found: dict[str, ApiClass] = {}

    @classmethod
    def of(cls, kinds: Iterable[Any], prefix: str = "") -> "ApiClasses":
        """All classes that these mention, including themselves."""
        classes = cls(prefix)
        for kind in kinds:
            classes.mention(kind)
        return classes

    @property
    def sections(self) -> list[ApiClass]:
        """The classes that were mentioned so far."""
        return list(self._found.values())

    def mention(self, kind: Any) -> str:
        """A link to a class, which gets a section together with those that it mentions."""
        title = f"{self._prefix}{class_of(kind).__name__}"
        if title not in self._found:
            section = self._found[title] = ApiClass(title, about(kind), field_docs(kind))
            fields = _in_order(kind, inspect.type_info(kind))
            if base := _base(kind):
                section.base = self.mention(base)
                fields = [one for one in fields if one.name not in base.__struct_fields__]
            section.fields = fields
            for one in fields:
                self.shown(one.type)
        return link(title)

    def shown(self, type_: Any) -> Shown:
        """A type in words."""
        match type_:
            case inspect.Metadata():
                inner = self.shown(type_.type)
                unit = (type_.extra or {}).get("unit", inner.unit)
                said = "" if unit else (type_.extra_json_schema or {}).get("description", "")
                return Shown(inner.text, unit, said or inner.about)
            case inspect.UnionType():
                return self._union(type_)
            case inspect.ListType() | inspect.VarTupleType() | inspect.CollectionType():
                inner = self.shown(type_.item_type)
                return Shown(f"list of {inner.text}", inner.unit, inner.about)
            case inspect.TupleType():
                parts = [self.shown(one) for one in type_.item_types]
                return Shown(f"[{', '.join(part.text for part in parts)}]", parts[-1].unit)
            case inspect.DictType() if not isinstance(type_.value_type, inspect.AnyType):
                inner = self.shown(type_.value_type)
                return Shown(f"mapping to {inner.text}", inner.unit)
            case inspect.StructType() | inspect.TypedDictType():
                return Shown(self.mention(type_.cls))
            case inspect.LiteralType():
                return Shown(_listed(type_.values))
            case inspect.EnumType():
                return Shown(_listed([one.value for one in type_.cls]))
        return Shown(_PLAIN[type(type_)])

    def _union(self, type_: Any) -> Shown:
        kinds = [one for one in type_.types if not isinstance(one, inspect.NoneType)]
        if all(isinstance(one, inspect.StructType) and one.tag for one in kinds):
            return Shown(self._variants(kinds))
        parts = [self.shown(one) for one in kinds]
        words = [part.text for part in parts]
        if len(kinds) < len(type_.types):
            words.append("null")
        return Shown(" or ".join(words), parts[0].unit, parts[0].about)

    def _variants(self, kinds: Sequence[Any]) -> str:
        """A section for classes that `type` distinguishes, and one for each set of keys."""
        section = self._found.setdefault("Event", ApiClass("Event", "What happened to a machine."))
        section.variants = [
            (str(one.tag), about(one.cls), self.mention(_with_fields(one.cls))) for one in kinds
        ]
        return link(section.title)


def link(title: str) -> str:
    """A link to the section with that title."""
    return f"[{title}](#{title.lower().replace(' ', '-')})"


_PLAIN: dict[type, str] = {
    inspect.StrType: "text",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "true or false",
    inspect.DictType: "mapping",
    inspect.AnyType: "anything",
}


def _listed(values: Sequence[object]) -> str:
    if len(values) > MAX_VALUES:
        return "a code (`docs/routing.md`)"
    return ", ".join(f"`{value}`" for value in values)


def _base(kind: Any) -> Any:
    """The class from which an answer inherits keys, unless it is generic."""
    bases = [one for one in bases_of(kind) if getattr(one, "__struct_fields__", ())]
    return bases[0] if bases and not getattr(bases[0], "__parameters__", ()) else None


def _with_fields(kind: type) -> type:
    """The class that has the fields: itself, or the base of one that adds none."""
    return kind if vars(kind).get("__annotations__") else kind.__mro__[1]


def _in_order(kind: Any, described: Any) -> list[Any]:
    """The fields in the order of the source, which type information of a TypedDict does not keep."""
    if isinstance(described, inspect.StructType):
        return list(described.fields)
    order = list(class_of(kind).__annotations__)
    return sorted(described.fields, key=lambda one: order.index(one.name))
