"""The protocols: a data set, a network and how it is trained, alike for every arm."""

from experiments.grid.protocols.digits import DIGITS, DIGITS_DEPTH, SMOKE
from experiments.grid.protocols.imagenet import IMAGENET, SOURCES
from experiments.grid.protocols.omniglot import (
    OMNIGLOT,
    OMNIGLOT_CHAIN,
    OMNIGLOT_CHAIN_DEPTH,
    OMNIGLOT_CHAIN_DEPTH_AGAIN,
    OMNIGLOT_CHAIN_LONG,
    OMNIGLOT_DEPTH,
    OMNIGLOT_LONG,
)
from experiments.grid.protocols.protocol import MINIBATCH, Protocol
from experiments.grid.protocols.test_time import TEST_TIME, TEST_TIME_TINY_IMAGENET
from experiments.grid.protocols.tiny_imagenet import (
    TINY_IMAGENET,
    TINY_IMAGENET_DEEP,
    TINY_IMAGENET_GPU,
    TINY_IMAGENET_LONG,
)

__all__ = [
    "IMAGENET",
    "MINIBATCH",
    "PROTOCOLS",
    "SMOKE",
    "SOURCES",
    "TEST_TIME",
    "TINY_IMAGENET",
    "Protocol",
]

PROTOCOLS = (
    SMOKE,
    DIGITS,
    DIGITS_DEPTH,
    TINY_IMAGENET,
    TINY_IMAGENET_LONG,
    TINY_IMAGENET_DEEP,
    TINY_IMAGENET_GPU,
    OMNIGLOT,
    OMNIGLOT_LONG,
    OMNIGLOT_DEPTH,
    OMNIGLOT_CHAIN,
    OMNIGLOT_CHAIN_LONG,
    OMNIGLOT_CHAIN_DEPTH,
    OMNIGLOT_CHAIN_DEPTH_AGAIN,
    IMAGENET,
    TEST_TIME,
    TEST_TIME_TINY_IMAGENET,
)
