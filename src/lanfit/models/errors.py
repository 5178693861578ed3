"""The errors of model files, compile options and custom objects; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError

_RESAVE = "Save it with Keras 3: model.save('net.keras') or model.save('net.h5')."
_AGAIN = "Save the model again."
_SMALLER = "Use a smaller model."
_NO_CODE = (
    "Models are sent as known layers and raw arrays, never as code. Build the model from Keras' built-in layers, or "
    "define a custom layer, loss or metric in a file that every machine has and pass it with --custom-objects "
    "my_layers.py (docs/howto/custom-layers.md)."
)
_ONE_MODEL = "Weights and architecture must belong to the same model."
_NUMBER_FROM_0 = "Number the classes from 0, or use a model with as many outputs as there are classes."
_REMOVE = "Remove these rows or fill in the missing values."
_SPARSE_SHAPE = (
    "the loss {loss} takes one integer per row, but a row of the targets has shape {shape} (the model's output is "
    "{output})"
)
_OTHER_SHAPE = (
    "the model's output is {output}, but the targets are {shape}; the loss {loss} compares them element by element"
)

ERRORS: Mapping[str, ErrorText] = {
    "normalizer.other-model": ErrorText(
        InputError,
        "the normalizer has {count} constants, but a row of the model's {what} has shape {shape}",
        "Use the constants of the data that the model was trained on.",
    ),
    # --- its file ---
    "model.missing": ErrorText(
        InputError,
        "the model file {path} does not exist",
        "Give the name of a file in model/, or a path to one.",
    ),
    "model.folder": ErrorText(
        InputError,
        "{file} is a folder, not a model file",
        "Give the name of a file with the extension .h5, .hdf5 or .keras.",
    ),
    "model.saved-model": ErrorText(
        InputError,
        "{file} is a TensorFlow SavedModel, which contains a program and no layers",
        "Open it with TensorFlow 2.15 or earlier and save it as .h5: keras.models.load_model({file!r}).save('net.h5').",
    ),
    "model.foreign-format": ErrorText(
        InputError,
        "{file} is {what}",
        "{advice}.",
    ),
    "model.packed": ErrorText(
        InputError,
        "{file} is a zip file that contains a model",
        "Extract it, and use {member}.",
    ),
    "model.no-architecture": ErrorText(
        InputError,
        "{file}: this JSON is not the architecture of a Keras model",
        f"Use the output of model.to_json(), or better, save the whole model. {_RESAVE}",
    ),
    "model.no-weights": ErrorText(
        InputError,
        "{file} is an architecture, but there is no weights file next to it",
        "Save the weights in the same folder: model.save_weights('{stem}.weights.h5'). Or save the whole model: "
        "model.save('{stem}.keras').",
    ),
    "model.empty": ErrorText(
        InputError,
        "{file}: the file is empty",
        _RESAVE,
    ),
    "model.unknown-kind": ErrorText(
        InputError,
        "{file}: a file with the extension {ending!r} is not a model",
        f"Model files have the extension .h5, .hdf5, .hdf or .keras. {_RESAVE}",
    ),
    "model.damaged": ErrorText(
        InputError,
        "{file} is not a valid {kind} file: {reason}",
        _RESAVE,
    ),
    "model.weights-only": ErrorText(
        InputError,
        "{file}: the file contains no architecture, only weights or nothing",
        "If it was written by save_weights, save the whole model instead: model.save('net.keras'). Or save the "
        "architecture next to it, as {stem}.json: open('{stem}.json', 'w').write(model.to_json()).",
    ),
    "model.no-model-in-zip": ErrorText(
        InputError,
        "{file} is a zip file, but not a Keras model: it lacks {parts}",
        _RESAVE,
    ),
    "model.first-keras-format": ErrorText(
        InputError,
        "{file}: the file is in the first version of the .keras format, which only Keras {version} can read",
        "Load it with that version and save it as .h5: model.save('net.h5').",
    ),
    "model.unknown-version": ErrorText(
        InputError,
        "{file}: the model was saved by Keras {version}",
        "lanfit reads files of Keras 2 and 3. Keras 2.0 to 2.3.1 can open a file of Keras 1: save it there as .h5.",
    ),
    "model.bomb": ErrorText(
        InputError,
        "{file}: {member} unpacks to {size:,byte}, which is implausible for its compressed size",
        _RESAVE,
    ),
    "model.too-large": ErrorText(
        InputError,
        "{file}: the file unpacks to more than {most} GiB",
        _SMALLER,
    ),
    "model.link": ErrorText(
        InputError,
        "{file}: {name!r} is a link to another file",
        _RESAVE,
    ),
    "model.array-outside": ErrorText(
        InputError,
        "{file}: the array {name!r} lies outside the file",
        _RESAVE,
    ),
    "model.array-of-objects": ErrorText(
        InputError,
        "{file}: the array {name!r} contains values that are not numbers",
        _RESAVE,
    ),
    "model.array-too-large": ErrorText(
        InputError,
        "{file}: the array {name!r} declares the shape {shape}, which is too large for its file",
        _RESAVE,
    ),
    "model.not-loaded": ErrorText(
        InputError,
        "{file}: Keras {version} can't load it{saved_by}: {reason}",
        _RESAVE,
    ),
    "model.newer-keras": ErrorText(
        InputError,
        "{file} was saved by Keras {saved_by}, but this is Keras {here}: {reason}",
        "Upgrade Keras here and on the clients: python -m pip install -U keras.",
    ),
    # --- what it takes and gives ---
    "model.no-input-shape": ErrorText(
        InputError,
        "{file}: the model has no input shape yet",
        "Start the model with keras.Input(shape=...), or call it once before saving.",
    ),
    "model.not-called": ErrorText(
        InputError,
        "the model {name} can't be called on rows of shape {shape}: {reason}",
        "Call it once on a batch of rows in your program, e.g. model(x[:2]), and fix the error that Keras reports.",
    ),
    "model.many-arrays": ErrorText(
        InputError,
        "{file}: the model has {count} {what} arrays, more than {most}",
        "Join arrays of one kind into one with more columns.",
    ),
    "model.nested-arrays": ErrorText(
        InputError,
        "{file}: the model's inputs or outputs are nested: lists or dicts inside a list or dict",
        "Build the model on one list, or one dict, of inputs and of outputs.",
    ),
    "model.array-name": ErrorText(
        InputError,
        "{file}: {name!r} is not a valid name for one of several {what}s",
        "Give each input and each output layer a different, short name without a colon: "
        'keras.Input(..., name="left"), keras.layers.Dense(..., name="price").',
    ),
    "model.fixed-batch": ErrorText(
        InputError,
        "{file}: the model has a fixed batch size of {size:row}",
        "Build the model without a batch size and without stateful=True.",
    ),
    "model.dtype": ErrorText(
        InputError,
        "{file}: the weight {name!r} has dtype {dtype}, which can't be sent to clients",
        "Use float32.",
    ),
    # --- its structure; the message begins with the file ---
    "model.text-too-long": ErrorText(
        InputError,
        "{what} has {size:,character}, but at most {most:,} are accepted",
        _SMALLER,
    ),
    "model.not-json": ErrorText(
        InputError,
        "{what} is not valid JSON: {reason}",
        _AGAIN,
    ),
    "model.not-keras-2": ErrorText(
        InputError,
        "{what} can't be read as a Keras 2 model: {reason}",
        "Load the file with the TensorFlow version that wrote it, and save it again as .h5.",
    ),
    "model.no-model": ErrorText(
        InputError,
        "the architecture is not a Sequential or functional Keras model: its outermost class is {name!r}",
        "Use a Sequential or a functional model; a subclass of keras.Model contains code, which is never sent.",
    ),
    "model.not-built": ErrorText(
        InputError,
        "this model can't be built with Keras {version}: {reason}",
        "Load the file with this version of Keras, save it again, and use the new file.",
    ),
    "model.too-many-layers": ErrorText(
        InputError,
        "the model has {layers} layers; the maximum is {most}",
        "Use a model with fewer layers.",
    ),
    "model.too-deep": ErrorText(
        InputError,
        "the model's configuration is nested deeper than {most} levels",
        "Use a model of built-in layers.",
    ),
    "model.refused-class": ErrorText(
        InputError,
        "{place}the class {name} is not accepted: it {reason}",
        _NO_CODE,
    ),
    "model.foreign-class": ErrorText(
        InputError,
        "{place}the class {name}{origin} is not accepted: it is not built into Keras",
        _NO_CODE,
    ),
    "model.lookup": ErrorText(
        InputError,
        "{place}the class {name} is not accepted: it {reason}",
        "Apply the layer to the data before training, x = keras.layers.{name}(...)(x), and let the model start with a "
        "keras.Input of the result's shape.",
    ),
    "model.operation": ErrorText(
        InputError,
        "{place}the class {name} from {module!r} is not accepted: it is an operation that this version of Keras does "
        "not have",
        "Replace the operation with a layer, e.g. keras.layers.Add() for `a + b`, or keras.layers.Rescaling(1 / 127.5, "
        "-1) for `x / 127.5 - 1`.",
    ),
    "model.not-in-h5": ErrorText(
        InputError,
        "{place}Keras can't load {name} from an .h5 file",
        "Save the model as .keras where it was created: model.save('net.keras').",
    ),
    "model.foreign-function": ErrorText(
        InputError,
        "{place}the function {name!r}{origin} is not accepted: it is not built into Keras",
        _NO_CODE,
    ),
    "model.registered": ErrorText(
        InputError,
        "{place}the {kind} {name} is not accepted: it is registered as {registered!r}, which is not built into Keras",
        _NO_CODE,
    ),
    "model.spoilt-part": ErrorText(
        InputError,
        "{place}the configuration contains {what}",
        _AGAIN,
    ),
    "model.hard-sigmoid": ErrorText(
        InputError,
        "layer {layer!r}: a {kind} with activation='hard_sigmoid' can't be converted from Keras 2, where it was 0.2 x "
        "+ 0.5: in Keras 3 it is x / 6 + 0.5",
        "Build the model with activation='sigmoid' in this layer and train it again.",
    ),
    # --- its weights, and several of it made into one ---
    "weights.count": ErrorText(
        InputError,
        "the model has {needed} weight arrays, but {given} were given",
        _ONE_MODEL,
    ),
    "weights.other-array": ErrorText(
        InputError,
        "the weight {name!r} is {dtype} {shape}, but the model needs {needed_dtype} {needed_shape}",
        _ONE_MODEL,
    ),
    "weights.other-layers": ErrorText(
        InputError,
        "the model has {needed} layers with weights, but the file has {given}",
        _ONE_MODEL,
    ),
    "weights.other-count": ErrorText(
        InputError,
        "layer {layer!r} has {needed} weight arrays, but the file has {given}",
        _ONE_MODEL,
    ),
    "weights.other-shape": ErrorText(
        InputError,
        "layer {layer!r}: the weight {name!r} is {given} in the file, but the layer needs {needed}",
        _ONE_MODEL,
    ),
    "weights.other-model": ErrorText(
        InputError,
        "weight set {number} has names, shapes or dtypes that differ from the model's",
        "Only models with the same architecture can be averaged.",
    ),
    "weights.no-average": ErrorText(
        InputError,
        "{sets} sets of weights can't be averaged with the counts {counts}",
        "Average the results of at least one client with rows.",
    ),
    "weights.no-ensemble": ErrorText(
        InputError,
        "an ensemble of no models can't predict",
        "Pass the results of at least one client.",
    ),
    # --- optimizer, loss and metrics ---
    "compile.unreadable": ErrorText(
        InputError,
        "the compile options can't be read: {reason}",
        "Compile and save the model again.",
    ),
    "compile.no-loss": ErrorText(
        InputError,
        "the model was compiled without a loss for the output {output}",
        "Compile it with a loss for each output: a list in their order, or a dict with their names.",
    ),
    "compile.per-output": ErrorText(
        InputError,
        "{what} does not match the model's outputs ({outputs})",
        "Compile it with a list with one entry per output, in this order, or with a dict with these names.",
    ),
    "compile.several-losses": ErrorText(
        InputError,
        "the model was compiled with {count} losses and the loss weights {weights!r}",
        "The model has one output: compile it with one loss, and pass metrics=... by keyword.",
    ),
    "compile.other-kind": ErrorText(
        InputError,
        "{name!r} is not in {module}",
        "Use one that is built into Keras, by name or with its options: code from a file or a peer is never executed.",
    ),
    "compile.unknown-name": ErrorText(
        InputError,
        "there is no Keras {what} {name!r}",
        "{known} Give it with {flag}, or compile the model with it.",
    ),
    "compile.in-file": ErrorText(
        InputError,
        "the {part} that the model was compiled with can't be used: {reason}",
        "Replace it with {flag}, e.g. {example}.",
    ),
    "compile.learning-rate": ErrorText(
        InputError,
        "the learning rate is {rate}",
        "Give a positive number, e.g. --learning-rate 0.001.",
    ),
    "compile.incomplete": ErrorText(
        InputError,
        "the model is not compiled: it has no {missing}",
        "Give {flags}, or save the model after model.compile(...).",
    ),
    "compile.refused": ErrorText(
        InputError,
        "the model can't be compiled with Keras {version}: {reason}",
        "Check the options of the optimizer, loss and metrics, or replace them with --optimizer, --loss, --metrics.",
    ),
    "backend.no-gpu": ErrorText(
        InputError,
        "a GPU was requested (--device gpu), but {backend} finds only the {found} of this machine",
        "Use --device cpu or auto, or install the GPU driver and a build of {backend} that supports it.",
    ),
    # --- the first batch ---
    "batch.row-shape": ErrorText(
        InputError,
        "a row of the data has shape {shape}, but the model's input is {wanted}",
        "Use a model with this input shape, or data with that shape.",
    ),
    "batch.not-finite": ErrorText(
        InputError,
        "the first batch contains NaN or infinity",
        _REMOVE,
    ),
    "batch.fractions": ErrorText(
        InputError,
        "the model takes integers ({dtype}), but the first batch contains fractions",
        "Use --normalizer none: integers that represent words or classes must not be scaled.",
    ),
    "batch.targets-not-finite": ErrorText(
        InputError,
        "the targets of the first batch contain NaN or infinity",
        _REMOVE,
    ),
    "batch.one-hot-targets": ErrorText(
        InputError,
        _SPARSE_SHAPE,
        "These look like one-hot rows: use --loss categorical_crossentropy.",
    ),
    "batch.no-labels": ErrorText(
        InputError,
        _SPARSE_SHAPE,
        "Provide one label per row, starting at 0.",
    ),
    "batch.one-output": ErrorText(
        InputError,
        "the model has 1 output, but the loss {loss} needs one per class",
        'For two classes use --loss binary_crossentropy with activation="sigmoid", or 2 outputs.',
    ),
    "batch.labels-outside": ErrorText(
        InputError,
        "the labels range from {least} to {most}, but the model has {outputs:output}: 0 to {last}",
        _NUMBER_FROM_0,
    ),
    "batch.class-numbers": ErrorText(
        InputError,
        _OTHER_SHAPE,
        "If these are class numbers, use --loss sparse_categorical_crossentropy.",
    ),
    "batch.target-shape": ErrorText(
        InputError,
        _OTHER_SHAPE,
        "Use a model whose last layer has as many units as the targets have values.",
    ),
    "batch.broken-weight": ErrorText(
        InputError,
        "the model's weight {name!r} contains NaN or infinity",
        "Use an earlier version of the model.",
    ),
    "batch.refused": ErrorText(
        InputError,
        "the model can't process a batch of {rows} with targets of {targets}, the loss {loss} and the metrics "
        "{metrics}: {reason}",
        "Check that the model, loss, metrics and data match.",
    ),
    "batch.metric-name": ErrorText(
        InputError,
        "the model is compiled with a metric called {name!r}: {why}",
        'Compile it with another name for the metric, e.g. keras.metrics.AUC(name="area"); spaces are allowed. For a '
        "file, --metrics replaces the metrics.",
    ),
    "batch.many-metrics": ErrorText(
        InputError,
        "the model is compiled with {count:metric} whose names have {size:,byte}; a result can hold {most}, with "
        "{bytes:,byte}",
        "Compile it with fewer metrics, or with shorter names; for a file, --metrics replaces the metrics.",
    ),
    "batch.metric-array": ErrorText(
        InputError,
        "the metric {name!r} returns {count:number}, but a history holds one number per metric",
        'Use a metric that returns a single number: for F1Score and FBetaScore average="macro" (or "micro", '
        '"weighted"), for R2Score class_aggregation="uniform_average". For a file, --metrics replaces the metrics.',
    ),
    "batch.output-not-finite": ErrorText(
        InputError,
        "the model's output contains NaN or infinity on the first batch",
        "If the input values are very large, choose a normalizer, e.g. --normalizer minmax.",
    ),
    "batch.no-probabilities": ErrorText(
        InputError,
        "the loss {loss} takes probabilities, but the model's output ranges from {least:.3g} to {most:.3g} (its last "
        "activation is {activation})",
        'End the model with activation="softmax" (one unit: "sigmoid"), or compile it with from_logits=True.',
    ),
    "batch.loss-not-finite": ErrorText(
        InputError,
        "the loss {loss} of the first batch is {value}",
        "Check that the targets suit the loss; a logarithm, for example, does not accept negative targets.",
    ),
    # --- the file ---
    "custom.no-file": ErrorText(
        InputError,
        "the custom objects file {path} does not exist",
        "Give the path of the Python file that defines them: --custom-objects my_layers.py.",
    ),
    "custom.not-python": ErrorText(
        InputError,
        "{path} is not a Python file",
        "Custom objects are read from a file that ends in .py: --custom-objects my_layers.py.",
    ),
    "custom.unreadable": ErrorText(
        InputError,
        "{path} can't be read as Python: {reason}",
        "Correct the file; `python {path}` shows the same error.",
    ),
    "custom.too-large": ErrorText(
        InputError,
        "{path} has {size:,byte}; a custom objects file can have at most {most:,}",
        "Keep only the classes and functions that the model uses.",
    ),
    "custom.failed": ErrorText(
        InputError,
        "{file} can't be executed: {reason}",
        "The file must be importable on its own: it may import installed packages, which each client needs as well, "
        "but not other files next to it.",
    ),
    "custom.two-of-a-name": ErrorText(
        InputError,
        "{first} and {second} both define {name}",
        "Rename one of them, or give only one of the files.",
    ),
    "custom.changed": ErrorText(
        InputError,
        "{path} has changed: its SHA-256 starts with {found}, but {wanted} is expected",
        "Restore the earlier file. To use the file as it is now, remove #sha256=… from the job file and start a new "
        "run.",
    ),
    # --- what is in it ---
    "custom.missing": ErrorText(
        InputError,
        "{place}the {kind} {name} is not defined in {files}",
        "Define it there under this name, at the top level of the file, on every machine.",
    ),
    "custom.keras-name": ErrorText(
        InputError,
        "{place}the {kind} {name} of {files} has the name of a built-in Keras object",
        'Rename it, or decorate it with @keras.saving.register_keras_serializable("mine"), and build the model again.',
    ),
    "custom.own-training": ErrorText(
        InputError,
        "{file}: the class {name} has its own {method}(), which clients would not run",
        "Clients use the training loop of lanfit: move this code into a layer, a loss or a metric.",
    ),
    # --- who has it ---
    "custom.not-allowed": ErrorText(
        InputError,
        "the model needs custom objects from {file} (SHA-256 {wanted}), but this client does not allow that file{own}",
        "Get {file} from the server's operator, review it, and start the client with --custom-objects {file}.",
    ),
    "custom.other-file": ErrorText(
        InputError,
        "this client's {file} (SHA-256 {found}) differs from the server's (SHA-256 {wanted}){lacks}",
        "Copy the server's {file} to this machine, review it, and start the client again with --custom-objects {file}.",
    ),
}
