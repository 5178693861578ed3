"""The built-in Keras classes and functions that a model may contain, by name: nothing of Keras is imported here.

Only listed objects are ever built (`lanfit.models.architecture`). A test compares the lists with the installed Keras,
so that a new release shows what was added. `REFUSED` contains what is excluded on purpose, with the reason.
"""

from __future__ import annotations

import re
from typing import Final

from lanfit.models.operations import CALLING, OPERATIONS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Layers that map values to numbers with a table; applied to the data, they need not be in the model.
LOOKUPS: Final = frozenset({"StringLookup", "IntegerLookup", "TextVectorization"})
_QUANTIZED: Final = "is for quantized weights, which can't be trained"
#: Classes of Keras that are rejected, and why; the text completes "is not accepted: it".
REFUSED: Final = {
    "Lambda": "contains code",
    "TFSMLayer": "contains a TensorFlow program",
    "TorchModuleWrapper": "contains a pickled PyTorch module",
    "JaxLayer": "contains code",
    "FlaxLayer": "contains code",
    **dict.fromkeys(sorted(LOOKUPS), "stores its vocabulary outside the weights"),
    "FeatureSpace": "stores its state outside the weights",
    "Distiller": "has its own way of training two models",
    "MultiOptimizer": "combines several optimizers",
    "OptimizerMap": "combines several optimizers",
    **dict.fromkeys(sorted(CALLING), "calls a function, which is code"),
    "AWQDTypePolicy": _QUANTIZED,
    "GPTQDTypePolicy": _QUANTIZED,
    "Int4DTypePolicy": _QUANTIZED,
    "QuantizedDTypePolicy": _QUANTIZED,
    "QuantizedFloat8DTypePolicy": _QUANTIZED,
}

LAYERS: Final = _words(
    """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention AugMix
    AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional
    CategoryEncoding CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D
    Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D Cropping2D Cropping3D CutMix
    Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten GRU
    GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention HashedCrossing
    Hashing Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxNumBoundingBoxes MaxPooling1D
    MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization PReLU
    Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter
    RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale
    RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness
    RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding
    STFTSpectrogram SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D
    SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells Subtract TimeDistributed UnitNormalization
    UpSampling1D UpSampling2D UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """
)
#: Layers that Keras knows under its old name for itself only, e.g. those that `tf.keras.layers` still has.
LEGACY_LAYERS: Final = frozenset({"AlphaDropout", "RandomHeight", "RandomWidth", "ThresholdedReLU"})
#: Layers in models of keras.applications: module → classes.
OF_APPLICATIONS: Final = {
    "keras.src.applications.convnext": frozenset({"LayerScale", "StochasticDepth"}),
    "keras.src.applications.inception_resnet_v2": frozenset({"CustomScaleLayer"}),
}
MODELS: Final = frozenset({"Sequential", "Functional", "Model"})
ACTIVATIONS: Final = _words(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid
    sparsemax squareplus tanh tanh_shrink threshold
    """
)
INITIALIZERS: Final = _words(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal
    RandomNormal RandomUniform STFT TruncatedNormal VarianceScaling Zeros
    """
)
#: What Keras 3.0 to 3.6 called two of them.
OLD_INITIALIZERS: Final = frozenset({"IdentityInitializer", "OrthogonalInitializer"})
REGULARIZERS: Final = frozenset({"L1", "L2", "L1L2", "OrthogonalRegularizer"})
CONSTRAINTS: Final = frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"})
SCHEDULES: Final = _words(
    """
    CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay
    """
)
OPTIMIZERS: Final = _words(
    """
    Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion Muon Nadam RMSprop SGD ScheduleFreeAdamW
    """
)
LOSSES: Final = _words(
    """
    BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy CategoricalFocalCrossentropy
    CategoricalHinge Circle CosineSimilarity Dice Hinge Huber KLDivergence LogCosh MeanAbsoluteError
    MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson SparseCategoricalCrossentropy
    SquaredHinge Tversky
    """
)
#: Metrics that can be given by name.
METRICS: Final = _words(
    """
    AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy CategoricalCrossentropy
    CategoricalHinge ConcordanceCorrelation CosineSimilarity F1Score FBetaScore FalseNegatives FalsePositives Hinge
    KLDivergence LogCoshError MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError
    MeanSquaredLogarithmicError PearsonCorrelation Poisson Precision R2Score Recall RootMeanSquaredError
    SparseCategoricalAccuracy SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy SquaredHinge
    TopKCategoricalAccuracy TrueNegatives TruePositives
    """
)
#: Metrics that need options: only as the configuration of an object.
CONFIGURED_METRICS: Final = _words(
    """
    IoU MeanIoU MeanMetricWrapper OneHotIoU OneHotMeanIoU PrecisionAtRecall RecallAtPrecision SensitivityAtSpecificity
    SpecificityAtSensitivity
    """
)
#: Names that Keras' `compile` interprets by the shape of the output.
ACCURACIES: Final = frozenset({"accuracy", "acc", "crossentropy", "ce"})

_SHORT: Final = {
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
    "bce": "binary_crossentropy",
}


def snake_case(name: str) -> str:
    """Return the lower-case name of a class in Keras: `KLDivergence` is `kl_divergence`."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _names(classes: frozenset[str], short: dict[str, str]) -> dict[str, str]:
    """Return all names that Keras accepts for a class, and the long one of each."""
    long = {snake_case(name) for name in classes}
    names = {name: name for name in long} | {name: snake_case(name) for name in classes}
    return names | short | {alias.upper(): name for alias, name in short.items()}


#: Spelling → class, e.g. "adam" → "Adam". Keras compares optimizers without regard to case.
OPTIMIZER_NAMES: Final = {name.lower(): name for name in OPTIMIZERS - {"Lamb"}}  # which Keras takes as an object only
#: Spelling → the long name, e.g. "mse" and "MeanSquaredError" → "mean_squared_error".
LOSS_NAMES: Final = _names(LOSSES, _SHORT | {"kld": "kl_divergence"})
METRIC_NAMES: Final = _names(METRICS, _SHORT) | {name: name for name in ACCURACIES}

#: (module, class) of everything that may be built, as written by Keras 3 in a configuration.
CLASSES: Final = frozenset(
    (module, name)
    for module, names in {
        "keras": {"Sequential", "Model", "DTypePolicy", "FloatDTypePolicy"},
        "keras.models": MODELS,
        "keras.src.models.functional": {"Functional"},
        "keras.dtype_policies": {"DTypePolicy", "DTypePolicyMap"},
        # The latter is what GroupQueryAttention is called in an .h5.
        "keras.layers": LAYERS | {"GroupedQueryAttention"},
        "keras._legacy.layers": LEGACY_LAYERS,
        **OF_APPLICATIONS,
        **OPERATIONS,
        "keras.initializers": INITIALIZERS | OLD_INITIALIZERS,
        "keras.regularizers": REGULARIZERS,
        "keras.constraints": CONSTRAINTS,
        "keras.optimizers": OPTIMIZERS | {"LossScaleOptimizer"},
        "keras.optimizers.schedules": SCHEDULES,
        "keras.losses": LOSSES | {"CategoricalGeneralizedCrossEntropy"},
        "keras.metrics": METRICS | CONFIGURED_METRICS,
        "keras.random": {"SeedGenerator"},
    }.items()
    for name in names
)
#: Classes that Keras can't load from an .h5, which does not record the module of a class.
NOT_IN_H5: Final = frozenset(
    name for names in (*OPERATIONS.values(), *OF_APPLICATIONS.values(), LEGACY_LAYERS) for name in names
)
#: Functions that a configuration may name.
FUNCTIONS: Final = ACTIVATIONS | {snake_case(name) for name in LOSSES | METRICS}
FUNCTION_MODULES: Final = frozenset({"builtins", "keras.activations", "keras.losses", "keras.metrics"})
