"""The losses once more, in float64 numpy, written naively from the formulas. Slow and obvious on purpose."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy import ndarray


def softmax(row, temperature=1.0):
    powers = [math.exp((z - max(row)) / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def unit(vector):
    return np.asarray(vector) / math.sqrt(sum(v * v for v in np.asarray(vector).ravel()))


def huber(gap):
    return gap * gap / 2 if abs(gap) < 1 else abs(gap) - 0.5


def cross_entropy(logits, labels, label_smoothing=0.0):
    classes = logits.shape[1]
    losses = []
    for row, label in zip(logits, labels, strict=True):
        target = [label_smoothing / classes + (1 - label_smoothing) * (c == label) for c in range(classes)]
        losses.append(-sum(t * math.log(p) for t, p in zip(target, softmax(row), strict=True)))
    return np.mean(losses)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def binary_cross_entropy(logits, labels):
    pairs = zip(logits.ravel(), labels.ravel(), strict=True)
    return np.mean([-math.log(sigmoid(z) if label else sigmoid(-z)) for z, label in pairs])


def binary_kl(student, teacher, temperature=1.0):
    total = 0.0
    for s, t in zip(student.ravel() / temperature, teacher.ravel() / temperature, strict=True):
        total += kl([sigmoid(t), sigmoid(-t)], [sigmoid(s), sigmoid(-s)])
    return temperature**2 * total / len(student)


def kl_divergence(student, teacher, temperature=4.0):
    pairs = zip(student, teacher, strict=True)
    return temperature**2 * np.mean([kl(softmax(t, temperature), softmax(s, temperature)) for s, t in pairs])


def reverse_kl(student, teacher, temperature=4.0):
    return kl_divergence(teacher, student, temperature)


def jensen_shannon(student, teacher, temperature=4.0):
    losses = []
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        losses.append((kl(p, m) + kl(q, m)) / 2)
    return temperature**2 * np.mean(losses)


def mse(student, teacher):
    return np.mean([(s - t) ** 2 for s, t in zip(student.ravel(), teacher.ravel(), strict=True)])


def attention_kl(student, teacher):
    sentences = []
    for s, t in zip(student, teacher, strict=True):
        rows = [kl(p[p > 0], q[p > 0]) for p, q in zip(t.reshape(-1, 4), s.reshape(-1, 4), strict=True) if p.sum()]
        sentences.append(np.mean(rows))
    return np.mean(sentences)


def tckd_terms(student, teacher, labels, temperature=4.0):
    terms = []
    for s, t, y in zip(student, teacher, labels, strict=True):
        p, q = softmax(t, temperature)[y], softmax(s, temperature)[y]
        terms.append(temperature**2 * kl([p, 1 - p], [q, 1 - q]))
    return np.array(terms)


def nckd_terms(student, teacher, labels, temperature=4.0):
    terms = []
    for s, t, y in zip(student, teacher, labels, strict=True):
        p, q = softmax(np.delete(t, y), temperature), softmax(np.delete(s, y), temperature)
        terms.append(temperature**2 * kl(p, q))
    return np.array(terms)


def dkd(student, teacher, labels, alpha=1.0, beta=8.0, temperature=4.0):
    target = tckd_terms(student, teacher, labels, temperature)
    return np.mean(alpha * target + beta * nckd_terms(student, teacher, labels, temperature))


def nkd(student, teacher, labels, gamma=1.5, temperature=1.0):
    losses = []
    for s, t, y in zip(student, teacher, labels, strict=True):
        p, q = softmax(np.delete(t, y), temperature), softmax(np.delete(s, y), temperature)
        others = -sum(a * math.log(b) for a, b in zip(p, q, strict=True))
        losses.append(-softmax(t)[y] * math.log(softmax(s)[y]) + gamma * temperature**2 * others)
    return np.mean(losses)


def standardise(logits):
    return np.array([(row - np.mean(row)) / (np.std(row, ddof=1) + 1e-7) for row in logits])


def normkd(student, teacher, scale=2.0):
    losses = []
    for s, t in zip(student, teacher, strict=True):
        hot_s, hot_t = scale * np.std(s, ddof=1), scale * np.std(t, ddof=1)
        losses.append(hot_t**2 * kl(softmax(t, hot_t), softmax(s, hot_s)))
    return np.mean(losses)


def ttm_terms(student, teacher, power):
    terms, weights = [], []
    for s, t in zip(student, teacher, strict=True):
        powers = [p**power for p in softmax(t)]
        weights.append(sum(powers))
        terms.append(kl([p / sum(powers) for p in powers], softmax(s)))
    return np.array(terms), np.array(weights)


def ttm(student, teacher, power=0.1):
    return ttm_terms(student, teacher, power)[0].mean()


def wttm(student, teacher, power=0.1):
    terms, weights = ttm_terms(student, teacher, power)
    return (terms * weights).mean()


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return a @ b / (math.sqrt(a @ a) * math.sqrt(b @ b) + 1e-8)


def dist(student, teacher, beta=1.0, gamma=1.0, temperature=4.0):
    p = np.array([softmax(row, temperature) for row in student])
    q = np.array([softmax(row, temperature) for row in teacher])
    rows = np.mean([1 - correlation(a, b) for a, b in zip(p, q, strict=True)])
    columns = np.mean([1 - correlation(a, b) for a, b in zip(p.T, q.T, strict=True)])
    return temperature**2 * (beta * rows + gamma * columns)


def mlkd(student, teacher, temperatures=(2.0, 3.0, 4.0, 5.0, 6.0)):
    total = 0.0
    for heat in temperatures:
        p = np.array([softmax(row, heat) for row in student])
        q = np.array([softmax(row, heat) for row in teacher])
        total += heat**2 * (q * np.log(q / p)).sum() / len(p)
        total += ((q @ q.T - p @ p.T) ** 2).sum() / len(p)
        total += ((q.T @ q - p.T @ p) ** 2).sum() / p.shape[1]
    return total


def pooled(feature, height, width):
    """Average pooling by a whole factor."""
    batch, channels, rows, columns = feature.shape
    tiles = feature.reshape(batch, channels, height, rows // height, width, columns // width)
    return tiles.mean(axis=(3, 5))


def same_size(student, teacher):
    height, width = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return pooled(student, height, width), pooled(teacher, height, width)


def at(student, teacher):
    gaps = []
    for s, t in zip(*same_size(student, teacher), strict=True):
        gaps.append((unit((s**2).mean(0)) - unit((t**2).mean(0))) ** 2)
    return np.mean(gaps)


def nst(student, teacher):
    losses = []
    for s, t in zip(*same_size(student, teacher), strict=True):
        s, t = [unit(channel).ravel() for channel in s], [unit(channel).ravel() for channel in t]
        within_s = np.mean([(a @ b) ** 2 for a, b in itertools.product(s, s)])
        within_t = np.mean([(a @ b) ** 2 for a, b in itertools.product(t, t)])
        losses.append(within_s + within_t - 2 * np.mean([(a @ b) ** 2 for a, b in itertools.product(s, t)]))
    return np.mean(losses)


def activation_boundary(student, teacher, margin=1.0):
    total = 0.0
    for s, t in zip(student.ravel(), teacher.ravel(), strict=True):
        if t <= 0 and s > -margin:
            total += (s + margin) ** 2
        elif t > 0 and s <= margin:
            total += (s - margin) ** 2
    return total / len(student)


def partial_l2(student, teacher, margin):
    total = 0.0
    for s, t, m in zip(student.ravel(), teacher.ravel(), np.broadcast_to(margin, student.shape).ravel(), strict=True):
        target = max(t, m)
        if not s <= target <= 0:
            total += (s - target) ** 2
    return total / len(student)


def distances(points):
    return np.array([[math.sqrt(sum((a - b) ** 2)) for b in points] for a in points])


def rkd_distance(student, teacher):
    d_s, d_t = distances(student), distances(teacher)
    d_s, d_t = d_s / d_s[d_s > 0].mean(), d_t / d_t[d_t > 0].mean()
    return np.mean([huber(gap) for gap in (d_s - d_t).ravel()])


def cosine_at(i, j, k, points):
    one, other = points[j] - points[i], points[k] - points[i]
    lengths = math.sqrt(one @ one) * math.sqrt(other @ other)
    return one @ other / lengths if lengths > 0 else 0.0


def rkd_angle(student, teacher):
    triplets = itertools.product(range(len(student)), repeat=3)
    return np.mean([huber(cosine_at(*ijk, student) - cosine_at(*ijk, teacher)) for ijk in triplets])


def sp(student, teacher):
    def similar(feature):
        rows = [sample.ravel() for sample in feature]
        return np.array([unit([a @ b for b in rows]) for a in rows])

    return ((similar(student) - similar(teacher)) ** 2).sum() / len(student) ** 2


def contrast(student, memory, index, classes, log_normaliser, temperature=0.07, negatives=16384):
    count, losses = len(memory), []
    for vector, own in zip(student, index, strict=True):
        scores = [math.exp(vector @ other / temperature - log_normaliser) for other in memory]
        h = [score / (score + negatives / count) for score in scores]
        others = [math.log(1 - h[j]) for j in range(count) if classes[j] != classes[own]]
        losses.append(-math.log(h[own]) - negatives * np.mean(others))
    return np.mean(losses)


def pkt(student, teacher):
    def neighbours(feature):
        rows = [unit(sample.ravel()) for sample in feature]
        kernel = np.array([[(a @ b + 1) / 2 for b in rows] for a in rows])
        return kernel / kernel.sum(1, keepdims=True)

    p, q = neighbours(teacher), neighbours(student)
    return np.mean([a * math.log((a + 1e-7) / (b + 1e-7)) for a, b in zip(p.ravel(), q.ravel(), strict=True)])


def cc(student, teacher):
    gap = np.abs(student - teacher)
    return np.mean([a @ b for a, b in itertools.pairwise(gap)])


def gaussian_kl(learner: tuple[ndarray, ndarray], source: tuple[ndarray, ndarray]):
    total = 0.0
    for mu_s, lv_s, mu_t, lv_t in zip(*(part.ravel() for part in (*learner, *source)), strict=True):
        var_s, var_t = math.exp(lv_s), math.exp(lv_t)
        total += (math.log(var_s / var_t) + (var_t + (mu_t - mu_s) ** 2) / var_s - 1) / 2
    return total / len(learner[0])


def l2_to_start(parameters, starts):
    return sum(((weight - start) ** 2).sum() for weight, start in zip(parameters, starts, strict=True))
