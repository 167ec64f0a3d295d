"""Weights in safetensors files, one or several: read tensor by tensor, so that no second copy of a model stands in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from treino import files
from treino.errors import DataError, reason_of
from treino.messages import N_
from treino.models.base import LanguageModel

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
READ = {"F64", "F32", "F16", "BF16"}
"""Number formats that are read, all into float32; others need a scale that stands elsewhere."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a folder by name: nothing is read before it is asked for.

    Attributes:
        folder: where they are.
        places: {name: (open file, the tensor's name there)}.
    """

    folder: Path
    places: Mapping[str, tuple[Any, str]]

    def shape(self, name: str) -> list[int]:
        """Sizes of a tensor."""
        file, there = self.places[name]
        return file.get_slice(there).get_shape()

    def number_format(self, name: str) -> str:
        """Number format as safetensors names it, like F32 or BF16."""
        file, there = self.places[name]
        return file.get_slice(there).get_dtype()

    def read(self, name: str) -> Tensor:
        """The tensor."""
        file, there = self.places[name]
        return file.get_tensor(there)

    def renamed(self, rename: Callable[[str], str | None]) -> Weights:
        """The same tensors under other names; those that get none are left out."""
        pairs = ((rename(name), place) for name, place in self.places.items())
        return Weights(self.folder, {name: place for name, place in pairs if name is not None})


@contextlib.contextmanager
def open_weights(folder: Path, only: str = "") -> Iterator[Weights]:
    """Open the safetensors files of a model folder, or the one that is named.

    Raises:
        DataError: where there are none, or one is missing or damaged, or there is a pickle alone.
    """
    with contextlib.ExitStack() as stack:
        places: dict[str, tuple[Any, str]] = {}
        for path in [folder / only] if only else weight_files(folder):
            if not path.is_file():
                raise DataError(N_("{path} is missing"), path=str(path))
            try:
                file = stack.enter_context(safe_open(path, framework="pt"))
                places |= {name: (file, name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
            except (OSError, SafetensorError) as error:
                raise DataError(N_("{path} is damaged: {reason}"), path=str(path), reason=reason_of(error)) from None
        yield Weights(folder, places)


def weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        try:
            names = set(files.read_json(folder / INDEX)["weight_map"].values())
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                N_("{path} is damaged: {reason}"), path=str(folder / INDEX), reason=reason_of(error)
            ) from None
        return [folder / Path(str(name)).name for name in sorted(names, key=str)]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    fix = N_("{names} is a pickle, which may run code when it is read: ask for safetensors") if pickled else None
    raise DataError(N_("{path} holds no weights"), fix=fix, path=str(folder), names=", ".join(pickled))


def fill_model(model: LanguageModel, weights: Weights) -> None:
    """Put a folder's weights into a language model, tensor by tensor.

    Raises:
        DataError: where names or shapes differ, or a head that the configuration calls tied is another one than the table.
    """
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    every = dict(model.named_parameters(remove_duplicate=False))
    heads = every.keys() - parameters.keys()  # a tied head may be written a second time under its own name
    fill(parameters, weights.renamed(lambda name: None if name in heads else name))
    for name in heads & weights.places.keys():
        if not torch.equal(weights.read(name).to(every[name].dtype), every[name]):
            raise _misfit(weights.folder, [name])


def fill(parameters: Mapping[str, Tensor], weights: Weights) -> None:
    """Put tensors into the parameters of the same names, in the parameters' number format; one at a time.

    Raises:
        DataError: where names or shapes differ, or numbers have a format that is not read.
    """
    check_fit(parameters, weights)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights.read(name))


def check_fit(parameters: Mapping[str, Tensor], weights: Weights, optional: Collection[str] = ()) -> None:
    """See that names, shapes and number formats are those of the parameters; those that are `optional` may be missing.

    Raises:
        DataError: where they are not.
    """
    wrong = sorted((parameters.keys() ^ weights.places.keys()) - set(optional))
    for name in sorted(parameters.keys() & weights.places.keys()):
        there, here = weights.shape(name), list(parameters[name].shape)
        if there != here:
            wrong.append(f"{name} {there} ≠ {here}")
        elif weights.number_format(name) not in READ:
            wrong.append(f"{name} ({weights.number_format(name)})")
    if wrong:
        raise _misfit(weights.folder, wrong)


def _misfit(folder: Path, wrong: list[str]) -> DataError:
    return DataError(
        N_("the weights in {path} do not fit its config.json: {names}"), path=str(folder), names=", ".join(wrong[:5])
    )


def save_weights(parameters: Mapping[str, Tensor], path: Path) -> None:
    """Write parameters as float32 into one safetensors file."""
    tensors = {name: value.detach().float().contiguous().cpu() for name, value in parameters.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, {"format": "pt"})
        except SafetensorError as error:
            raise OSError(str(error)) from None

    files.write_with(path, write)


class _Unfilled(TorchFunctionMode):
    """Leaves out `torch.nn.init`: on tensors without memory it would load torch's compiler, for a second, to fill nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def on_paper(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` makes, with shapes and no memory."""
    with torch.device("meta"), _Unfilled():
        return build()


def without_weights(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` makes, its parameters in memory but not filled: for a module that is filled from a file at once.

    No random numbers are drawn; parameters that were one stay one.
    """
    module = on_paper(build)
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if id(parameter) not in made:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                made[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
            setattr(part, name, made[id(parameter)])
    return module
