"""Copies of models, made from the configurations of their layers, with all that is theirs."""

import tempfile
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import keras

from brn.models.normalizations import inside, values
from brn.types import Config

_HELD = (
    keras.layers.Layer,
    keras.Variable,
    keras.metrics.Metric,
    keras.random.SeedGenerator,
)
"""What has state and may be an attribute of a model."""


def parts_of(layer: keras.layers.Layer) -> list[keras.layers.Layer] | None:
    """Returns the layers that `layer` is made of, if it can be made of others; else `None`."""
    if isinstance(layer, keras.Sequential):
        return layer.layers if type(layer).__init__ is keras.Sequential.__init__ else None
    if _is_functional(layer):
        return layer.layers if type(layer).__init__ is type(_plain(layer)).__init__ else None
    if isinstance(layer, keras.layers.Wrapper):
        rebuilt = type(layer).from_config.__func__ is keras.layers.Wrapper.from_config.__func__
        return [layer.layer] if rebuilt else None
    return None


def _is_functional(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.Model) and hasattr(layer, "operations")


def _plain(model: keras.Model) -> keras.Model:
    """Returns a functional model of no particular class, not compiled, over the same layers."""
    return keras.Model(model.input, model.output, name=model.name)


def within_reach(layer: keras.layers.Layer) -> Iterable[keras.layers.Layer]:
    """Returns `layer` and what it is made of, as deep as layers can be made of others."""
    yield layer
    for part in parts_of(layer) or ():
        yield from within_reach(part)


def _is_taken_apart(layer: Any) -> bool:
    return isinstance(layer, keras.Model) and parts_of(layer) is not None


def _missing(model: Any, copy: Any) -> Config:
    """Returns the attributes with state of a model that is taken apart, and not of its copy."""
    if model is copy or not _is_taken_apart(model):
        return {}
    # PyTorch keeps the layers elsewhere.
    attributes = {**vars(model), **dict(getattr(model, "named_children", dict)())}
    return {
        name: value
        for name, value in attributes.items()
        if not hasattr(copy, name) and any(isinstance(leaf, _HELD) for leaf in _leaves(value))
    }


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Returns lists, tuples and dictionaries of what `function` makes of what is in them."""
    # `keras.tree` sorts dictionaries, and these need not have keys in any order.
    if isinstance(value, dict):
        return {key: _mapped(function, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_mapped(function, item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return function(value)


def _leaves(value: Any) -> list[Any]:
    leaves: list[Any] = []
    _mapped(leaves.append, value)
    return leaves


class Copier:
    """Copies layers from their configurations, each once, the chosen ones as another kind.

    Args:
        chosen: the layers to swap.
        swap: returns what takes a chosen layer's place.
        transfer: gives that its state, once both are built.
    """

    def __init__(
        self,
        chosen: Iterable[keras.layers.Layer],
        swap: Callable[[keras.layers.Layer], keras.layers.Layer],
        transfer: Callable[[keras.layers.Layer, keras.layers.Layer], None],
    ) -> None:
        self._chosen = {id(layer) for layer in chosen}
        self._swap = swap
        self._transfer_swapped = transfer
        # By id the layer and its copy.
        self._copies: dict[int, tuple[Any, Any]] = {}
        # By id the variables that have been transferred as they are, and their copies.
        self._twins: dict[int, tuple[keras.Variable, keras.Variable]] = {}
        # Ids of the variables of swapped layers.
        self._swapped: set[int] = set()
        # Ids of all layers and variables that are seen to, old and new.
        self._done: set[int] = set()

    def __call__(self, layer: Any) -> Any:
        """Returns the copy of a layer, or of another operation of a functional model."""
        if id(layer) not in self._copies:
            self._note(self._copies, layer, self._copy(layer))
        return self._copies[id(layer)][1]

    def _note(self, notes: dict[int, tuple[Any, Any]], item: Any, copied: Any) -> None:
        notes[id(item)] = item, copied
        self._done |= {id(item), id(copied)}

    def _copy(self, layer: Any) -> Any:
        if id(layer) in self._chosen:
            return self._swap(layer)
        if isinstance(layer, keras.layers.Lambda):
            return layer  # Its configuration may lose what its function refers to.
        if parts_of(layer) is None:
            return self._rebuilt(layer)
        if isinstance(layer, keras.Sequential):
            return self._sequential(layer)
        if _is_functional(layer):
            return self._functional(layer)
        config = layer.get_config()
        del config["layer"]
        return type(layer)(self(layer.layer), **config)

    def _rebuilt(self, layer: Any) -> Any:
        try:
            return type(layer).from_config(layer.get_config())
        except Exception as error:
            if not isinstance(layer, keras.layers.Layer) or not layer.variables:
                return layer
            raise ValueError(
                "A layer cannot be copied from its configuration: `from_config(get_config())` "
                f"failed with {type(error).__name__}: {error}. Let its `__init__` accept **kwargs "
                "and pass them to super().__init__, and define `get_config` with the arguments of "
                f"its own. Received: layer={layer.name!r}, a {type(layer).__name__}"
            ) from error

    def _sequential(self, model: keras.Sequential) -> keras.Sequential:
        # One that is not built has no inputs yet.
        inputs = [self._input(model, tensor) for tensor in getattr(model, "inputs", ())]
        return type(model)([*inputs, *map(self, model.layers)], name=model.name)

    def _functional(self, model: keras.Model) -> keras.Model:
        inputs = keras.tree.map_structure(lambda x: self._input(model, x).output, model.input)
        copy = keras.models.clone_model(_plain(model), input_tensors=inputs, clone_function=self)
        if type(copy) is type(model):
            return copy
        return type(model)(copy.input, copy.output, name=model.name)

    def _input(self, model: keras.Model, tensor: keras.KerasTensor) -> keras.layers.InputLayer:
        inputs = (part for part in inside(model) if isinstance(part, keras.layers.InputLayer))
        return self(next(layer for layer in inputs if layer.output is tensor))

    def transfer(self) -> None:
        """Gives every copy the state of its original, and what has been hung on it since."""
        self._copy_what_is_held()
        # Inner layers first: what is left of an outer one is its own.
        pairs = [pair for pair in self._copies.values() if isinstance(pair[0], keras.layers.Layer)]
        for layer, copy in sorted(pairs, key=lambda pair: len(inside(pair[0]))):
            if layer is copy:
                continue
            if layer.built and not copy.built:
                copy.build_from_config(layer.get_build_config())
            if id(layer) not in self._chosen:
                self._transfer(layer, copy)
            elif layer.built:
                self._transfer_swapped(layer, copy)
                self._swapped |= {id(variable) for variable in layer.variables}
                self._done |= self._swapped | {id(variable) for variable in copy.variables}
        self._freeze_alike()

    def check(self, model: keras.Model, copy: keras.Model) -> None:
        """Raises a `ValueError` unless all of `model` but what was swapped is in its copy."""
        present = {id(variable) for variable in copy.variables}
        lost = []
        for variable in model.variables:
            _, copied = self._twins.get(id(variable), (variable, variable))
            if id(variable) not in self._swapped and not (
                id(copied) in present
                and copied.trainable == variable.trainable
                and values(copied).tobytes() == values(variable).tobytes()
            ):
                lost.append(variable.path)
        if lost:
            raise ValueError(
                "The copy would be without some of the model's variables: make them in `build` of "
                "the layer or model that uses them, or keep them as its attributes. "
                f"Received: model={model.name!r}, a {type(model).__name__}, with {lost}"
            )

    def _copy_what_is_held(self) -> None:
        """Copies layers that are attributes of a model that is taken apart, and not parts of it."""
        done = 0
        while done < len(self._copies):  # These may hold others.
            layer, copy = list(self._copies.values())[done]
            for leaf in _leaves(_missing(layer, copy)):
                if isinstance(leaf, keras.layers.Layer):
                    self(leaf)
            done += 1

    def _transfer(self, layer: Any, copy: Any) -> None:
        """As saving and loading would: a layer may make more of its variables than their values."""
        for name, value in _missing(layer, copy).items():
            setattr(copy, name, _mapped(self._copy_of_held, value))
        mine, others = self._left(layer.variables), self._left(copy.variables)
        if _is_taken_apart(layer):
            others += [_twin(variable, copy) for variable in mine[len(others) :]]
        parts, copies = self._left(inside(layer)), self._left(inside(copy))
        if [variable.shape for variable in mine] != [variable.shape for variable in others] or [
            type(part) for part in parts
        ] != [type(part) for part in copies]:
            raise ValueError(
                "The copy of a layer from its configuration has other weights: let `get_config` "
                "return all arguments of `__init__`, and `build` create all weights, those of the "
                "layers inside too, from the shape of the inputs. "
                f"Received: layer={layer.name!r}, a {type(layer).__name__}, with "
                f"{len(mine)} variables; the copy has {len(others)}"
            )
        for part, copied in zip(parts, copies, strict=True):
            self._note(self._copies, part, copied)
        if parts_of(layer) is None:
            parts, copies = [layer, *parts], [copy, *copies]
        for part, copied in zip(parts, copies, strict=True):
            if part.built:
                _transfer_stored(part, copied)
        # Those include the states of random seeds, which the stores do not.
        for variable, copied in zip(mine, others, strict=True):
            copied.assign(values(variable))
            self._note(self._twins, variable, copied)

    def _left(self, found: Iterable[Any]) -> list[Any]:
        return [item for item in found if id(item) not in self._done]

    def _copy_of_held(self, value: Any) -> Any:
        if isinstance(value, keras.Variable):
            return self._twins[id(value)][1] if id(value) in self._twins else deepcopy(value)
        return self(value) if isinstance(value, _HELD) else value

    def _freeze_alike(self) -> None:
        # Outer layers first: what is frozen is so with all that is inside, unless that says else,
        # and unless a variable says else.
        pairs = [pair for pair in self._copies.values() if isinstance(pair[0], keras.layers.Layer)]
        for layer, copy in sorted(pairs, key=lambda pair: -len(inside(pair[0]))):
            if layer is not copy:
                copy.trainable = layer.trainable
        for layer, copy in pairs:
            if id(layer) in self._chosen and layer.built:
                for name in ("gamma", "beta"):
                    variable, copied = getattr(layer, name), getattr(copy, name)
                    if variable is not None and copied is not None:
                        copied.trainable = variable.trainable
        for variable, copied in self._twins.values():
            copied.trainable = variable.trainable


def _transfer_stored(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    copy.load_own_variables({name: values(value) for name, value in store.items()})
    if hasattr(layer, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)


def _twin(variable: keras.Variable, owner: keras.layers.Layer) -> keras.Variable:
    """Returns a weight of `owner` like a variable that nothing but its model knows."""
    return owner.add_weight(
        shape=variable.shape,
        initializer="zeros",
        dtype=variable.dtype,
        trainable=variable.trainable,
        regularizer=variable.regularizer,
        constraint=variable.constraint,
        aggregation=variable.aggregation,
        name=variable.name,
    )
