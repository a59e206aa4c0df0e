"""The search of top-tuning: KerasTuner's Bayesian optimisation, whose trials' executions run side by side.

Killed, it goes on: KerasTuner keeps each trial as a file, and what was under way runs again. A search that was
interrupted asks for the same trials as one that was not.
"""

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from training.perceptron import Recipe
from vitrine import files
from vitrine.tuning_sections import TopSettings

_STEP = 128  # of the layers' width

Execution = Callable[[Recipe, int, int, list[float]], list[list[dict[str, float]]]]
"""(recipe, seed, epochs, bar) to each execution's epochs; one ends early where its best validation accuracy so far is
below the bar of that epoch."""


class _Oracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's, whose files are whole at any moment, and whose draws depend on the trial's number alone."""

    def populate_space(self, trial_id: str) -> Any:
        self._random_state = np.random.RandomState([self.seed, int(trial_id)])
        return super().populate_space(trial_id)

    def save(self) -> None:
        files.write_json(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Any) -> None:
        files.write_json(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())

    def reload(self) -> None:
        super().reload()
        # What was noted but not listed yet when the process died would be waited for, and never run.
        self._retry_queue = [name for name, trial in self.trials.items() if trial.status == "RUNNING"]


class Search(keras_tuner.Tuner):
    """Tries recipes until there were ``settings.trials`` of them; the best validation accuracy wins."""

    def __init__(self, folder: Path, settings: TopSettings, seed: int, execute: Execution) -> None:
        self.settings, self.seed, self.execute = settings, seed, execute
        objective = keras_tuner.Objective("val_accuracy", "max")
        oracle = _Oracle(
            objective=objective,
            max_trials=settings.trials,
            num_initial_points=max(3, settings.trials // 4),
            seed=seed + 1,  # 0 would be another one each time
            hyperparameters=space(settings),
        )
        super().__init__(oracle, directory=str(folder), project_name="search", overwrite=False)
        self.histories = folder / "histories"
        self.histories.mkdir(exist_ok=True)

    def run_trial(self, trial: Any, *_: Any, **__: Any) -> dict[str, float]:
        recipe = recipe_of(trial.hyperparameters.values, self.settings)
        number = int(trial.trial_id)
        bar = _medians(self._curves(number)) if self.settings.stop_hopeless else []
        try:
            histories = self.execute(recipe, self.seed + 1000 * number, self.settings.epochs, bar)
        except Exception as error:  # KerasTuner would note any other as a bad recipe, and go on
            raise keras_tuner.errors.FatalError(f"{type(error).__name__}: {error}") from error
        files.write_json(self.histories / f"{number}.json", histories)
        best = statistics.fmean(max(epoch["val_accuracy"] for epoch in history) for history in histories)
        stopped = any(len(history) < self.settings.epochs for history in histories)
        print(
            f"trial {number + 1} of {self.settings.trials}: validation accuracy {best:.4f}"
            f"{' (stopped early)' if stopped else ''}  {_summary(recipe)}",
            file=sys.stderr,
            flush=True,
        )
        return {"val_accuracy": best}

    def best(self) -> tuple[Recipe, float]:
        """The best recipe, and its mean validation accuracy over executions."""
        trial = self.oracle.get_best_trials(1)[0]
        return recipe_of(trial.hyperparameters.values, self.settings), float(trial.score)

    def trials(self) -> list[dict[str, Any]]:
        """What was tried, in order: recipe, score, and each execution's epochs."""
        tried = []
        for _, trial in sorted(self.oracle.trials.items()):
            histories = json.loads((self.histories / f"{int(trial.trial_id)}.json").read_text())
            recipe = asdict(recipe_of(trial.hyperparameters.values, self.settings))
            tried.append({"recipe": recipe, "val_accuracy": trial.score, "executions": histories})
        return tried

    def _curves(self, before: int) -> list[list[float]]:
        """Validation accuracy by epoch of the executions that came to their end, of the trials ``before`` one."""
        whole = []
        for number in range(before):
            for history in json.loads((self.histories / f"{number}.json").read_text()):
                if len(history) == self.settings.epochs:
                    whole.append([epoch["val_accuracy"] for epoch in history])
        return whole


def space(settings: TopSettings) -> keras_tuner.HyperParameters:
    """What is searched over; a setting that its optimiser has no use for is ignored."""
    searched = keras_tuner.HyperParameters()
    searched.Int("layers", *settings.layers)
    low, high = settings.units
    searched.Int("units", low, high, step=min(_STEP, max(1, high - low)))
    searched.Choice("optimizer", list(settings.optimizers))
    searched.Float("learning_rate", *settings.learning_rate, sampling="log")
    searched.Float("momentum", *settings.momentum)
    searched.Float("beta_1", *settings.beta_1)
    return searched


def recipe_of(values: dict[str, Any], settings: TopSettings) -> Recipe:
    searched = {name: values[name] for name in Recipe.__annotations__ if name in values}
    return Recipe(
        **searched,
        batch_size=settings.batch_size,
        loss=settings.loss,
        temperature=settings.temperature,
        label_smoothing=settings.smoothing,
    )


def _summary(recipe: Recipe) -> str:
    return f"{recipe.layers} x {recipe.units}, {recipe.optimizer}, learning rate {recipe.learning_rate:.2g}"


def _medians(curves: list[list[float]]) -> list[float]:
    """At each epoch, the median of what the ended executions had averaged until then."""
    if len(curves) < 3:  # too few to call another one hopeless
        return []
    averages = [np.cumsum(curve) / np.arange(1, len(curve) + 1) for curve in curves]
    return [float(value) for value in np.median(averages, axis=0)]
