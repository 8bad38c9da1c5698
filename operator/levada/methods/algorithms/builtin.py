"""The algorithms that come with Levada: scikit-learn's, with defaults that are quick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from levada.methods.algorithms.base import FittedModel, Training
from levada.methods.algorithms.estimators import Classifier, Clusterer, Regressor
from levada.resources.base import Model
from levada.resources.hyperparameters import (
    BoostedTreesParams,
    DecisionTreeParams,
    KMeansParams,
    LinearRegressionParams,
    LogisticRegressionParams,
    RandomForestParams,
    TreeParams,
    check,
)
from levada.resources.trainingrun import Task

P = TypeVar("P", bound=Model)
SUPERVISED: frozenset[Task] = frozenset({"classification", "regression"})


class _Builtin:
    """What the built-in algorithms share: parameters are a model."""

    tasks: frozenset[Task]
    accepts_gaps = False
    params: type[Model]

    def check(self, params: Mapping[str, Any], name: str) -> None:
        check(self.params, params, f"'{name}'")


def _parsed(model: type[P], params: Mapping[str, Any]) -> P:
    return model.model_validate(dict(params))


class LogisticRegression(_Builtin):
    tasks: frozenset[Task] = frozenset({"classification"})
    params = LogisticRegressionParams

    def fit(self, training: Training, params: Mapping[str, Any]) -> FittedModel:
        from sklearn.linear_model import LogisticRegression as Estimator

        given = _parsed(LogisticRegressionParams, params)
        estimator = Estimator(
            C=given.c,
            l1_ratio=given.l1_ratio,
            solver="saga" if given.l1_ratio else "lbfgs",
            max_iter=given.max_iterations,
            tol=given.tolerance,
            class_weight=given.class_weight,
            random_state=training.seed,
        )
        return Classifier(estimator.fit(training.features, training.labels))


class LinearRegression(_Builtin):
    tasks: frozenset[Task] = frozenset({"regression"})
    params = LinearRegressionParams

    def fit(self, training: Training, params: Mapping[str, Any]) -> FittedModel:
        from sklearn.linear_model import ElasticNet, Ridge
        from sklearn.linear_model import LinearRegression as LeastSquares

        given = _parsed(LinearRegressionParams, params)
        if given.alpha == 0:
            estimator: Any = LeastSquares()
        elif given.l1_ratio == 0:
            estimator = Ridge(alpha=given.alpha)
        else:
            estimator = ElasticNet(
                alpha=given.alpha,
                l1_ratio=given.l1_ratio,
                max_iter=given.max_iterations,
                tol=given.tolerance,
                random_state=training.seed,
            )
        estimator.fit(training.features.astype(np.float64), training.labels)
        return Regressor(estimator, double=True)


def _tree_settings(params: TreeParams, training: Training) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "max_depth": params.max_depth,
        "max_leaf_nodes": params.max_leaf_nodes,
        "min_samples_leaf": params.min_samples_leaf,
        "max_features": params.max_features,
        "random_state": training.seed,
    }
    if training.task == "classification":
        settings["class_weight"] = params.class_weight
    return settings


class DecisionTree(_Builtin):
    tasks = SUPERVISED
    params = DecisionTreeParams

    def fit(self, training: Training, params: Mapping[str, Any]) -> FittedModel:
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        settings = _tree_settings(_parsed(DecisionTreeParams, params), training)
        if training.task == "classification":
            return Classifier(DecisionTreeClassifier(**settings).fit(training.features, training.labels))
        return Regressor(DecisionTreeRegressor(**settings).fit(training.features, training.labels))


class RandomForest(_Builtin):
    tasks = SUPERVISED
    params = RandomForestParams

    def fit(self, training: Training, params: Mapping[str, Any]) -> FittedModel:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        given = _parsed(RandomForestParams, params)
        settings = _tree_settings(given, training) | {
            "n_estimators": given.trees,
            "max_samples": given.max_samples,
            "n_jobs": training.threads,
        }
        if training.task == "classification":
            return Classifier(RandomForestClassifier(**settings).fit(training.features, training.labels))
        return Regressor(RandomForestRegressor(**settings).fit(training.features, training.labels))


class BoostedTrees(_Builtin):
    tasks = SUPERVISED
    params = BoostedTreesParams
    accepts_gaps = True

    def fit(self, training: Training, params: Mapping[str, Any]) -> FittedModel:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        given = _parsed(BoostedTreesParams, params)
        settings: dict[str, Any] = {
            "max_iter": given.max_iterations,
            "learning_rate": given.learning_rate,
            "max_leaf_nodes": given.max_leaf_nodes,
            "max_depth": given.max_depth,
            "min_samples_leaf": given.min_samples_leaf,
            "l2_regularization": given.l2_regularization,
            "max_bins": given.max_bins,
            "max_features": given.max_features,
            "early_stopping": given.early_stopping,
            "n_iter_no_change": given.patience,
            "random_state": training.seed,
        }
        if training.task == "classification":
            estimator: Any = HistGradientBoostingClassifier(class_weight=given.class_weight, **settings)
        else:
            loss = {"squaredError": "squared_error", "absoluteError": "absolute_error"}[given.loss]
            estimator = HistGradientBoostingRegressor(loss=loss, **settings)
        held_out: dict[str, Any] = {}
        if given.early_stopping and training.validation is not None:
            held_out = {"X_val": training.validation[0], "y_val": training.validation[1]}
        estimator.fit(training.features, training.labels, **held_out)
        return Classifier(estimator) if training.task == "classification" else Regressor(estimator)


class KMeans(_Builtin):
    tasks: frozenset[Task] = frozenset({"clustering"})
    params = KMeansParams

    def fit(self, training: Training, params: Mapping[str, Any]) -> FittedModel:
        from sklearn.cluster import KMeans as Estimator
        from threadpoolctl import threadpool_limits

        given = _parsed(KMeansParams, params)
        estimator = Estimator(
            n_clusters=given.clusters,
            max_iter=given.max_iterations,
            n_init=given.initializations,
            tol=given.tolerance,
            random_state=training.seed,
        )
        with threadpool_limits(1):  # more threads add up the means in an order that differs from run to run
            return Clusterer(estimator.fit(training.features.astype(np.float64)))
