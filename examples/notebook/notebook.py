"""Step 1: the notebook, a cell after another."""

from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier

# %% Read the data, put two quarters aside
data = load_breast_cancer(as_frame=True).frame
known, unseen = train_test_split(data, test_size=0.25, random_state=0)
train, check = train_test_split(known, test_size=0.25, random_state=0)

# %% Try some depths
scores = {}
for depth in (1, 2, 3, 4):
    model = XGBClassifier(max_depth=depth, n_estimators=200)
    model.fit(train.drop(columns="target"), train["target"])
    scores[depth] = roc_auc_score(check["target"], model.predict_proba(check.drop(columns="target"))[:, 1])
    print(f"depth {depth}: {scores[depth]:.4f}")

# %% Train with the best of them, and look at what was never seen
best = max(scores, key=scores.get)
model = XGBClassifier(max_depth=best, n_estimators=200)
model.fit(known.drop(columns="target"), known["target"])
final = roc_auc_score(unseen["target"], model.predict_proba(unseen.drop(columns="target"))[:, 1])
print(f"depth {best} it is: {final:.4f} on {len(unseen)} tumours")
