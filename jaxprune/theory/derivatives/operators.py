"""The curvature of the group losses as linear maps.

They are linearised once where that fits a budget of memory, and evaluated anew in every product otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprune.errors import unknown
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.replicas import where_due
from jaxprune.theory.checks import check_params, check_width
from jaxprune.theory.chunks import Chunks, checked_chunks
from jaxprune.theory.derivatives.gradients import chunk_loss
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params

Curvature = Literal["hessian", "gauss_newton"]
CURVATURES: tuple[Curvature, ...] = ("hessian", "gauss_newton")
MEMORY = 2**30  # bytes

_AXIS = "data"


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("apply", "params", "chunks", "maps", "slopes"),
    meta_fields=("loss", "curvature", "mesh", "inside"),
)
@dataclass(frozen=True)
class GroupOperator:
    """The curvature matrices of all groups, as linear maps.

    The matrices are never formed. A pytree, so that it can be an argument of compiled functions.

    Attributes:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters, P numbers.
      chunks: The examples, each chunk of one group; its inputs and labels are None where `maps` took their place.
      maps: The linear map of every chunk, leaves [K, ...]; None where they are evaluated anew in every product.
      loss: Per-example loss.
      curvature: "hessian" or "gauss_newton".
      mesh: Devices that the chunks are spread over along the axis "data", or None.
      inside: True for the part of one device, inside of `everywhere`.
      slopes: [G, P] the gradients of the groups' summed losses, where there are `maps`; see `group_slopes`.
    """

    apply: Apply
    params: Params
    chunks: Chunks
    maps: Any
    loss: ExampleLoss
    curvature: Curvature
    mesh: Mesh | None = None
    inside: bool = False
    slopes: Array | None = None

    @property
    def num_groups(self) -> int:
        """G."""
        return self.chunks.size.shape[-1]

    @property
    def num_params(self) -> int:
        """P."""
        return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(self.params))

    @property
    def dtype(self) -> Any:
        """The type of the vectors that the operator multiplies."""
        return jnp.result_type(*jax.tree.leaves(self.params))

    def __call__(self, vectors: Array) -> Array:
        """Multiply group a's matrix with row a, [G, P] -> [G, P].

        The product is 0 for a group without examples.

        It has a forward derivative and none in reverse, as `jaxprune.replicas.where_due` has none.
        """
        if self.mesh is not None and not self.inside:
            return everywhere(lambda operator, vectors: operator(vectors), self, vectors)
        vectors = jnp.asarray(vectors)
        with jax.default_matmul_precision("highest"):
            sums = _sums(self, vectors)
        if self.inside:
            sums = jax.lax.psum(sums, _AXIS)
        size = self.chunks.size
        return sums / jnp.where(size > 0, size, 1)[:, None].astype(vectors.dtype)


def everywhere(function: Callable[..., Any], operator: GroupOperator, *arrays: Any) -> Any:
    """Call `function(operator, *arrays)` on every device of the operator's mesh.

    The whole search runs on each device, on examples of its own; only the products are summed over the devices. So a
    loop around the products ends at the same turn on all of them, and nothing else has to be exchanged.

    Args:
      function: A pure function of an operator and arrays.
      operator: The operator; without a mesh the function is simply called.
      *arrays: The same on every device.

    Returns:
      The result of the function, the same on every device.
    """
    if operator.mesh is None:
        return function(operator, *arrays)

    def local(operator: GroupOperator, *arrays: Any) -> Any:
        return function(replace(operator, inside=True), *arrays)

    whole = PartitionSpec()
    places = (_places(operator), *(whole for _ in arrays))
    mapped = jax.shard_map(local, mesh=operator.mesh, in_specs=places, out_specs=whole, check_vma=False)
    return mapped(operator, *arrays)


def _places(operator: GroupOperator) -> Any:
    """The partition of an operator's arrays over the devices."""
    spread, whole = PartitionSpec(_AXIS), PartitionSpec()
    chunks = jax.tree.map(lambda _: spread, operator.chunks)._replace(size=whole)
    places = jax.tree.map(lambda _: whole, operator)
    return replace(places, chunks=chunks, maps=jax.tree.map(lambda _: spread, operator.maps))


def group_operator(
    apply: Apply,
    params: Params,
    batch: Batch | Chunks,
    *,
    num_groups: int,
    loss: ExampleLoss = cross_entropy,
    curvature: Curvature = "hessian",
    memory: int = MEMORY,
    mesh: Mesh | None = None,
) -> GroupOperator:
    """The curvature of every group's mean loss, as one operator.

    The Hessian H_a = ∇²_θ J(θ; D_a) is applied by forward over reverse differentiation; the Gauss-Newton matrix
    mean_x Jᵀ (∇²_z ℓ) J, with J = ∂z/∂θ, by a forward product, the Hessian of the loss in the logits, and a reverse
    product. Either is linearised once, and its intermediate values kept for all products that follow, where they take
    no more than `memory` bytes; otherwise every product evaluates the network again, and takes longer (docs/speed.md).

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples, or chunks of them made by `by_group` (for use under vmap).
      num_groups: G.
      loss: Per-example loss.
      curvature: "hessian" or "gauss_newton".
      memory: Bytes that may be kept; 0 for none.
      mesh: Devices with an axis "data" over which the examples are spread; None for one device.

    Returns:
      The operator.

    Raises:
      UserError: The curvature is unknown; a parameter is not finite, or narrower than float32; the outputs for one
        example depend on the others (live batch statistics); or there are no examples. Inside of a compiled function
        values cannot be checked.
    """
    if curvature not in CURVATURES:
        raise unknown("curvature", curvature, CURVATURES)
    check_width(params)
    check_params(params)
    chunks = checked_chunks(apply, params, batch, num_groups)
    if mesh is not None:
        chunks = _spread(chunks, mesh)
    operator = GroupOperator(as_pytree(apply), params, chunks, None, loss, curvature, mesh)
    share = 1 if mesh is None else mesh.shape[_AXIS]
    return operator if residual_bytes(operator) > memory * share else _linearised(operator)


def residual_bytes(operator: GroupOperator) -> int:
    """The bytes that the linearised operator keeps, over all devices."""
    chunks = operator.chunks
    if not len(chunks.group):
        return 0
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (chunks.x, chunks.y, chunks.weight))
    maps = jax.eval_shape(_linear_map, operator, *first)  # traced once: the function itself is the key of the cache
    return len(chunks.group) * sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(maps))


def vectors_within(memory: int, num_groups: int, num_params: int, itemsize: int) -> int:
    """The number of vectors of G * P numbers that fit a budget.

    At least 4; room for the newest vector is not counted.
    """
    return max(4, memory // max(1, num_groups * num_params * itemsize) - 1)


def group_slopes(operator: GroupOperator) -> Array:
    """The gradient of the sum of each group's losses, [G, P].

    It lies mostly along the leading eigenvectors of the group's Hessian (Gur-Ari, Roberts and Dyer, arXiv:1812.04754),
    so that a search for them that begins with it takes fewer products.
    """
    return _with_slopes(operator, lambda *_: None)[0] if operator.slopes is None else operator.slopes


def _with_slopes(operator: GroupOperator, of_chunk: Callable[..., Any]) -> tuple[Array, Any]:
    """The slopes [G, P], and the results of a function for every chunk, [K, ...].

    In one pass, so that XLA evaluates the network once for both.
    """
    chunks = operator.chunks

    def add(slopes: jax.Array, chunk: tuple[Array, ...]) -> tuple[jax.Array, Any]:
        *examples, group = chunk
        slope = jax.grad(partial(chunk_loss, operator.apply, operator.loss))(operator.params, *examples)
        return slopes.at[group].add(ravel_pytree(slope)[0]), of_chunk(operator, *examples)

    none = jnp.zeros((operator.num_groups, operator.num_params), operator.dtype)
    with jax.default_matmul_precision("highest"):
        slopes, results = jax.lax.scan(add, none, (chunks.x, chunks.y, chunks.weight, chunks.group))
    return (jax.lax.psum(slopes, _AXIS) if operator.inside else slopes), results


@jax.jit
def _linearised(operator: GroupOperator) -> GroupOperator:
    def make(operator: GroupOperator) -> tuple[Array, Any]:
        return _with_slopes(replace(operator, inside=operator.mesh is not None), _linear_map)

    if operator.mesh is not None:
        places = (PartitionSpec(), PartitionSpec(_AXIS))
        make = jax.shard_map(make, mesh=operator.mesh, in_specs=(_places(operator),), out_specs=places, check_vma=False)
    slopes, maps = make(operator)
    bare = operator.chunks._replace(x=None, y=None, weight=None)
    return replace(operator, maps=maps, slopes=slopes, chunks=bare)


def _linear_map(operator: GroupOperator, x: Array, y: Array, weight: Array) -> Any:
    """The product with one chunk's curvature, with its intermediate values as leaves."""
    zeros = jax.tree.map(jnp.zeros_like, operator.params)
    return jax.linearize(lambda v: _product(operator, x, y, weight, v), zeros)[1]


def _product(operator: GroupOperator, x: Array, y: Array, weight: Array, vector: Params) -> Params:
    """The summed curvature of one chunk's examples times a vector.

    The vector has the structure of the parameters.
    """
    apply, params, loss = operator.apply, operator.params, operator.loss
    if operator.curvature == "hessian":
        gradient = jax.grad(partial(chunk_loss, apply, loss))
        return jax.jvp(lambda p: gradient(p, x, y, weight), (params,), (vector,))[1]
    logits, moved = jax.jvp(lambda p: apply(p, x), (params,), (vector,))
    at_logits = jax.grad(lambda z: jnp.sum(jnp.where(weight != 0, loss(z, y) * weight, 0)))
    curved = jax.jvp(at_logits, (logits,), (moved,))[1]
    return jax.vjp(lambda p: apply(p, x), params)[1](curved)[0]


def _sums(operator: GroupOperator, vectors: Array) -> Array:
    """[G, P] products, not yet divided by the sizes of the groups."""
    chunks = operator.chunks

    def add(sums: jax.Array, chunk: tuple[Array, Array]) -> tuple[jax.Array, None]:
        row, group = chunk
        vector = vectors[group]
        # A product with 0 is 0: the chunks of a group whose search has ended, in all replicas, are passed over.
        product = _product_of_row(jnp.any(vector != 0), jnp.zeros_like(vector), (operator, row, vector))
        return sums.at[group].add(product), None

    return jax.lax.scan(add, jnp.zeros_like(vectors), (jnp.arange(len(chunks.group)), chunks.group))[0]


@where_due
def _product_of_row(_: Array, at: tuple[GroupOperator, Array, jax.Array]) -> Array:
    """The product [P] of one chunk, by its row, with a vector [P]."""
    operator, row, vector = at
    unravel, chunks = ravel_pytree(operator.params)[1], operator.chunks
    inputs = operator.maps if operator.maps is not None else (chunks.x, chunks.y, chunks.weight)
    # The row is taken inside of the condition: its operands are copied, and all rows would be.
    of_row = jax.tree.map(lambda a: jnp.asarray(a)[row], inputs)
    of_chunk = of_row if operator.maps is not None else partial(_product, operator, *of_row)
    return ravel_pytree(of_chunk(unravel(vector)))[0]


def _spread(chunks: Chunks, mesh: Mesh) -> Chunks:
    """Chunks spread over the devices, the same number on each.

    Chunks of weight 0 make up the number.
    """
    missing = -len(chunks.group) % mesh.shape[_AXIS]
    parts = chunks._replace(size=None)
    filled = jax.tree.map(lambda a: np.concatenate([a, np.repeat(a[:1], missing, 0)]), parts)
    filled.weight[len(chunks.group) :] = 0
    spread = NamedSharding(mesh, PartitionSpec(_AXIS))
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.device_put(filled, spread)._replace(size=jax.device_put(chunks.size, whole))
