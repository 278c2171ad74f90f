"""Sources of batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from uncollapse.bound import Labelled, move
from uncollapse.data.batches import Batched, by_length, in_order, numbered, source
from uncollapse.errors import InputError

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=60)


class Pair(NamedTuple):
    target: Tensor
    given: Tensor


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        yield torch.zeros(2)


class Squares(Dataset):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, i: int) -> Tensor:
        return torch.tensor([i**2])


@given(n=st.integers(1, 50), batch_size=st.integers(1, 20))
def test_groups_in_order_hold_every_item_once(n: int, batch_size: int) -> None:
    groups = in_order(n, batch_size)

    assert groups.order.tolist() == list(range(n))
    assert all(len(group) == batch_size for group in groups[:-1])


@given(lengths=LENGTHS, batch_size=st.integers(1, 8), mixed=st.booleans(), seed=st.integers(0, 99))
def test_groups_by_length_hold_every_item_once_from_short_to_long(
    lengths: list[int], batch_size: int, mixed: bool, seed: int
) -> None:
    groups = by_length(lengths, batch_size, mixed, seed)
    order = groups.order.tolist()

    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths)
    assert max(map(len, groups)) <= batch_size


@given(lengths=LENGTHS, batch_size=st.integers(1, 8))
def test_a_group_of_equal_length_ends_only_where_it_must(lengths: list[int], batch_size: int) -> None:
    groups = [[lengths[i] for i in group] for group in by_length(lengths, batch_size, mixed=False, seed=0)]

    assert all(len(set(group)) == 1 for group in groups)
    pairs = itertools.pairwise(groups)
    assert all(len(a) == batch_size or a[0] != b[0] for a, b in pairs)


@given(lengths=LENGTHS, batch_size=st.integers(1, 8))
def test_groups_of_mixed_length_are_as_few_as_can_be(lengths: list[int], batch_size: int) -> None:
    assert len(by_length(lengths, batch_size, mixed=True, seed=0)) == -(-len(lengths) // batch_size)


def test_a_batch_as_large_as_a_number_can_be_holds_all() -> None:
    assert [len(group) for group in by_length([3, 1, 3], 2**63 - 1, mixed=True, seed=0)] == [3]
    assert [len(group) for group in by_length([3, 1, 3], 2**63 - 1, mixed=False, seed=0)] == [1, 2]
    assert len(in_order(0, 2**63 - 1)) == 0


def test_the_seed_decides_which_items_share_a_group() -> None:
    groups = [by_length([3] * 20, 5, mixed=False, seed=seed)[0].tolist() for seed in (0, 0, 1)]

    assert groups[0] == groups[1] != groups[2]


def test_batches_are_made_from_the_items_of_their_group() -> None:
    batches = Batched(lambda items: items * 10, [torch.tensor([2, 0]), torch.tensor([1])])

    assert len(batches) == 2
    assert batches.count == 3
    assert batches[0].tolist() == [20, 0]
    assert [x.tolist() for x in batches] == [[20, 0], [10]]


@pytest.mark.parametrize("make", [torch.tensor, np.array, lambda rows: TensorDataset(torch.tensor(rows))])
def test_tensors_arrays_and_datasets_give_the_same_batches(make: Callable[[Any], Any]) -> None:
    batches = source(make([[1.0], [2.0], [3.0]]), batch_size=2)

    assert [x.tolist() for x in batches] == [[[1.0], [2.0]], [[3.0]]]


def test_the_first_element_of_a_tuple_is_the_item() -> None:
    labelled = TensorDataset(torch.arange(3), torch.tensor([7, 8, 9]))

    assert source(labelled, batch_size=3)[0].x.tolist() == [0, 1, 2]


def test_a_dataset_of_single_items_is_collated() -> None:
    assert source(Squares(), batch_size=3)[1].tolist() == [[9], [16]]


def test_a_namedtuple_of_tensors_is_all_items() -> None:
    batch = source(Pair(torch.arange(4), torch.arange(4) * 2), batch_size=3)[1]

    assert isinstance(batch, Pair)
    assert (batch.target.tolist(), batch.given.tolist()) == ([3], [6])


@pytest.mark.parametrize(
    "data", [[torch.zeros(2, 1)], (torch.zeros(2, 1),), Batched(torch.Tensor.double, [torch.ones(2)])]
)
def test_batches_already_made_are_left_alone(data: Any) -> None:
    assert source(data, batch_size=1) is data


@pytest.mark.parametrize("data", [iter([torch.zeros(2)]), (x for x in [torch.zeros(2)]), Stream(), {"x": 1}, "path"])
def test_what_can_be_read_once_is_refused_with_the_reason(data: Any) -> None:
    with pytest.raises(InputError, match=r"resumes exactly only from a source with a length and an index.*a list"):
        source(data, batch_size=1)


def test_a_data_loader_is_refused_in_favour_of_its_dataset() -> None:
    with pytest.raises(InputError, match=r"give its dataset \(`loader.dataset`\)"):
        source(DataLoader(Squares(), collate_fn=torch.stack), batch_size=1)


@pytest.mark.parametrize("data", [torch.zeros(0, 3), np.zeros((0, 3)), TensorDataset(torch.zeros(0))])
def test_no_items_are_refused(data: Any) -> None:
    with pytest.raises(InputError, match="no items"):
        source(data, batch_size=2)


def test_no_batches_are_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        source([], batch_size=2)


def test_batches_without_items_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        source(torch.zeros(3), batch_size=0)


@pytest.mark.parametrize("rows", [[torch.zeros(2), torch.ones(2)], [torch.tensor(1.0)], [1.0, 2.0], ["a b"]])
def test_a_list_of_rows_is_not_taken_for_batches(rows: Any) -> None:
    with pytest.raises(InputError, match=r"a list is taken for batches.*put all rows into one tensor"):
        source(rows, batch_size=1)


@pytest.mark.parametrize(
    ("kind", "expected"), [("float64", torch.float32), ("float16", torch.float32), ("int64", torch.int64)]
)
def test_floating_arrays_are_taken_in_the_default_type(kind: str, expected: torch.dtype) -> None:
    assert source(np.zeros((3, 2), dtype=kind), batch_size=2)[0].dtype == expected
    assert source(torch.zeros(3, 2, dtype=torch.float64), batch_size=2)[0].dtype == torch.float64


def test_batches_come_with_the_ids_they_name_or_running_numbers() -> None:
    x = torch.arange(5).unsqueeze(1)
    named = Batched(x.__getitem__, [torch.tensor([4, 0]), torch.tensor([1, 3, 2])])

    assert [ids.tolist() for ids, _ in numbered(named)] == [[4, 0], [1, 3, 2]]
    assert [ids.tolist() for ids, _ in numbered(list(x.split(2)))] == [[0, 1], [2, 3], [4]]


class Dicts(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"x": torch.zeros(2)}


class Pairs(NamedTuple):
    a: Any
    b: Any


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (Dicts(), r"a batch must be a tensor .* and is a `dict` with `x`: .*`Batch\(\*\*x\)`"),
        (range(5), "a batch must be a tensor .* and is a `int`"),
        (torch.tensor(1.0), "a batch must be a tensor .*, and is a `Tensor`"),
        (Pairs(np.zeros(3), np.zeros(3)), "a batch must be .* a NamedTuple of tensors, and is a `Pairs`"),
        (Pairs(torch.zeros(3, 1), torch.zeros(2, 1)), r"not the same number of them: \(3, 1\), \(2, 1\)"),
        ([torch.zeros(0, 2)], r"a batch has no items.*\(0, 2\)"),
        (np.array(1.0), "a batch must be a tensor .*, and is a `Tensor`"),
        (np.array([1.0], np.longdouble), "the array cannot be a tensor: .*longdouble"),
        (np.array(["a", "b"]), "the array has the type `<U1`"),
        (np.array([None, 1]), "the array has the type `object`"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "the array has a mask"),
    ],
)
def test_what_makes_no_batches_is_refused_with_what_does(data: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        next(numbered(source(data, 2)))


@pytest.mark.parametrize("change", [lambda x: x[:, ::-1], lambda x: x.astype(">f4"), lambda x: x[::-1]])
def test_arrays_in_any_order_of_memory_are_taken(change: Callable[[Any], Any]) -> None:
    array = change(np.arange(6.0).reshape(2, 3))
    assert source(array, 2)[0].tolist() == array.tolist()


def test_an_array_that_a_tensor_can_see_is_not_copied() -> None:
    array = np.zeros((6, 4), np.float32)
    batches = source(array[::2, ::2], 3)
    array[:] = 7
    assert batches[0].eq(7).all()


class Frame:
    """What numpy can read, with columns."""

    columns = ("a", "b")

    def __init__(self, rows: Any) -> None:
        self.rows = np.array(rows)
        self.rows.flags.writeable = False

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.rows.copy() if copy else self.rows

    def __len__(self) -> int:
        return 3

    def __getitem__(self, column: str) -> None: ...


X, Y = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([0, 1, 2])

#: Items in the forms that people have them, three of two numbers.
UNLABELLED = {
    "rows": X.tolist(),
    "rows of arrays in rows": [tuple(row) for row in X.tolist()],
    "frame": Frame(X.tolist()),
    "loader": DataLoader(X, batch_size=2),  # pyright: ignore
    "shuffled loader": DataLoader(TensorDataset(X), batch_size=2, shuffle=True),
    "arrays that are batches": [X[:2].double().numpy(), X[2:].double().numpy()],
}
LABELLED = {
    "pair": (X, Y),
    "pair of arrays": (X.double().numpy(), Y.numpy()),
    "pair of frames": (Frame(X.tolist()), Y),
    "Dataset": TensorDataset(X, Y),
    "loader": DataLoader(TensorDataset(X, Y), batch_size=2),
    "pairs": list(zip(X, Y, strict=True)),
    "pairs of an array and a number": [(x.numpy(), int(y)) for x, y in zip(X, Y, strict=True)],
    "pairs of a list and a number": [(x.tolist(), int(y)) for x, y in zip(X, Y, strict=True)],
    "batches of pairs": [(X[:2], Y[:2]), (X[2:], Y[2:])],
    "batches of a loader": list(DataLoader(TensorDataset(X, Y), batch_size=2)),
}


@pytest.mark.parametrize("form", UNLABELLED)
def test_every_form_of_items_gives_the_same_batches(form: str) -> None:
    assert [x.tolist() for x in source(UNLABELLED[form], 2)] == [X[:2].tolist(), X[2:].tolist()]


@pytest.mark.parametrize("form", LABELLED)
def test_every_form_of_items_with_labels_gives_the_same_batches(form: str) -> None:
    batches = source(LABELLED[form], 2)
    assert all(isinstance(batch, Labelled) for batch in batches)
    assert [x.tolist() for x, _ in batches] == [X[:2].tolist(), X[2:].tolist()]
    assert [y.tolist() for _, y in batches] == [[0, 1], [2]]
    assert batches[0].x.dtype == torch.float32


def test_labels_that_are_no_numbers_are_left_out() -> None:
    class Named(Squares):
        def __getitem__(self, i: int) -> Any:
            return super().__getitem__(i), f"item {i}"

    assert source(Named(), 3)[1].tolist() == [[9], [16]]


@pytest.mark.parametrize("halves", [X.double().split(2), tuple(X[:2].split(1)), (X.numpy(), X.numpy())])
def test_a_tuple_of_tensors_of_one_shape_is_batches(halves: Any) -> None:
    assert [len(batch) for batch in source(halves, 9)] == [len(half) for half in halves]


class Pictures(Squares):
    def __getitem__(self, i: int) -> Any:
        return object(), 1


class Ragged(Squares):
    def __getitem__(self, i: int) -> Tensor:
        return torch.zeros(i)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ((X, Y[:2]), r"must be as many, and have the shapes \(3, 2\) and \(2,\)"),
        ((X, torch.tensor(1)), "must be as many"),
        ((X, X[:, :1]), r"may be two batches, or items and their labels: write `\[a, b\]`"),
        ([X, Y], r"the first has the shape \(3, 2\) and the second \(3,\): write .* as `\(X, y\)`"),
        ([np.zeros(2), np.zeros(2)], r"put all rows into one tensor, as in `torch.from_numpy\(numpy.stack\(rows\)\)`"),
        ([[1.0, 2.0], [3.0]], "the rows are not all of one shape"),
        ([["a", "b"]], r"a list is taken for batches"),
        ([(torch.zeros(2), 0), (torch.zeros(3), 0)], "the rows are not all of one shape"),
        (Frame([["a", 1], ["b", 2]]), r"the type `<U\d+`, .*`frame.select_dtypes\('number'\)`"),
        (Pictures(), "items make no batch: .*object.*ToTensor"),
        (Ragged(), "items make no batch: .*same shape"),
        (DataLoader(Squares(), batch_size=2, drop_last=True), r"give its dataset \(`loader.dataset`\)"),
        (DataLoader(Squares(), sampler=[0, 1]), r"give its dataset \(`loader.dataset`\)"),
        (DataLoader(Squares(), batch_size=None), r"give its dataset \(`loader.dataset`\)"),
        (DataLoader(Stream()), r"give its dataset \(`loader.dataset`\)"),
        (scipy.sparse.csr_matrix(np.eye(3)), r"give all of its numbers \(`x.toarray\(\)`\)"),
        (torch.eye(3).to_sparse(), r"the tensor is `torch.sparse_coo`, .*`x.to_dense\(\)`"),
        (Batched(lambda ids: (X[ids], Y[ids]), [torch.arange(3)]), r"is a `tuple`: .*`uncollapse.Labelled\(x, y\)`"),
    ],
)
def test_what_has_no_one_meaning_is_refused_with_what_to_write(data: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        next(numbered(source(data, 2)))


def test_a_batch_moves_with_its_floating_numbers_in_the_type_asked_for() -> None:
    moved = move(Labelled(X.double(), Y), torch.device("cpu"), torch.float32)
    assert (moved.x.dtype, moved.label.dtype) == (torch.float32, torch.int64)
