"""What may be pruned: the ends of a network, and messages that name arguments or settings."""

import jax.numpy as jnp
import pytest

from jaxprune import pruning
from jaxprune.errors import UserError

ORDER = ["stem/kernel", "body/kernel", "head/kernel"]
PARAMS = {name: {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)} for name in ("body", "head", "stem")}


def chosen(*names):
    return {name: {"kernel": name in names, "bias": False} for name in ("body", "head", "stem")}


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({}, ["body"]),
        ({"last": False}, ["body", "head"]),
        ({"first": False}, ["body", "stem"]),
        ({"first": False, "last": False}, ["body", "head", "stem"]),
    ],
)
def test_the_ends_are_kept_dense_by_the_order_of_use(ends, expected):
    assert pruning.keep_ends(pruning.prunable(PARAMS), ORDER, **ends) == chosen(*expected)


def test_no_other_layer_takes_the_place_of_an_end_that_is_dense_already():
    before = chosen("body", "head")
    assert pruning.keep_ends(before, ORDER) == chosen("body")
    assert pruning.keep_ends(pruning.keep_ends(before, ORDER), ORDER) == chosen("body")


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (["stem/kernel", "head/kernel", "body/kernle"], "order: unknown parameter 'body/kernle'; did you mean 'body/"),
        ([], "order: it names no kernel"),
    ],
)
def test_orders_that_are_none_are_errors(order, message):
    with pytest.raises(UserError, match=message):
        pruning.keep_ends(chosen("body"), order)


def test_a_network_of_ends_alone_is_an_error_that_names_them():
    with pytest.raises(UserError, match="nothing is left to prune with head/kernel, stem/kernel kept dense") as error:
        pruning.keep_ends(chosen("stem", "head"), ORDER)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("where", ["", "prune."])
@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_messages_name_the_argument_or_the_setting(argument, where):
    with pytest.raises(UserError, match=rf"^{where}{argument}: unknown parameter 'steam/kernel'; did you mean 'stem/"):
        pruning.prunable(PARAMS, **{argument: ["steam/kernel"]}, where=where)
    kept = {"exclude": ["*"]} if argument == "exclude" else {}
    params = PARAMS if kept else {"body": {"bias": jnp.ones(3)}}
    with pytest.raises(UserError, match=rf"^{where}{argument}: nothing is left to prune among body/bias"):
        pruning.prunable(params, **kept, where=where)


def test_no_bias_is_prunable_unless_asked_for():
    params = {"query": {"kernel": jnp.ones((4, 2, 8)), "bias": jnp.ones((2, 8))}, "token": jnp.ones((1, 4))}
    assert pruning.prunable(params) == {"query": {"kernel": True, "bias": False}, "token": False}
    assert pruning.prunable(params, include=["*bias"]) == {"query": {"kernel": False, "bias": True}, "token": False}
