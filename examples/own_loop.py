"""Distillation inside a training loop you already have: one line builds the method, one line gives the loss."""

import torch

import attar


def main(epochs: int = 2) -> float:
    splits = attar.load_data("digits")
    shape = {"num_classes": 10, "in_channels": 1, "image_size": 8}
    teacher, student = attar.create_model("resnet8x4", **shape), attar.create_model("resnet8", **shape)
    # ... load the teacher's weights here ...

    method = attar.create_method("kd", teacher=teacher, student=student)
    optimiser = torch.optim.SGD(method.trainable(), lr=0.05, momentum=0.9)
    method.check_optimiser(optimiser)
    images = splits.train.images.float() / 255
    for epoch in range(epochs):
        method.train()
        for step, index in enumerate(torch.randperm(len(images)).split(64)):
            losses = method(images[index], splits.train.labels[index], epoch=epoch, epochs=epochs, step=step)
            optimiser.zero_grad()
            losses["total"].backward()
            optimiser.step()
        print(epoch, {name: round(term.item(), 3) for name, term in losses.items()})
    torch.save(method.deployed().state_dict(), "student.pth")
    return losses["total"].item()


if __name__ == "__main__":
    main()
