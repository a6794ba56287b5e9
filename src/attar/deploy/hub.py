"""Students on the Hugging Face Hub, through huggingface_hub's mixin: weights, card, and how images are prepared."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from attar.deploy.classifier import Classifier, classifier_of
from attar.deploy.export import Export
from attar.deploy.model_card import CardText
from attar.deploy.package import load
from attar.deploy.predict import Prediction, labelled
from attar.deploy.trained_run import Trained, find_trained
from attar.errors import AttarError
from attar.extras import require
from attar.metrics import Scoring
from attar.models import build, load_weights
from attar.tasks import create_task

hub = require("huggingface_hub", "HubStudent", "hf")
WEIGHTS = "model.safetensors"
LOADING = """from attar.deploy import HubStudent

student = HubStudent.from_pretrained("OWNER/NAME")  # logits = student(images)
student.label("photo.jpg")"""


class HubStudent(nn.Module, hub.PyTorchModelHubMixin, library_name="attar"):  # type: ignore[call-arg, name-defined]
    """A student that the Hub's calls push and load: `push_to_hub`, `save_pretrained` and `from_pretrained`.

    A repository has model.safetensors, config.json (the network's spec, its classes, the size and normalisation of its
    images, its scores) and README.md, the model card. Loading it runs no code from the repository: networks are built
    by their names.

    Args:
        card: the JSON that a run writes beside its student.

    Raises:
        AttarError: the card has no network, or names one that is not known here.

    >>> import torch
    >>> net = {"name": "resnet8", "num_classes": 2, "in_channels": 1, "image_size": 8}
    >>> facts = {"classes": ["cat", "dog"], "image_shape": [1, 8, 8], "mean": [0.5], "std": [0.5], "data": "pets"}
    >>> HubStudent({"spec": net, **facts})(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 2])
    """

    def __init__(self, card: dict[str, Any]) -> None:
        super().__init__()
        if not isinstance(card.get("spec"), dict):
            raise AttarError("the card names no network (no 'spec'); push the student of a run")
        self.card, self.licence = card, "unknown"
        self.trained = Trained(Path(WEIGHTS), card, Path(), finished=False)
        self.net = build(card["spec"]).eval()

    @classmethod
    def of_run(cls, path: str | Path, license: str = "unknown") -> Self:
        """The student of a finished run, or of a .safetensors file with its JSON.

        Args:
            path: the run's folder or the file; of several seeds the first one's.
            license: for the model card, as the Hub names it ("apache-2.0").

        Raises:
            AttarError: there is none, or the run is not finished.
        """
        trained = find_trained(path)
        made = cls(trained.card)
        made.net, made.trained, made.licence = load(trained.weights), trained, license
        return made.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images (N, C, H, W), normalised."""
        logits: Tensor = self.net(images)
        return logits

    def label(self, files: str | Path | Iterable[str | Path], top: int = 3) -> list[Prediction]:
        """The most probable classes of image files, or of all images in folders.

        Raises:
            AttarError: a folder holds no image, or the student is no classifier of images.
        """
        return list(labelled(self.classifier, [files] if isinstance(files, str | Path) else files, top))

    @property
    def classifier(self) -> Classifier:
        """The student with how its images are prepared."""
        if "image_shape" not in self.card:
            raise AttarError("this student is no classifier of images; call it on its own inputs")
        return classifier_of(self.net, self.card, WEIGHTS)

    @property
    def scoring(self) -> Scoring:
        """How it was scored."""
        if self.trained.results:
            return self.trained.results[2]
        task = create_task(self.card.get("task") or "classification", **self.card.get("task_options") or {})
        return task.metrics().scoring

    def generate_model_card(self, *_: Any, **__: Any) -> Any:
        """The model card of a run, with the numbers of teacher, student alone and student."""
        nothing = Export(Path(), [], self.scoring)
        return hub.ModelCard(CardText(self.trained, nothing, "", self.licence, LOADING).text())

    def _save_pretrained(self, save_directory: Path) -> None:
        from attar.deploy.package import save

        save(self.net, save_directory / WEIGHTS, **self.card)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, card: dict[str, Any], map_location: str = "cpu", **options: Any
    ) -> Self:
        wanted = ("revision", "cache_dir", "force_download", "token", "local_files_only")
        inside = Path(model_id) / WEIGHTS
        file = (
            inside
            if Path(model_id).is_dir()
            else hub.hf_hub_download(model_id, WEIGHTS, **{key: options[key] for key in wanted if key in options})
        )
        made = cls(card)
        load_weights(made.net, file)
        return made.to(map_location).eval()
