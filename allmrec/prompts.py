"""Prompts: what the language model reads of a user, a history and a list of candidates.

The wording is ours; the paper's is printed in its figures 3 and 6 alone. S. Kim et al., KDD 2024
(https://arxiv.org/abs/2404.11343).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

USER, HISTORY, CANDIDATE = "[UserRep]", "[HistoryEmb]", "[CandidateEmb]"
"""Slots: tokens in whose place the language model reads vectors."""
SLOTS = (USER, HISTORY, CANDIDATE)

Domain = Literal["movies", "games", "beauty", "toys", "general"]


@dataclass(frozen=True)
class PromptStyle:
    """One domain's words around the slots and titles of a prompt.

    ``introduce``, ``remember`` and ``ask`` are the three clauses of a prompt, ``answer`` is what should follow. A
    style with other sentences overrides them.

    Args:
        things: What the items are.
        did: What a person did with those of the history.
        do: What a person will do with the next one.
    """

    things: str = "items"
    did: str = "bought"
    do: str = "buy"
    separator: ClassVar[str] = ", "

    def introduce(self) -> str:
        """The clause that holds the user's slot."""
        return f"{USER} stands for a person's taste. "

    def remember(self, history: str) -> str:
        """The clause that lists what the user chose, oldest first."""
        return f"So far this person {self.did}: {history}. "

    def ask(self, candidates: str) -> str:
        """The clause that lists the candidates and asks for one of them."""
        return f"One of these {self.things} comes next: {candidates}. The one they will {self.do} is"

    def answer(self, title: str) -> str:
        """What the language model should say; its end token follows."""
        return f' "{title}"'

    def compose(
        self,
        history: Sequence[str],
        candidates: Sequence[str],
        user: bool = True,
        soft: bool = True,
        joint: bool = True,
    ) -> str:
        """The prompt.

        Args:
            history: Titles, oldest first; the clause is left out if there are none. An empty one is not shown.
            candidates: Titles in the order in which they are shown.
            user: Whether the user's clause is there. Without it and without history this is the null context.
            soft: Whether there are slots; a prompt without any has no user's clause either.
            joint: Whether slots stand behind titles.
        """
        asked = self.ask(self._listed(candidates, CANDIDATE if soft and joint else ""))
        return self.profile(history, user, soft, joint) + asked

    def profile(self, history: Sequence[str], user: bool = True, soft: bool = True, joint: bool = True) -> str:
        """What a prompt tells of the user before it asks; arguments as in :meth:`compose`."""
        introduced = self.introduce() if user and soft else ""
        remembered = self.remember(self._listed(history, HISTORY if soft and joint else "")) if history else ""
        return introduced + remembered

    def card(self, title: str) -> str:
        """One item alone: its title and its slot."""
        return self._listed([title], CANDIDATE)

    def _listed(self, titles: Sequence[str], slot: str) -> str:
        return self.separator.join(f'"{title}"{slot}' if title else slot for title in titles)


STYLES: dict[Domain, PromptStyle] = {
    "movies": PromptStyle("movies", "watched", "watch"),
    "games": PromptStyle("games", "played", "play"),
    "beauty": PromptStyle("beauty products"),
    "toys": PromptStyle("toys"),
    "general": PromptStyle(),
}
