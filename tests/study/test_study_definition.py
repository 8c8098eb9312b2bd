"""The study file: what it refuses, what its hash covers, what each optimizer is trained with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from medsharp.errors import InputError
from medsharp.optim.catalogue import optimizer_info
from training.settings import check_config
from training.study import StudyDefinition, load_study
from training.study.definition import dump_study, validate_study
from training.study.plan import Chain, cell_config, check_fair, passes_of, plan_cells, plan_chains, run_name

from .conftest import replaced

Define = Callable[..., StudyDefinition]
STUDIES = sorted((Path(__file__).parents[2] / "configs" / "study").glob("*.yaml"))

ASHA = {"trials": 9, "lr": {"low": 1e-4, "high": 1e-2}, "pruning": "asha"}
TWO = [{"name": "adam"}, {"name": "sam", "settings": {"rho": 0.1}}]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimisers": []}, "unknown key 'optimisers'; did you mean optimizers?"),
        ({"search": {"trails": 3}}, "unknown key 'search.trails'; did you mean trials?"),
        ({"networks": [{"name": "a", "kind": "cnn", "setings": {}}]}, "unknown key 'networks.0.setings'"),
        ({"optimizers": [{"name": "adam"}]}, "optimizers"),
        ({"optimizers": [{"name": "adam"}, {"name": "adam"}]}, "optimizers has adam twice"),
        ({"optimizers": [{"name": "adam"}, {"name": "sam", "settings": {"lr": 0.1}}]}, "sam has its own lr"),
        ({"optimizers": [{"name": "adam"}, {"name": "sam", "search": {"gamma": {"low": 0.1, "high": 1}}}]}, "'gamma'"),
        ({"reference": "sgd"}, "reference 'sgd' is not among optimizers"),
        ({"use_folds": 5}, "use_folds 5 is more than folds 3"),
        ({"search": {"trials": 3}}, "search has 3 trials and no lr, so that adam has nothing to try"),
        ({"search": {"lr": {"low": 1, "high": 0.1}}}, "low 1 is not below high 0.1"),
        (
            {"search": ASHA, "budgets": ["epochs", "gradients"]},
            "search.pruning asha compares trials after as many epochs",
        ),
        (
            {"search": ASHA, "claims": [{"name": "x", "says": "improves", "optimizer": "sam"}]},
            "leave it out of a study with claims",
        ),
        ({"search": {"pruning": "median"}}, "search.pruning"),
        ({"claims": [{"name": "x", "says": "improves", "optimizer": "asam"}]}, "claim 'x': asam is not compared"),
        (
            {"claims": [{"name": "x", "says": "improves", "optimizer": "sam", "networks": ["vit"]}]},
            "'vit' is no network",
        ),
        ({"robustness": {"corruptions": ["speckel_noise"]}}, "'speckel_noise' is no corruption"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(define: Define, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        define(**changes)
    assert sentence in str(error.value)
    assert str(error.value).startswith("study.yaml: ")


def test_the_hash_covers_all_that_decides_and_not_where_the_data_lie(define: Define) -> None:
    study = define()
    assert replaced(study, base={"data": {"path": "elsewhere"}, "run": {"device": "cuda"}}).digest() == study.digest()
    for changes in (
        {"base": {"data": {"image_size": 64}}},
        {"rule": {"equivalence": 0.02}},
        {"claims": [{"name": "x", "says": "improves", "optimizer": "sam"}]},
        {"seeds": [1]},
        {"search": {"trials": 2, "lr": {"low": 0.1, "high": 1}}},
    ):
        assert replaced(study, **changes).digest() != study.digest()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_hash_of_a_study_without_pruning_is_that_from_before_there_was_the_key(path: Path) -> None:
    study = load_study(path)
    assert "pruning" not in study.registered()
    assert replaced(study, search={"pruning": "none"}).digest() == study.digest()


def test_the_hash_of_a_study_with_pruning_is_another(define: Define) -> None:
    study = define(search=ASHA)
    assert replaced(study, search={"pruning": "none"}).digest() != study.digest()


def test_the_grid_has_every_combination_once_and_goes_fold_by_fold(define: Define) -> None:
    study = define(
        optimizers=[*TWO, {"name": "msam", "train_on": ["north"]}], seeds=[3, 4], budgets=["epochs", "gradients"]
    )
    chains = plan_chains(study)
    assert [chain.fold for chain in chains] == [0] * 5 + [1] * 5
    assert [chain.name for chain in chains if chain.optimizer.name == "msam"] == [
        "north/cnn/msam/fold-0",
        "north/cnn/msam/fold-1",
    ]
    assert [cell.name.split("/")[-1] for cell in plan_cells(study, chains[0])] == [
        "epochs-seed-3",
        "epochs-seed-4",
        "gradients-seed-3",
        "gradients-seed-4",
    ]


@pytest.mark.parametrize(("name", "epochs"), [("adam", 12), ("sam", 6), ("crsam", 4), ("looksam", 10), ("msam", 12)])
def test_equal_gradients_divide_the_epochs_by_the_passes_of_a_step(define: Define, name: str, epochs: int) -> None:
    study = define(
        base={"schedule": {"epochs": 12, "warmup_epochs": 3}},
        optimizers=[{"name": "adam"}, {"name": "sam"}, {"name": "crsam"}, {"name": "looksam"}, {"name": "msam"}],
        budgets=["epochs", "gradients"],
    )
    chain = next(chain for chain in plan_chains(study) if chain.optimizer.name == name)
    equal_epochs, equal_gradients = (cell_config(study, cell, {}) for cell in plan_cells(study, chain))
    assert equal_epochs.schedule.epochs == 12
    assert equal_gradients.schedule.epochs == epochs
    assert equal_gradients.schedule.warmup_epochs == pytest.approx(3 * epochs / 12)
    assert passes_of(equal_epochs) == 12 * optimizer_info(name).passes


def test_settings_lie_over_each_other_and_choices_on_top(define: Define) -> None:
    study = define(
        hospitals=[
            {
                "name": "north",
                "site": "North",
                "settings": {"schedule": {"epochs": 8, "batch_size": 4}},
                "epochs_share": 0.5,
            }
        ],
        networks=[
            {
                "name": "n",
                "kind": "cnn",
                "settings": {"network": {"name": "resnet10_w16"}, "schedule": {"batch_size": 6}},
            }
        ],
    )
    chain = plan_chains(study)[1]
    config = cell_config(study, plan_cells(study, chain)[0], {"lr": 0.004, "rho": 0.3})
    assert (config.schedule.epochs, config.schedule.batch_size, config.optimizer.lr) == (4, 6, 0.004)
    assert config.optimizer.hyperparameters()["rho"] == 0.3
    assert config.optimizer.base == "adam"


def test_optimizers_that_differ_in_more_than_themselves_are_refused(define: Define) -> None:
    check_fair(define())
    study = define(optimizers=[{"name": "adam"}, {"name": "sam", "settings": {"backbone_lr_ratio": 0.5}}])
    with pytest.raises(InputError, match="sam differs from adam in backbone_lr_ratio"):
        check_fair(study)


def test_a_run_is_named_by_settings_images_and_code_and_not_by_its_device(define: Define) -> None:
    study = define()
    chain = plan_chains(study)[0]
    config = cell_config(study, plan_cells(study, chain)[0], {})
    name = run_name(config, "images", "code")
    moved = replaced(study, base={"run": {"device": "auto"}, "data": {"path": "elsewhere"}})
    assert run_name(cell_config(moved, plan_cells(moved, chain)[0], {}), "images", "code") == name
    others = {run_name(config, "other", "code"), run_name(config, "images", "other")}
    others.add(run_name(cell_config(study, plan_cells(study, chain)[0], {"lr": 0.01}), "images", "code"))
    second = Chain(chain.hospital, chain.network, study.optimizers[1], chain.fold)
    others.add(run_name(cell_config(study, plan_cells(study, second)[0], {}), "images", "code"))
    assert len(others | {name}) == 5


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_that_come_along_are_fair_and_can_be_trained(path: Path) -> None:
    study = load_study(path)
    check_fair(study)
    for chain in plan_chains(study):
        if chain.fold == 0:
            for cell in plan_cells(study, chain):
                check_config(cell_config(study, cell, {}))
    assert study.claims
    assert study.search.trials > 1 or not any(one.search for one in study.optimizers)
    assert validate_study(yaml.safe_load(dump_study(study)), "again").digest() == study.digest()


def test_the_studies_of_the_paper_have_its_optimizers_networks_and_claims() -> None:
    paper, small = (load_study(STUDIES[0].parent / f"{name}.yaml") for name in ("paper", "small"))
    of_the_paper = ["adam", "sam", "asam", "gsam", "wsam", "crsam"]
    assert [one.name for one in paper.optimizers] == of_the_paper
    assert [one.name for one in small.optimizers] == [*of_the_paper, "msam", "fsam", "looksam"]
    assert paper.claims == small.claims
    names = {cell_config(paper, plan_cells(paper, chain)[0], {}).network.name for chain in plan_chains(paper)}
    assert len(names) == 4
    for study in (paper, small):
        assert len(study.fold_numbers) * len(study.seeds) >= 5
        assert study.budgets == ("epochs", "gradients")
        assert study.rule.equivalence == 0.01
