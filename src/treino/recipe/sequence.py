"""Settings of a sequence: classifications that one body learns one after the other."""

from __future__ import annotations

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from treino.messages import N_
from treino.recipe.base import Settings, setting


class LessonSettings(Settings):
    """[[sequence.tasks]]: one classification, with a head of its own."""

    name: str = setting("", N_("what the task is called"), min_length=1)
    source: str = setting("", N_('a file of texts with labels, or "world" (moods of the town)'), min_length=1)
    text: str = setting("", N_("column or key of the text (empty: found by its name)"))
    label: str = setting("", N_("column or key of the label (empty: found by its name)"))
    limit: int = setting(0, N_("learn from at most so many labelled rows (0: all)"), ge=0)


class SequenceSettings(Settings):
    """[sequence]: tasks that one body learns one after the other, by what [finetune] says, each judged after each.

    With `finetune.method` "full" the body goes on from task to task; with "lora" and "qlora" it stays, and one adapter goes on;
    with "frozen" each task has its head alone, and nothing is forgotten.
    """

    tasks: tuple[LessonSettings, ...] = setting((), N_("the tasks in their order: [[sequence.tasks]] name, source"))
    order: tuple[str, ...] = setting((), N_("names of the tasks in the order of learning (empty: each once)"))
    equal: bool = setting(True, N_("cures take as many FLOPs as training without: they get fewer steps"))

    @model_validator(mode="after")
    def _known(self) -> SequenceSettings:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names) or not set(self.order) <= set(names) or any("/" in name for name in names):
            raise PydanticCustomError("sequence", "names of tasks")
        return self

    @property
    def given(self) -> bool:
        """Whether there is anything to learn."""
        return bool(self.tasks)

    @property
    def phases(self) -> list[int]:
        """Numbers of the tasks in the order of learning."""
        names = [task.name for task in self.tasks]
        return [names.index(name) for name in self.order or names]
