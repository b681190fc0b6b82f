"""The forward pass in PyTorch on uint8 pixels, 10,000 images per call: `python -m bench.workers.torch_predict IMAGES`."""

import sys

import numpy as np
import torch

from bench.workers.rounds import serve

images = torch.from_numpy(np.load("data/raw/test_images.npy"))
layers = (torch.nn.Flatten(), torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10), torch.nn.Softmax(1))
network = torch.nn.Sequential(*layers).eval()


def calls() -> None:
    with torch.inference_mode():
        for _ in range(int(sys.argv[1]) // len(images)):
            network(images.float() / 255)


serve(calls)
