"""From a model's batch normalization layers to this package's, and back to Keras's."""

import warnings
from functools import partial
from typing import Any

import keras
import numpy as np

from brn.arguments import check_model
from brn.layers import BatchRenormalization
from brn.models.copies import Copier, parts_of, within_reach
from brn.models.normalizations import (
    KINDS,
    Choice,
    assignments,
    choose,
    inside,
    names,
    normalizations,
    statistics,
    values,
)
from brn.types import Config

_ARGUMENTS = (
    "name",
    "trainable",
    "axis",
    "momentum",
    "epsilon",
    "center",
    "scale",
    "beta_initializer",
    "gamma_initializer",
    "moving_mean_initializer",
    "moving_variance_initializer",
    "beta_regularizer",
    "gamma_regularizer",
    "beta_constraint",
    "gamma_constraint",
    "synchronized",
    "activity_regularizer",
)
"""What layers of all kinds are constructed with, `dtype` apart."""

_OF_THE_MODEL = ("axis", "trainable")
"""Arguments that `convert` keeps whatever the layer becomes."""

_ROUNDING = 1e-6
"""A variance below 0 by this much of epsilon, at most, is 0 that was rounded."""


def convert(
    model: keras.Model,
    to: type[keras.layers.Layer] = BatchRenormalization,
    *,
    layers: Choice | None = None,
    strict: bool = True,
    **arguments: Any,
) -> keras.Model:
    """Returns a copy of `model` with its batch normalization layers swapped, all weights kept.

    Predictions are the same, to rounding: the new layers predict with the old layers' `gamma`,
    `beta` and averages. `BatchRenormalization` holds `moving_stddev = sqrt(moving_variance +
    epsilon)`, the other layers `moving_variance`; of `keras.layers.BatchNormalization(renorm=True)`
    the averages for prediction are taken, and its clipping where it is symmetrical
    (`rmin = 1 / rmax`).

    ```python
    r_max, d_max = brn.paper_clipping(total_steps=20_000)
    model = brn.convert(model, r_max=r_max, d_max=d_max)       # train on with Batch Renormalization
    model = brn.convert(model, keras.layers.BatchNormalization)  # deploy without this package
    ```

    The copy shares no weight with `model`, which stays as it is. It has all other variables of the
    model, frozen or not as they were. Names of layers, `axis`, `momentum`, `epsilon`, initializers,
    regularizers, constraints, data types, frozen layers, and layers that are used in several places
    stay what they were. What a kind of layer does not have is dropped: bounds and `microbatch_size`
    on the way to Keras, the second pair of averages of `renorm=True`. A new `BatchRenormalization`
    counts its steps from 0. `Lambda` layers, which have no weights, belong to both models.

    A compiled model is compiled alike, and its optimizer goes on from the same state, as every
    trainable variable has its counterpart. If it cannot be compiled from its configuration, such as
    with a loss that is not registered with Keras, or the trainable layers have changed since it
    was compiled, a warning says so, and the copy is not compiled, or its optimizer starts afresh.

    Args:
        model: a `Sequential` or functional model, nested to any depth.
        to: `brn.BatchRenormalization`, `brn.BatchNormalization` or
            `keras.layers.BatchNormalization`. Layers that are of this kind already take part: their
            arguments can be changed this way, such as the bounds of a trained model.
        layers: which layers to swap: a pattern of names such as `"block4_*"`, a list of patterns,
            or a function from a layer to whether. By default all.
        strict: whether layers that cannot be reached are an error. They sit inside custom layers
            or subclassed models, whose code decides what is called, or are of a subclass.
            `strict=False` leaves them as they are and warns with their names; a subclassed model,
            of which nothing can be swapped, comes back itself.
        **arguments: constructor arguments of `to` that replace the old layers', such as `r_max`,
            `d_max`, `microbatch_size` or `momentum`; not `axis` or `trainable`, which are the
            model's. `scale=False` drops `gamma` where it is 1, `center=False` drops `beta` where it
            is 0; new ones start there.

    Raises:
        ValueError: if there is nothing to swap, layers cannot be reached, a layer cannot be made
            with these arguments or copied from its configuration, a variable of the model would be
            missing in the copy, or predictions would not be the same: `gamma` or `beta` would be
            lost, or a larger `epsilon` leaves no variance that makes up for it.
    """
    check_model(model, keras.Model)
    if to not in KINDS:
        raise ValueError(
            "`to` must be brn.BatchRenormalization, brn.BatchNormalization or "
            "keras.layers.BatchNormalization, the class. Its arguments go by name, such as r_max= "
            f"and d_max=. Received: to={to!r}"
        )
    for name in _OF_THE_MODEL:
        if name in arguments:
            raise ValueError(
                f"`{name}` belongs to the model, and each layer keeps its own: leave it out. "
                f"Received: {name}={arguments[name]!r}"
            )
    found = normalizations(model)
    chosen = found if layers is None else choose(found, layers)
    reachable = {id(layer) for layer in within_reach(model) if type(layer) in KINDS}
    missed = [layer for layer in chosen if id(layer) not in reachable]
    if missed:
        text = (
            f"These layers cannot be reached: {names(missed)}. They sit inside custom layers or "
            "subclassed models, or are of a subclass of a known layer."
        )
        if strict:
            remedy = "Build those with other layers, choose with `layers`"
            if parts_of(model) is None:
                remedy = (
                    "Only Sequential and functional models, and subclasses of them that keep the "
                    "constructor, can be taken apart: convert the models it is made of where it "
                    "makes them, or keras.Model(model.inputs, model.outputs) if it has both"
                )
            raise ValueError(
                f"{text} {remedy}, or leave them as they are with strict=False. Received: "
                f"strict={strict}, model={model.name!r}, a {type(model).__name__}"
            )
        if parts_of(model) is None:
            warnings.warn(
                f"{text} They stay as they are: nothing of the model can be swapped, and it comes "
                "back itself.",
                stacklevel=2,
            )
            return model
        warnings.warn(f"{text} They stay as they are.", stacklevel=2)

    copier = Copier(
        [layer for layer in chosen if id(layer) in reachable],
        swap=partial(_as_kind, to=to, arguments=arguments),
        transfer=_transfer_normalization,
    )
    # Classes that are not registered with Keras are found by name: all of them are at hand.
    with keras.saving.custom_object_scope(
        {type(part).__name__: type(part) for part in inside(model)}
    ):
        copy = copier(model)
        copier.transfer()
        copier.check(model, copy)
        _compile_alike(model, copy)
    return copy


def _as_kind(layer: keras.layers.Layer, to: type, arguments: Config) -> keras.layers.Layer:
    """Returns a layer of class `to` with the arguments of `layer`, but for those in `arguments`."""
    kept = {name: getattr(layer, name) for name in _ARGUMENTS}
    kept["dtype"] = layer.dtype_policy
    if to is not keras.layers.BatchNormalization:
        kept["microbatch_size"] = getattr(layer, "microbatch_size", None)
    if to is BatchRenormalization and isinstance(layer, BatchRenormalization):
        kept.update({name: getattr(layer, name) for name in ("r_max", "d_max", "bias_correction")})
    try:
        if to is BatchRenormalization and getattr(layer, "renorm", False):
            kept.update(_renorm_arguments(layer, arguments))
        return to(**{**kept, **arguments})
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The layer {layer.name!r} cannot become a {to.__module__.split('.')[0]} "
            f"{to.__name__}: {error}"
        ) from error


def _renorm_arguments(layer: keras.layers.Layer, arguments: Config) -> Config:
    """Returns what `renorm=True` means to a `BatchRenormalization`; `from_config` knows."""
    clipping = layer.renorm_clipping or {}
    if "r_max" in arguments:
        clipping = {"dmax": clipping.get("dmax")}
    renorm = BatchRenormalization.from_config(
        {
            "name": layer.name,
            "renorm": True,
            "renorm_clipping": clipping,
            "renorm_momentum": layer.renorm_momentum,
        }
    )
    return {"r_max": renorm.r_max, "d_max": renorm.d_max, "momentum": renorm.momentum}


def _transfer_normalization(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    mean, variance = statistics(layer)
    variance = variance + (layer.epsilon - copy.epsilon)
    if not isinstance(copy, BatchRenormalization):
        if (variance < -_ROUNDING * copy.epsilon).any():
            raise ValueError(
                "The layer divides by less than the square root of `epsilon`, which leaves no "
                f"variance: pass epsilon={float(variance.min() + copy.epsilon):.6g} or less. "
                f"Received: layer={layer.name!r}, epsilon={copy.epsilon}"
            )
        variance = np.maximum(variance, 0.0)
    for variable, value in assignments(copy, mean, variance):
        variable.assign(value)
    _transfer_affine(layer, copy, "gamma", 1.0, "scale")
    _transfer_affine(layer, copy, "beta", 0.0, "center")
    if hasattr(copy, "step") and hasattr(layer, "step"):
        copy.step.assign(values(layer.step))


def _transfer_affine(
    layer: keras.layers.Layer, copy: keras.layers.Layer, name: str, neutral: float, argument: str
) -> None:
    """Transfers `gamma` or `beta`; one that a layer does not have is `neutral`."""
    variable, copied = getattr(layer, name), getattr(copy, name)
    value = np.full(layer.moving_mean.shape, neutral) if variable is None else values(variable)
    if copied is not None:
        copied.assign(value)
    elif (value != neutral).any():
        raise ValueError(
            f"The layer {layer.name!r} has a {name} that is not {neutral:g}, and would predict "
            f"otherwise without: choose other layers with `layers`, or leave `{argument}` out. "
            f"Received: {argument}=False, {name}={value}"
        )


def _compile_alike(model: keras.Model, copy: keras.Model) -> None:
    if not model.compiled:
        return
    copy.dtype_policy = model.dtype_policy  # It decides whether the loss is scaled.
    try:
        copy.compile_from_config(model.get_compile_config())
    except Exception as error:
        warnings.warn(
            "The converted model is not compiled: call its `compile`. What the model was compiled "
            f"with cannot be made from its configuration: {type(error).__name__}: {error}",
            stacklevel=3,
        )
        return
    if not copy.compiled or not getattr(model.optimizer, "built", False):
        return
    variables, copies = model.optimizer.variables, copy.optimizer.variables
    shapes = [variable.shape for variable in variables] == [copied.shape for copied in copies]
    # As many of each, in other places: where gamma was dropped and beta added, or the reverse.
    if not shapes or _gammas(model) != _gammas(copy):
        warnings.warn(
            "The converted model's optimizer starts afresh, as it trains other weights: `scale` or "
            "`center` has changed, or, since the model was compiled, which layers are trainable.",
            stacklevel=3,
        )
        return
    for variable, copied in zip(variables, copies, strict=True):
        copied.assign(values(variable))


def _gammas(model: keras.Model) -> list[bool]:
    return [variable.name == "gamma" for variable in model.trainable_variables]
