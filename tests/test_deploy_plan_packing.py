# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many pods fit on a GPU, which models together, and which GPU or slice is enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trtkit.deploy.gpus import PRODUCTS, profile_problem, slice_memory
from trtkit.deploy.packing import densities, pack, smallest_product, smallest_profile, together
from trtkit.project.spec_deploy import Gpu


def test_models_are_packed_largest_first() -> None:
    bins, too_large = pack({"a": 30, "b": 60, "c": 50, "d": 40, "e": 200}, capacity_mib=110, overhead_mib=10)
    # b 60 + d 40 fill the first GPU of 100, c 50 + a 30 the second; e fits none
    assert [(each.models, each.used_mib, each.free_mib) for each in bins] == [
        (("b", "d"), 110, 0),
        (("c", "a"), 90, 20),
    ]
    assert too_large == ["e"]
    assert together(bins) == "GPU 1: b, d; GPU 2: c, a"


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 100), max_size=12),
    st.integers(1, 120), st.integers(0, 30),
)  # fmt: skip
def test_packing_loses_no_model_and_fills_no_gpu_beyond_its_memory(
    needs: dict[str, int], capacity: int, overhead: int
) -> None:
    bins, too_large = pack(needs, capacity, overhead)
    assert sorted([name for each in bins for name in each.models] + too_large) == sorted(needs)
    for each in bins:
        assert each.used_mib == overhead + sum(needs[name] for name in each.models) <= capacity
        assert each.free_mib == capacity - each.used_mib
    # first fit: no model of a later GPU would have fitted an earlier one
    for index, later in enumerate(bins):
        for earlier in bins[:index]:
            assert all(earlier.free_mib < needs[name] for name in later.models)


def test_density_by_hand() -> None:
    rows = {row.way: (row.per_gpu, row.per_node) for row in densities(
        "NVIDIA-A100-SXM4-80GB", 81920, 9800, gpus_per_node=8, node_memory_mib=512_000, host_mib=20_000)}  # fmt: skip
    # 81920 x 0.95 / 9800 = 7.9; 25 pods fit the node's host memory; 9800 is more than the 9728 of 1g.10gb
    assert rows["whole GPU"] == (1, 8)
    assert rows["shared GPU"] == (7, 25)
    assert rows["MIG 1g.10gb"] == (0, 0)
    assert rows["MIG 1g.20gb"] == (4, 25)
    assert rows["MIG 7g.80gb"] == (1, 8)


def test_the_smallest_that_is_enough() -> None:
    assert smallest_profile("NVIDIA-A100-SXM4-80GB", 14200) == "1g.20gb"
    assert smallest_profile("NVIDIA-A100-SXM4-80GB", 200_000) is None
    assert smallest_profile("NVIDIA-L40S", 10) is None
    assert smallest_product(14_000) == "NVIDIA-A16"
    assert smallest_product(500_000) is None


def test_slices_are_smaller_than_their_gpu_together() -> None:
    for product in PRODUCTS.values():
        for profile, count in product.slices.items():
            assert count * slice_memory(profile) <= product.memory_mib, profile


def test_data_centre_gpus_from_ampere_on_have_slices() -> None:
    """NVIDIA's MIG guide, supported profiles; a product without any refuses all."""
    for product, profile in (("NVIDIA-A30", "1g.6gb"), ("NVIDIA-H200", "1g.18gb"), ("NVIDIA-B200", "1g.23gb")):
        assert profile_problem(Gpu(product=product, mig=profile)) is None
        assert PRODUCTS[product].slices[profile] in (4, 7)
    assert profile_problem(Gpu(product="NVIDIA-L4", mig="1g.6gb")) is not None


def test_the_counts_of_published_guides_are_not_repeated() -> None:
    """A100 and H100 of 80 GB give two 3g.40gb and not three, an A30 four 1g.6gb and not three."""
    assert PRODUCTS["NVIDIA-A100-SXM4-80GB"].slices["3g.40gb"] == 2
    assert PRODUCTS["NVIDIA-H100-80GB-HBM3"].slices["3g.40gb"] == 2
    assert PRODUCTS["NVIDIA-A30"].slices["1g.6gb"] == 4
