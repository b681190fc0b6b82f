"""A minimal Keras script for comparison: import, load, fit 5 epochs with the default settings, evaluate."""

import keras
import numpy as np

images, labels, test_images, test_labels = (
    np.load(f"data/raw/{split}_{kind}.npy") for split in ("train", "test") for kind in ("images", "labels")
)
network = keras.Sequential(
    [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(256, "relu"), keras.layers.Dense(10, "softmax")]
)
network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
network.fit(images / 255, labels, epochs=5, verbose=0)
print(network.evaluate(test_images / 255, test_labels, verbose=0))
