"""Step 2: cells become functions."""


def read():
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    data = load_breast_cancer(as_frame=True).frame
    known, unseen = train_test_split(data, test_size=0.25, random_state=0)
    return {"known": known, "unseen": unseen}


def train(known, depth):
    from xgboost import XGBClassifier

    model = XGBClassifier(max_depth=depth, n_estimators=200)
    return model.fit(known.drop(columns="target"), known["target"])


def judge(model, unseen):
    from sklearn.metrics import roc_auc_score

    score = roc_auc_score(unseen["target"], model.predict_proba(unseen.drop(columns="target"))[:, 1])
    print(f"{score:.4f} on {len(unseen)} tumours")
    return round(float(score), 4)


def try_out(known, depth):
    from sklearn.model_selection import train_test_split

    part, check = train_test_split(known, test_size=0.25, random_state=0)
    return {"depth": depth, "score": judge(train(part, depth), check)}


def best(tried):
    return max(tried, key=lambda each: each["score"])["depth"]


def choose(known):
    return best([try_out(known, depth) for depth in (1, 2, 3, 4)])


if __name__ == "__main__":
    data = read()
    judge(train(data["known"], choose(data["known"])), data["unseen"])
