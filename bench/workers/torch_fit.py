"""Epochs of a PyTorch loop: shuffled batches of 128, cross entropy, Adam."""

import numpy as np
import torch

from bench.workers.rounds import serve

BATCH = 128
torch.manual_seed(0)
images = torch.from_numpy(np.load("data/raw/train_images.npy").astype("float32").reshape(-1, 784) / 255)
labels = torch.from_numpy(np.load("data/raw/train_labels.npy").astype("int64"))
network = torch.nn.Sequential(torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
optimizer = torch.optim.Adam(network.parameters())
loss = torch.nn.CrossEntropyLoss()


def epoch() -> None:
    for rows in torch.randperm(len(labels))[: len(labels) // BATCH * BATCH].view(-1, BATCH):
        optimizer.zero_grad()
        loss(network(images[rows]), labels[rows]).backward()
        optimizer.step()


serve(epoch)
