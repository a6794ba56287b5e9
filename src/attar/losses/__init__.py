"""Losses, each a pure function and a thin module that holds its hyper-parameters.

Arguments are always (learner, source, ...); reductions are named; every softmax runs in float32 at least.
"""

from attar.losses.alpha_beta import AlphaBeta, alpha_beta
from attar.losses.angular import AngularInter, AngularIntra, angular_inter, angular_intra
from attar.losses.attention import AttentionKL, attention_kl
from attar.losses.binary import BinaryCrossEntropy, BinaryKL, binary_cross_entropy, binary_kl
from attar.losses.boosted import Boosted, boosted
from attar.losses.boundaries import ActivationBoundary, PartialL2, activation_boundary, negative_mean, partial_l2
from attar.losses.contrast import Contrast, contrast
from attar.losses.correlation import DIST, MapCorrelation, dist, map_correlation
from attar.losses.decoupled import DKD, NKD, TCKD, TargetClass, TopNCKD, dkd, nckd, nkd, tckd, top_nckd
from attar.losses.distributions import GaussianKL, gaussian_kl
from attar.losses.embeddings import (
    CosineDistance,
    NormalisedSmoothL1,
    NormDirection,
    Redundancy,
    cosine_distance,
    norm_direction,
    redundancy,
)
from attar.losses.entries import PerToken
from attar.losses.entropy import (
    BalancedDivergence,
    EntropyAdaptiveKL,
    EntropyWeighted,
    balanced_divergence,
    entropy_adaptive_kl,
)
from attar.losses.evidential import DirichletKL, EvidentialCrossEntropy, EvidentialMeanKL
from attar.losses.features import MSE, NST, AttentionTransfer, at, mse, nst
from attar.losses.flows import FactorTransfer, factor_transfer, flow
from attar.losses.generations import ConfidenceWeightedCE, PermutedKL, confidence_weighted_ce, permuted
from attar.losses.information import (
    CorrelationInformation,
    MutualInformation,
    correlation_information,
    mutual_information,
)
from attar.losses.kept_teachers import KeptTeachers, feature_distance
from attar.losses.label_embeddings import ClassStructure, InstanceStructure, class_structure, instance_structure
from attar.losses.logit_relations import LocalRelations, Refined, Streamlined
from attar.losses.loss import Loss
from attar.losses.maps import (
    ClassActivation,
    GaussianWasserstein,
    HierarchicalContext,
    VariationalInformation,
)
from attar.losses.multilevel import MLKD, mlkd
from attar.losses.relations import RKDAngle, RKDDistance, rkd_angle, rkd_distance
from attar.losses.responses import (
    CrossEntropy,
    JensenShannon,
    KLDivergence,
    LogitsMSE,
    ReverseKL,
    cross_entropy,
    jensen_shannon,
    kl_divergence,
    logits_mse,
    reverse_kl,
)
from attar.losses.scaled import TTM, WTTM, NormalisedTemperature, NormKD, Standardised, normkd, standardise, ttm, wttm
from attar.losses.scales import ScaleDecoupled, cell_logits, scale_decoupled
from attar.losses.self_targets import SameClassKL, VirtualTeacherKL, same_class_kl, virtual_teacher
from attar.losses.similarities import (
    CC,
    PKT,
    InformationFlow,
    SimilarityPreserving,
    cc,
    information_flow,
    linear_cka,
    pkt,
    sp,
)
from attar.losses.structured import InterLayer, IntraLayer, inter_layer, intra_layer
from attar.losses.teachers import (
    AverageKL,
    ConfidenceWeightedKL,
    ConfidenceWeightedMSE,
    DenselyGuidedKL,
    EntropyWeightedKL,
    RoutedKL,
)
from attar.losses.tether import L2ToStart, l2_to_start
from attar.losses.tokens import SpatialTokens, spatial_tokens
from attar.losses.transport import WKDLogits, transport_cost, wkd_logits
from attar.losses.views import ConfidentKL, confident_kl

__all__ = [
    "CC",
    "DIST",
    "DKD",
    "MLKD",
    "MSE",
    "NKD",
    "NST",
    "PKT",
    "TCKD",
    "TTM",
    "WTTM",
    "ActivationBoundary",
    "AlphaBeta",
    "AngularInter",
    "AngularIntra",
    "AttentionKL",
    "AttentionTransfer",
    "AverageKL",
    "BalancedDivergence",
    "BinaryCrossEntropy",
    "BinaryKL",
    "Boosted",
    "ClassActivation",
    "ClassStructure",
    "ConfidenceWeightedCE",
    "ConfidenceWeightedKL",
    "ConfidenceWeightedMSE",
    "ConfidentKL",
    "Contrast",
    "CorrelationInformation",
    "CosineDistance",
    "CrossEntropy",
    "DenselyGuidedKL",
    "DirichletKL",
    "EntropyAdaptiveKL",
    "EntropyWeighted",
    "EntropyWeightedKL",
    "EvidentialCrossEntropy",
    "EvidentialMeanKL",
    "FactorTransfer",
    "GaussianKL",
    "GaussianWasserstein",
    "HierarchicalContext",
    "InformationFlow",
    "InstanceStructure",
    "InterLayer",
    "IntraLayer",
    "JensenShannon",
    "KLDivergence",
    "KeptTeachers",
    "L2ToStart",
    "LocalRelations",
    "LogitsMSE",
    "Loss",
    "MapCorrelation",
    "MutualInformation",
    "NormDirection",
    "NormKD",
    "NormalisedSmoothL1",
    "NormalisedTemperature",
    "PartialL2",
    "PerToken",
    "PermutedKL",
    "RKDAngle",
    "RKDDistance",
    "Redundancy",
    "Refined",
    "ReverseKL",
    "RoutedKL",
    "SameClassKL",
    "ScaleDecoupled",
    "SimilarityPreserving",
    "SpatialTokens",
    "Standardised",
    "Streamlined",
    "TargetClass",
    "TopNCKD",
    "VariationalInformation",
    "VirtualTeacherKL",
    "WKDLogits",
    "activation_boundary",
    "alpha_beta",
    "angular_inter",
    "angular_intra",
    "at",
    "attention_kl",
    "balanced_divergence",
    "binary_cross_entropy",
    "binary_kl",
    "boosted",
    "cc",
    "cell_logits",
    "class_structure",
    "confidence_weighted_ce",
    "confident_kl",
    "contrast",
    "correlation_information",
    "cosine_distance",
    "cross_entropy",
    "dist",
    "dkd",
    "entropy_adaptive_kl",
    "factor_transfer",
    "feature_distance",
    "flow",
    "gaussian_kl",
    "information_flow",
    "instance_structure",
    "inter_layer",
    "intra_layer",
    "jensen_shannon",
    "kl_divergence",
    "l2_to_start",
    "linear_cka",
    "logits_mse",
    "map_correlation",
    "mlkd",
    "mse",
    "mutual_information",
    "nckd",
    "negative_mean",
    "nkd",
    "norm_direction",
    "normkd",
    "nst",
    "partial_l2",
    "permuted",
    "pkt",
    "redundancy",
    "reverse_kl",
    "rkd_angle",
    "rkd_distance",
    "same_class_kl",
    "scale_decoupled",
    "sp",
    "spatial_tokens",
    "standardise",
    "tckd",
    "top_nckd",
    "transport_cost",
    "ttm",
    "virtual_teacher",
    "wkd_logits",
    "wttm",
]
