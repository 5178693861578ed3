"""What can be wrong with a model: its file, what it is made of, its weights."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError
from lanfit.mistakes.entry import Mistake

_RESAVE = "Save it with Keras 3: model.save('net.keras') or model.save('net.h5')."
_AGAIN = "Save the model again."
_SMALLER = "Use a smaller model."
_NO_CODE = (
    "Models travel as known layers and raw arrays, never as code: build it from Keras' own layers, or define a layer, "
    "loss or metric of your own in a file that every machine has, and name it with --custom-objects my_layers.py "
    "(docs/howto/custom-layers.md)."
)
_ONE_MODEL = "Weights and architecture must be of one model."

MISTAKES: Mapping[str, Mistake] = {
    # --- its file ---
    "model.missing": Mistake(
        InputError,
        "there is no model file {path}",
        "Give the name of a file in model/, or a path to one.",
    ),
    "model.folder": Mistake(
        InputError,
        "{file}: this is a folder, not a model file",
        "Give the name of a file: models end in .h5, .hdf5 or .keras.",
    ),
    "model.saved-model": Mistake(
        InputError,
        "{file}: this folder is a SavedModel of TensorFlow, a program without layers",
        "Open it with TensorFlow up to 2.15, and save it as .h5 there: "
        "keras.models.load_model({file!r}).save('net.h5').",
    ),
    "model.foreign-format": Mistake(
        InputError,
        "{file}: this is {what}",
        "{advice}.",
    ),
    "model.packed": Mistake(
        InputError,
        "{file}: this is a zip file with a model in it",
        "Unpack it, and use {member}.",
    ),
    "model.no-architecture": Mistake(
        InputError,
        "{file}: this JSON is no architecture of a Keras model",
        f"An architecture is what model.to_json() returns; better: save the whole model. {_RESAVE}",
    ),
    "model.no-weights": Mistake(
        InputError,
        "{file}: this is an architecture, and no weights are beside it",
        "Put them into the same folder: model.save_weights('{stem}.weights.h5'). Or save the whole model: "
        "model.save('{stem}.keras').",
    ),
    "model.empty": Mistake(
        InputError,
        "{file}: the file is empty",
        _RESAVE,
    ),
    "model.unknown-kind": Mistake(
        InputError,
        "{file}: a file ending in {ending!r} is no model",
        f"Models end in .h5, .hdf5, .hdf or .keras. {_RESAVE}",
    ),
    "model.damaged": Mistake(
        InputError,
        "{file}: this is no {kind} file, or a damaged one: {reason}",
        _RESAVE,
    ),
    "model.endless": Mistake(
        InputError,
        "{file}: reading it took more than {seconds} s of processor time, far more than a good file of its size needs",
        _RESAVE,
    ),
    "model.weights-only": Mistake(
        InputError,
        "{file}: the file holds no architecture, weights at most",
        "Was it written by save_weights? Save the whole model: model.save('net.keras'). Or put the architecture beside "
        "it, as {stem}.json: open('{stem}.json', 'w').write(model.to_json()).",
    ),
    "model.no-model-in-zip": Mistake(
        InputError,
        "{file}: this is a zip file, but no Keras model: it lacks {parts}",
        _RESAVE,
    ),
    "model.first-keras-format": Mistake(
        InputError,
        "{file}: the file is in the first form of .keras, which only Keras {version} reads",
        "Save it there as .h5: model.save('net.h5').",
    ),
    "model.unknown-version": Mistake(
        InputError,
        "{file}: the model was saved by Keras {version}",
        "Files of Keras 2 and 3 can be read. One of Keras 1 opens in Keras 2.0 to 2.3.1: save it there, as .h5.",
    ),
    "model.bomb": Mistake(
        InputError,
        "{file}: {member} unpacks to {size:,byte}, too much for its size",
        _RESAVE,
    ),
    "model.too-large": Mistake(
        InputError,
        "{file}: the file unpacks to more than {most} GiB",
        _SMALLER,
    ),
    "model.link": Mistake(
        InputError,
        "{file}: {name!r} links to somewhere else",
        _RESAVE,
    ),
    "model.array-outside": Mistake(
        InputError,
        "{file}: the array {name!r} lies outside the file",
        _RESAVE,
    ),
    "model.array-too-large": Mistake(
        InputError,
        "{file}: the array {name!r} claims the shape {shape}, too much for its file",
        _RESAVE,
    ),
    "model.not-loaded": Mistake(
        InputError,
        "{file}: Keras {version} can't load it{saved_by}: {reason}",
        _RESAVE,
    ),
    "model.other-keras": Mistake(
        InputError,
        "this client's Keras {here} can't build the model that the server's Keras {there} has built: {reason}",
        "Bring both to one version. On the client: python -m pip install keras=={there}.",
    ),
    "model.newer-keras": Mistake(
        InputError,
        "{file}: saved by Keras {saved_by}, and this is Keras {here}: {reason}",
        "Bring Keras up to date here and on the clients: python -m pip install -U keras.",
    ),
    "model.out-of-memory": Mistake(
        InputError,
        "the model process ran out of memory",
        "Use a smaller model or fewer rows.",
    ),
    # --- what it takes and gives ---
    "model.no-input-shape": Mistake(
        InputError,
        "{file}: the model has no input shape yet",
        "Begin it with keras.Input(shape=...), or call it once.",
    ),
    "model.not-called": Mistake(
        InputError,
        "the model {name} can't be called on rows of shape {shape}: {reason}",
        "Call it once on a batch of rows in your program, e.g. model(x[:2]), and correct what Keras says there.",
    ),
    "model.several-arrays": Mistake(
        InputError,
        "{file}: the model has {count} {what} arrays ({names})",
        "Use a model with one {what}.",
    ),
    "model.fixed-batch": Mistake(
        InputError,
        "{file}: the model takes batches of exactly {size:row}",
        "A layer keeps state from batch to batch: build the model without stateful=True and without a batch size.",
    ),
    "model.dtype": Mistake(
        InputError,
        "{file}: the weight {name!r} has dtype {dtype}, which can't travel",
        "Use float32.",
    ),
    "model.too-large-to-send": Mistake(
        InputError,
        "{file} has an architecture of {size:,byte}; {most:,} can be sent to clients",
        "Use a model with fewer layers.",
    ),
    # --- what it is made of; the file stands in front ---
    "model.text-too-long": Mistake(
        InputError,
        "{what} has {size:,character}; at most {most:,} are accepted",
        _SMALLER,
    ),
    "model.not-json": Mistake(
        InputError,
        "{what} is no JSON that can be read: {reason}",
        _AGAIN,
    ),
    "model.not-keras-2": Mistake(
        InputError,
        "{what} can't be read as Keras 2 wrote it: {reason}",
        "Load the file with the TensorFlow that wrote it, and save it again as .h5.",
    ),
    "model.no-model": Mistake(
        InputError,
        "the architecture is no Keras model that can travel: its outermost class is {name!r}",
        "Use a Sequential or a functional model; a subclass of keras.Model carries code.",
    ),
    "model.not-built": Mistake(
        InputError,
        "this model can't be built by Keras {version}: {reason}",
        "Load the file with plain Keras of this version, save it again, and use that file.",
    ),
    "model.too-deep": Mistake(
        InputError,
        "the configuration is nested deeper than {most}",
        "Use a model of built-in layers.",
    ),
    "model.refused-class": Mistake(
        InputError,
        "{place}the class {name} is not accepted: it {reason}",
        _NO_CODE,
    ),
    "model.foreign-class": Mistake(
        InputError,
        "{place}the class {name}{origin} is not accepted: it is not built into Keras",
        _NO_CODE,
    ),
    "model.lookup": Mistake(
        InputError,
        "{place}the class {name} is not accepted: it {reason}",
        "Apply it to the data, and begin the model behind it: x = keras.layers.{name}(...)(x), then a "
        "keras.Input of what that gives.",
    ),
    "model.operation": Mistake(
        InputError,
        "{place}the class {name} from {module!r} is not accepted: it is a bare operation that this Keras does not have",
        "Write the operation as a layer, e.g. keras.layers.Add() for `a + b`, or keras.layers.Rescaling(1 / 127.5, -1) "
        "for `x / 127.5 - 1`.",
    ),
    "model.not-in-h5": Mistake(
        InputError,
        "{place}{name} is a part of Keras that Keras can't read back from an .h5",
        "Save the model as .keras where it was made: model.save('net.keras').",
    ),
    "model.foreign-function": Mistake(
        InputError,
        "{place}the function {name!r}{origin} is not accepted: it is not built into Keras",
        _NO_CODE,
    ),
    "model.registered": Mistake(
        InputError,
        "{place}the {kind} {name} is not accepted: it is registered as {registered!r}, which is not Keras' own",
        _NO_CODE,
    ),
    "model.spoilt-part": Mistake(
        InputError,
        "{place}the configuration holds {what}",
        _AGAIN,
    ),
    "model.hard-sigmoid": Mistake(
        InputError,
        "layer {layer!r}: a {kind} with activation='hard_sigmoid' can't be carried over from Keras 2, where it was "
        "0.2 x + 0.5: in Keras 3 it is x / 6 + 0.5",
        "Build the model with activation='sigmoid' in this layer and train it anew.",
    ),
    # --- its weights, and several of it made into one ---
    "weights.count": Mistake(
        InputError,
        "the model has {needed} arrays of weights, given are {given}",
        _ONE_MODEL,
    ),
    "weights.too-few": Mistake(
        InputError,
        "layer {layer!r} has {needed:,} or more weights, and {given:,} came with the model",
        _ONE_MODEL,
    ),
    "weights.other-array": Mistake(
        InputError,
        "the weight {name!r} is {dtype} {shape}, the model needs {needed_dtype} {needed_shape}",
        _ONE_MODEL,
    ),
    "weights.other-layers": Mistake(
        InputError,
        "the model has {needed} layers with weights, in the file are {given}",
        _ONE_MODEL,
    ),
    "weights.other-count": Mistake(
        InputError,
        "layer {layer!r} has {needed} arrays of weights, in the file are {given}",
        _ONE_MODEL,
    ),
    "weights.other-shape": Mistake(
        InputError,
        "layer {layer!r}: the weight {name!r} is {given} in the file, the layer needs {needed}",
        _ONE_MODEL,
    ),
    "weights.other-model": Mistake(
        InputError,
        "set {number} of the weights has other names, shapes or dtypes than the model",
        "Only models of one architecture can be averaged.",
    ),
    "weights.no-average": Mistake(
        InputError,
        "{sets} sets of weights can't be averaged by the counts {counts}",
        "Average the results of at least one client that has rows.",
    ),
    "weights.no-ensemble": Mistake(
        InputError,
        "an ensemble of no models can't predict",
        "Give the results of at least one client.",
    ),
}
