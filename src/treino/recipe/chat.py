"""Settings of chat and instruction tuning: the conversations that a model learns to answer as."""

from __future__ import annotations

from treino.messages import N_
from treino.recipe.base import Settings, setting


class ChatSettings(Settings):
    """[chat]: conversations, of which the assistant's words are learnt."""

    source: str = setting(
        "",
        N_('a file or folder of conversations, or "world" (those of the town); none: no chat tuning'),
        beginner=True,
    )
    conversation: str = setting(
        "", N_("column that says which conversation a row belongs to (empty: found by its name)")
    )
    speaker: str = setting("", N_("column of who speaks (empty: found by its name)"))
    text: str = setting("", N_("column of what is said (empty: found by its name)"))
    assistant: str = setting(
        "", N_("speaker whose words are learnt (empty: one named assistant, atendente, bot or the like)"), beginner=True
    )
    question: str = setting("", N_("column of the question, where each row is a pair (empty: found by its name)"))
    answer: str = setting("", N_("column of the answer, where each row is a pair (empty: found by its name)"))
    system: str = setting("", N_("instruction before every conversation that has none of its own"), beginner=True)
    validation: float = setting(
        0.1, N_("share of the conversations that are held out, and judge the model"), beginner=True, ge=0, lt=0.5
    )
    limit: int = setting(0, N_("take at most so many conversations (0: all)"), ge=0)

    @property
    def given(self) -> bool:
        """Whether there is anything to learn to answer from."""
        return bool(self.source)
