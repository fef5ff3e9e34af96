"""Makes sklearn.json: what scikit-learn's preprocessors make of a small table. `python make.py` with scikit-learn 1.9 installed."""

import json
import math

import numpy as np
import sklearn
from sklearn import preprocessing
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.impute import SimpleImputer

rng = np.random.default_rng(7)
rows = 40
a = [None if i % 9 == 4 else round(float(x), 6) for i, x in enumerate(rng.normal(3, 2.5, rows))]
b = [int(x) for x in rng.integers(-50, 50, rows)]
c = [None if i % 11 == 3 else str(x) for i, x in enumerate(rng.choice(["red", "green", "blue", "ünknown"], rows))]
d = [12.5] * rows
n = [int(x) for x in rng.choice([2, 10, 33], rows)]


def floats(*columns):
    return np.array([[math.nan if v is None else float(v) for v in column] for column in columns]).T


def plain(matrix):
    return [[None if math.isnan(v) else float(v) for v in column] for column in np.asarray(matrix, dtype=float).T]


numbers = floats(a, b, d)
texts = [[v] for v in c]
known = [[v] for v in c if v is not None]
out = {"version": sklearn.__version__, "input": {"a": a, "b": b, "c": c, "d": d, "n": n}, "expected": {}}
for scaler in [
    preprocessing.StandardScaler(),
    preprocessing.MinMaxScaler(),
    preprocessing.MaxAbsScaler(),
    preprocessing.RobustScaler(),
]:
    out["expected"][type(scaler).__name__] = plain(scaler.fit_transform(numbers))
ordinal = preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
ordinal.fit(known)
out["expected"]["OrdinalEncoder"] = plain(ordinal.transform([[v if v is not None else "?"] for v in c]))
out["expected"]["OrdinalEncoder_n"] = plain(preprocessing.OrdinalEncoder().fit_transform([[v] for v in n]))
out["expected"]["LabelEncoder"] = [int(v) for v in preprocessing.LabelEncoder().fit_transform(n)]
one_hot = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(known)
out["expected"]["OneHotEncoder"] = plain(one_hot.transform([[v if v is not None else "?"] for v in c]))
out["expected"]["OneHotEncoder_names"] = [str(v) for v in one_hot.categories_[0]]
for strategy in ["mean", "median", "most_frequent"]:
    out["expected"]["SimpleImputer_" + strategy] = plain(SimpleImputer(strategy=strategy).fit_transform(floats(a, b)))
text_imputer = SimpleImputer(strategy="most_frequent", missing_values=None)
out["expected"]["SimpleImputer_text"] = [str(v[0]) for v in text_imputer.fit_transform(np.array(texts, dtype=object))]
filled = SimpleImputer(strategy="mean").fit_transform(floats(a, b))
out["expected"]["chain"] = plain(preprocessing.StandardScaler().fit_transform(filled))
# What came later has values of its own, so that those above stay as they are.
e = [round(float(x), 6) for x in rng.lognormal(1.0, 0.8, rows)]
words = ["red", "Green", "blue", "b2b", "a", "über", "naïve", "don't", "data_set", "42", "7"]
t = [None if i % 13 == 5 else ", ".join(str(w) for w in rng.choice(words, 1 + i % 7)) for i in range(rows)]
l = [None if i % 10 == 7 else sorted({str(w) for w in rng.choice(words, i % 4)}) for i in range(rows)]
m = [[int(x) for x in rng.choice([2, 10, 33], 1 + i % 3)] for i in range(rows)]
out["input"] |= {"e": e, "t": t, "l": l, "m": m}
expected = out["expected"]
for norm in ["l1", "l2", "max"]:
    expected["Normalizer_" + norm] = plain(preprocessing.Normalizer(norm).fit_transform(floats(b, e)))
for method, columns in [("yeo-johnson", floats(a, b, d, e)), ("box-cox", floats(e))]:
    power = preprocessing.PowerTransformer(method).fit(columns)
    expected["PowerTransformer_" + method] = plain(power.transform(columns))
    expected["PowerTransformer_lambdas_" + method] = [float(v) for v in power.lambdas_]
    expected["PowerTransformer_plain_" + method] = plain(preprocessing.PowerTransformer(method, standardize=False).fit_transform(columns))
for strategy in ["uniform", "quantile"]:
    bins = preprocessing.KBinsDiscretizer(5, encode="ordinal", strategy=strategy, quantile_method="linear", subsample=None)
    expected["KBinsDiscretizer_" + strategy] = plain(bins.fit_transform(floats(b, e)))
expected["digitize"] = [int(v) for v in np.digitize(b, [-20, 0, 31])]
for name, lists in [("l", l), ("m", m)]:
    binarizer = preprocessing.MultiLabelBinarizer()
    expected["MultiLabelBinarizer_" + name] = [[int(v) for v in row] for row in binarizer.fit_transform([v or [] for v in lists])]
    expected["MultiLabelBinarizer_classes_" + name] = [str(v) for v in binarizer.classes_]
texts = [v or "" for v in t]
for name, most in [("", None), ("_most", 4)]:
    counter = CountVectorizer(max_features=most)
    expected["CountVectorizer" + name] = [[int(v) for v in row] for row in counter.fit_transform(texts).toarray()]
    expected["CountVectorizer_names" + name] = [str(v) for v in counter.get_feature_names_out()]
for norm in ["l2", "l1", None]:
    hashing = HashingVectorizer(n_features=16, norm=norm)
    expected[f"HashingVectorizer_{norm}"] = [[float(v) for v in row] for row in hashing.transform(texts).toarray()]
features = [{"b": v, **({} if w is None else {"c": w}), **({} if x is None else {"a": x})} for v, w, x in zip(b, c, a)]
expected["FeatureHasher"] = [[float(v) for v in row] for row in FeatureHasher(8).transform(features).toarray()]
with open(__file__.replace("make.py", "sklearn.json"), "w", encoding="utf8") as file:
    json.dump(out, file, ensure_ascii=False)
    file.write("\n")
