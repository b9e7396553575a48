"""Which picture of each group of copies is kept, and what becomes of the others: what the kept one shows may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from lookalike import keeping
from lookalike.copies.grouping import Group, grouped
from lookalike.copies.links import Kind, Link
from lookalike.duplicates import DROP, KEEP, STAY, Copies, Member
from lookalike.errors import InputError
from lookalike.pipeline import reason_of
from lookalike.scanning import Scan
from lookalike.types import Skipped

_SHOWN_WHOLE = 0.9
"""What shows at least so much of the area of another one, and at least so large, may take its place."""
_AS_LARGE = 0.9


def chosen(
    looked: Scan,
    links: Sequence[Link],
    protected: Set[str],
    rule: str,
    different: Set[frozenset[str]] = frozenset(),
    remembered: keeping.Memory | None = None,
) -> tuple[tuple[Copies, ...], tuple[Skipped, ...]]:
    """Return the groups that links make, the largest first, and what could not be looked at when one was chosen.

    ``protected`` are paths that stay; ``rule`` is one of ``keeping.RULES``; ``different`` are pairs of contents that
    come in no group together.
    """
    return _Chooser(looked, links, protected, rule, remembered).groups(different)


class _Chooser:
    """The pictures of a scan with their links, from which groups with fates are made."""

    def __init__(
        self,
        looked: Scan,
        links: Sequence[Link],
        protected: Set[str],
        rule: str,
        remembered: keeping.Memory | None,
    ) -> None:
        self._remembered = remembered
        self._paths = [file.path for file in looked.files]
        self._pictures, self._inside = looked.pictures, looked.inside
        self._links = links
        self._protected, self._rule = protected, rule
        self._row = {path: row for row, path in enumerate(self._paths)}
        # By content: what holds of a picture holds of every file with its bytes.
        self._between: dict[frozenset[str], Link] = {}
        for link in links:
            contents = frozenset((self._pictures[link.a].sha256, self._pictures[link.b].sha256))
            self._between.setdefault(contents, link)

    def groups(self, different: Set[frozenset[str]]) -> tuple[tuple[Copies, ...], tuple[Skipped, ...]]:
        """Return the groups, the largest first, and what could not be looked at when one was to be chosen."""
        made, problems = [], []
        for group in grouped(self._pictures, self._links, different):
            try:
                made.append(self._copies(group))
            except InputError as error:
                path = getattr(error, "source", self._paths[group.representative])
                problems.append(Skipped(path, f"{reason_of(error)}; its group is left out"))
        return tuple(made), tuple(problems)

    def _copies(self, group: Group) -> Copies:
        rows = group.rows
        paths = [self._paths[row] for row in rows]
        contents = {self._paths[row]: self._pictures[row].sha256 for row in rows}
        safe_paths = self._protected & set(paths)
        looked = keeping.look_at(paths, safe_paths, rule=self._rule, contents=contents, memory=self._remembered)
        of_path = {one.path: one for one in looked}
        safe = [row for row in rows if self._paths[row] in self._protected]
        able = self._able(safe or rows, rows)
        choice = keeping.choose([of_path[self._paths[row]] for row in able], self._rule)
        kept = self._row[choice.keep]
        reason = choice.reason if len(able) > 1 or safe else "the only one that shows all that the others show"
        others = sorted((row for row in rows if row != kept), key=lambda row: self._paths[row])
        members = [self._member(row, kept, of_path, group) for row in others]
        first = self._as_member(kept, kept, of_path, None, (KEEP, reason))
        return Copies(choice.keep, reason, (first, *members))

    def _able(self, some: Sequence[int], rows: Sequence[int]) -> list[int]:
        """Return those that can take the place of most others; the best of these have no frame, and lie as most do."""
        counts = {row: sum(self._replaces(row, other) for other in rows) for row in some}
        able = [row for row, count in counts.items() if count == max(counts.values())]
        if self._rule != "best":
            return able
        able = [row for row in able if self._inside[row] == 1] or able
        upright = {row: sum(self._lies_as(row, other) for other in rows) for row in able}
        return [row for row in able if upright[row] == max(upright.values())]

    def _lies_as(self, row: int, other: int) -> bool:
        link = self._link(row, other)
        return link is None or not link.is_turned()

    def _replaces(self, row: int, other: int) -> bool:
        """Tell whether nothing is lost where ``other`` goes and ``row`` stays: neither what it shows nor how large."""
        link = self._link(other, row)
        if row == other or link is None:
            return row == other
        if link.kind is not Kind.EDITED:
            return True
        row_is_a = self._same_content(link.a, row)
        as_large = 1 / link.scale if row_is_a else link.scale
        return self._share_shown(other, row) >= _SHOWN_WHOLE * self._inside[other] and as_large >= _AS_LARGE

    def _share_shown(self, row: int, by: int) -> float:
        """Return how much of the area of a picture another one shows; 0 where nothing links them."""
        link = self._link(row, by)
        if link is None:
            return 0.0
        mine = link.a if self._same_content(link.a, row) else link.b
        return link.shown_of_a if mine == link.a else link.shown_of_b

    def _link(self, row: int, other: int) -> Link | None:
        if self._same_content(row, other):
            return Link(min(row, other), max(row, other), Kind.EXACT, {"test": "bytes", "change": "none"})
        return self._between.get(frozenset((self._pictures[row].sha256, self._pictures[other].sha256)))

    def _same_content(self, row: int, other: int) -> bool:
        return self._pictures[row].sha256 == self._pictures[other].sha256

    def _member(self, row: int, kept: int, of_path: Mapping[str, keeping.Candidate], group: Group) -> Member:
        link = self._link(row, kept)
        if link is not None:
            return self._as_member(row, kept, of_path, link, self._fate(row, kept, link))
        to = group.representative
        why = "a copy of a picture of this group that was not verified against the kept one"
        return self._as_member(row, to, of_path, self._link(row, to), (STAY, why))

    def _as_member(
        self,
        row: int,
        to: int,
        of_path: Mapping[str, keeping.Candidate],
        link: Link | None,
        fate: tuple[str, str],
    ) -> Member:
        path, picture = self._paths[row], self._pictures[row]
        return Member(
            path,
            Kind.EXACT if link is None else link.kind,
            {"test": "kept"} if link is None else {**link.evidence, "change": self._change(link, to)},
            self._paths[to],
            *fate,
            picture.sha256,
            of_path[path].size_bytes,
            picture.size,
        )

    def _change(self, link: Link, to: int) -> str:
        """Return how the member differs from the picture that it is compared with."""
        return link.change_from(link.a if self._same_content(link.a, to) else link.b)

    def _fate(self, row: int, kept: int, link: Link) -> tuple[str, str]:
        if self._paths[row] in self._protected:
            return STAY, "it lies in a protected folder"
        if not self._replaces(kept, row):
            shown = self._share_shown(row, kept)
            return STAY, f"the kept one shows {shown:.0%} of it" if shown < _SHOWN_WHOLE else "the kept one is smaller"
        change = self._change(link, kept)
        return DROP, f"{link.kind.value} copy" + ("" if change == "none" else f": {change}")
