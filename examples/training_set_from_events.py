"""A training set for a recommender's own model: each event with the product's vector as it was known then.

    python examples/training_set_from_events.py shop events.csv training.parquet

``events.csv`` has the columns ``product_id`` and ``event_timestamp`` (ISO 8601, UTC), and any others, which are kept:
clicked, user_id, price. Feast's point-in-time join gives each event the newest row that is not later than it, and
nothing older than ``[feast] ttl_days``. So a photo that came, or was replaced, after an event does not leak into it:
there the vector is null, and the event is left out unless ``--keep-unknown`` is given.

All vectors are of one encoder version, the one that serves now: another version's would be another space. A newer
version computes old photos anew, and its vectors carry the time at which the photo was first seen, not the time of the
computation, so old events keep theirs.
"""

import argparse

import pandas as pd

from vitrine.feature_store import PRODUCTS, open_store
from vitrine.online.lookup import OnlineFeatures
from vitrine.settings import load_settings


def training_set(dataset: str, events: pd.DataFrame) -> pd.DataFrame:
    """``events`` with ``embedding``, ``category``, ``n_images`` and ``encoder_version`` of then; None where there were
    none."""
    settings = load_settings()
    store = open_store(settings)
    view = OnlineFeatures(settings, store).serving(dataset, PRODUCTS).view.name
    events = events.assign(event_timestamp=pd.to_datetime(events["event_timestamp"], utc=True))
    features = [f"{view}:{name}" for name in PRODUCTS.features]
    return store.get_historical_features(entity_df=events, features=features).to_df()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("events", help="a CSV file")
    parser.add_argument("out", help="a Parquet file")
    parser.add_argument("--keep-unknown", action="store_true", help="events of products that had no vector then, too")
    given = parser.parse_args(arguments)
    rows = training_set(given.dataset, pd.read_csv(given.events))
    known = rows["embedding"].notna()
    (rows if given.keep_unknown else rows[known]).to_parquet(given.out, index=False)
    print(f"{len(rows)} events: {known.sum()} with the vector of then, {(~known).sum()} before there was one")


if __name__ == "__main__":
    main()
