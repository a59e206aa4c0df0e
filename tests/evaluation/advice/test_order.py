"""The order of the candidates: priors as they were published, each pre-training first, then what may gain most."""

import numpy as np
import pytest

from evaluation.advice import order, priors
from evaluation.advice.order import Measured
from evaluation.advice.priors import SIGMOID, Candidate
from evaluation.metrics_table import ALL_QUERIES, Scores, write_scores
from vitrine.encoders.backbones import REGISTRY, Backbone
from vitrine.settings import Settings


def candidate(name: str, pretraining: str, prior: float, seconds: float = 1.0) -> Candidate:
    return Candidate(name, pretraining, np.full(6, prior), seconds)


def test_the_public_figures_are_those_of_46_models_on_six_tasks():
    public = priors.public()
    assert public.tasks == ["cars", "sop", "rp2k", "met", "cub", "forb"]
    assert public.recall.shape == (46, 6)
    assert ((public.recall > 0) & (public.recall < 1)).all() and (public.seconds > 0).all()
    at = public.models.index("nyu-visionx/moco-v3-vit-b")
    assert public.recall[at, 2] == pytest.approx(0.728, abs=1e-3)  # the best on RP2k is far behind on cars
    assert public.recall[at, 0] == pytest.approx(0.225, abs=1e-3)
    assert {name for name in public.encoders if name} <= REGISTRY.keys()


def test_standard_scores_of_two_models_are_one_deviation_from_their_mean():
    assert priors.standard_scores(np.array([[0.2, 0.9], [0.4, 0.5]])).tolist() == pytest.approx(
        np.array([[-1.0, 1.0], [1.0, -1.0]])
    )


def test_an_encoder_of_public_figures_has_its_own_row_and_others_that_of_their_like_by_size():
    names = ["clip_vitl14_datacomp", "clip_vitb16_laion2b", "clip_vitb32_laion2b", "siglip2_vitb16"]
    own = Backbone("own", "torchvision", "squeezenet1_0", "supervised")
    made = priors.candidates([*(REGISTRY[name] for name in names), own], [1.0] * 5)
    large, unknown, known, sigmoid, supervised = made
    public = priors.public()
    scores = priors.standard_scores(public.recall)
    assert large.scores.tolist() == scores[public.encoders.index("clip_vitl14_datacomp")].tolist()
    assert large.prior > known.prior > unknown.prior
    assert sigmoid.pretraining == SIGMOID
    assert supervised.pretraining == "supervised" and np.isfinite(supervised.scores).all()


def test_a_catalog_of_ones_own_is_one_more_task():
    names = ["clip_vitl14_datacomp", "clip_vitb16_laion2b", "clip_vitb32_laion2b", "siglip2_vitb16"]
    backbones, takes = [REGISTRY[name] for name in names], [1.0] * 4
    before = priors.candidates(backbones, takes)
    shop = {names[0]: 0.3, names[1]: 0.5, names[2]: 0.7, "no candidate": 0.9}
    after = priors.candidates(backbones, takes, [shop, dict.fromkeys(names[:2], 0.5)])  # two are too few
    assert [each.scores[:-1].tolist() for each in after] == [each.scores.tolist() for each in before]
    own = np.array([each.scores[-1] for each in after])
    usual = np.mean([each.prior for each in before[:3]])
    assert own[:3] - usual == pytest.approx(np.array([-1, 0, 1]) * 1.5**0.5)  # 0.3, 0.5, 0.7 in their deviations
    assert own[3] == before[3].prior
    alike = priors.candidates(backbones, takes, [dict(zip(names, (0.5, 0.501, 0.499, 0.5), strict=True))])
    assert max(abs(each.scores[-1] - np.mean([one.prior for one in before])) for each in alike) < 0.1


def test_figures_of_other_data_sets_are_read_by_the_protocol_that_most_encoders_share(settings: Settings):
    def evaluated(dataset: str, encoder: str, split: str, value: float) -> None:
        key = {"encoder_version": f"{encoder:0>16}", "encoder": encoder, "dataset": dataset, "catalog_version": "1"}
        key |= {"query_split": split, "index_split": "train", "relevant": "product_id", "classifier": "", "seed": 0}
        scores = Scores(ALL_QUERIES, {"mR@1": value, "R@10": 0.9}, dict.fromkeys(("mR@1", "R@10"), (None, None)), 9, 0)
        write_scores(settings, key, {"run_id": "r"}, [scores])

    assert priors.own_catalogs(settings, "here") == []
    for encoder, value in (("a", 0.1), ("b", 0.2), ("b", 0.3)):
        evaluated("other", encoder, "test", value)
        evaluated("here", encoder, "test", value)
    evaluated("other", "a", "all", 0.8)
    assert priors.own_catalogs(settings, "here") == [{"a": 0.1, "b": 0.3}]


def test_the_best_of_each_pretraining_goes_first_whatever_the_others_promise():
    known = [candidate("a", "x", 2), candidate("b", "x", 1.9), candidate("c", "y", -1), candidate("d", "z", -2)]
    measured: dict[str, Measured] = {}
    names = []
    for _ in range(3):
        chosen = order.next_to_measure(known, measured)
        assert chosen
        names.append(chosen.name)
        measured[chosen.name] = Measured(0.5, 1e-4)
    assert names == ["a", "c", "d"]


def test_what_resembles_the_one_that_did_well_comes_next_and_what_cannot_gain_is_left():
    known = [candidate(name, "x", prior) for name, prior in (("a", 1), ("b", 0.9), ("c", -2), ("d", -2.1))]
    surprising = {"a": Measured(0.3, 1e-5), "c": Measured(0.6, 1e-5)}
    chosen = order.next_to_measure(known, surprising)
    assert chosen and chosen.name == "d"
    surely = {"a": Measured(0.9, 1e-5), "b": Measured(0.88, 1e-5), "c": Measured(0.2, 1e-5)}
    assert order.next_to_measure(known, surely) is None
    assert order.next_to_measure(known, surely, margin=0.8) is known[3]
    assert order.next_to_measure(known, {each.name: Measured(0.5, 1e-5) for each in known}) is None


def test_figures_that_surprise_leave_none_out():
    """Two networks that nothing tells apart beforehand lie far apart: so may the third, which is not given up."""
    known = [candidate(name, "x", -1) for name in ("a", "b", "c")]
    far_apart = {"a": Measured(0.15, 1e-4), "b": Measured(0.6, 1e-4)}
    chosen = order.next_to_measure(known, far_apart)
    assert chosen and chosen.name == "c"
    near = {"a": Measured(0.58, 1e-4), "b": Measured(0.6, 1e-4)}
    bounds = order.upper_bounds(known, near, known[2:], order.BELIEFS)
    assert order.upper_bounds(known, far_apart, known[2:], order.BELIEFS)[0] > bounds[0] and bounds[0] < 0.7


def test_of_two_that_may_gain_alike_the_quicker_comes_next():
    slow, quick = candidate("slow", "x", 1, seconds=100), candidate("quick", "x", 1, seconds=1)
    known = [candidate("a", "x", 0), slow, quick]
    chosen = order.next_to_measure(known, {"a": Measured(0.4, 1e-4)})
    assert chosen and chosen.name == "quick"


def test_a_task_left_out_is_won_by_a_pretraining_that_is_weak_elsewhere():
    """RP2k's best models are MoCo's, far behind on the other tasks' mean; three measurements come near them."""
    public = priors.public()
    left = public.tasks.index("rp2k")
    scores = priors.standard_scores(np.delete(public.recall, left, axis=1))
    known = [Candidate(*each) for each in zip(public.models, public.pretrainings, scores, strict=True)]
    truth = dict(zip(public.models, public.recall[:, left], strict=True))
    measured: dict[str, Measured] = {}
    for _ in range(3):
        chosen = order.next_to_measure(known, measured)
        assert chosen
        measured[chosen.name] = Measured(truth[chosen.name], 1e-5)
    assert max(truth.values()) - max(each.value for each in measured.values()) < 0.02


def test_the_best_is_joined_with_the_best_of_other_networks():
    figures = {"a_224": 0.9, "a_128": 0.89, "b": 0.7, "c_128": 0.8, "c_224": 0.81, "d": 0.1}
    networks = {name: name[0] for name in figures}
    assert order.pairs(figures, networks, 2) == ["a_224+c_224", "a_224+b"]
    assert order.pairs(figures, networks, 9) == ["a_224+c_224", "a_224+b", "a_224+d"]
    assert order.pairs({"a_224": 0.9, "a_128": 0.89}, networks, 3) == [] == order.pairs({}, {}, 3)
