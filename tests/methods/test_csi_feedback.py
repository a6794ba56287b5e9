"""AE-KD, encoder KD and its variant: what is compared, and what is deployed."""

import pytest
import torch

from attar.batch import Batch
from attar.deploy import load, save
from attar.errors import AttarError
from attar.methods import create_method
from attar.models import create_model
from attar.profiling import macs

SHAPE = (4, 8)


def csinet(width=2, compression=4, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model("csinet", 2, 2, SHAPE, width=width, compression=compression)


def made(name, teacher=None, student=None, **options):
    teacher = csinet(8, seed=1) if teacher is None else teacher
    return create_method(name, teacher=teacher, student=student or csinet(), task="channel", **options)


@pytest.fixture
def batch():
    channels = torch.randn(3, 2, *SHAPE, generator=torch.Generator().manual_seed(0))
    return Batch(channels, channels.clone())


def test_aekd_is_the_two_errors(batch):
    method, nets = made("aekd", soft=0.5).eval(), (csinet().eval(), csinet(8, seed=1).eval())
    own, theirs = (net(batch.inputs) for net in nets)
    expected = (own - batch.labels).square().mean() + 0.5 * (own - theirs).square().mean()
    assert method.batch_losses(batch).total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_aekd_without_the_teacher_is_plain_training(batch):
    plain = create_method("supervised", student=csinet(), task="channel")
    found = []
    for method in (made("aekd", soft=0.0), plain):
        optimiser = torch.optim.SGD(method.trainable(), 0.1)
        for _ in range(3):
            optimiser.zero_grad()
            method.batch_losses(batch).total.backward()
            optimiser.step()
        found.append(method.deployed().state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[1])


def test_encoderkd_at_loss_zero_deploys_the_teacher(batch):
    teacher, student = csinet(8, seed=1), csinet(8)
    student.load_state_dict(teacher.state_dict())
    with torch.no_grad():  # its own decoder is not used
        student.last.weight.zero_()
    method = made("encoderkd", teacher, student).eval()
    assert method.batch_losses(batch).total.item() == 0.0
    assert torch.equal(method.deployed()(batch.inputs), teacher(batch.inputs))


def test_encoderkd_trains_the_encoder_alone_and_deploys_the_teachers_decoder(batch, tmp_path):
    teacher, student = csinet(8, seed=1), csinet()
    decoder = {name: one.clone() for name, one in teacher.state_dict().items()}
    method = made("encoderkd", teacher, student).train()
    names = {name.split(".")[2] for name, one in method.named_parameters() if one.requires_grad}
    assert names == {"first", "code"}
    optimiser = torch.optim.SGD(method.trainable(), 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        method.batch_losses(batch).total.backward()
        optimiser.step()
    net = method.deployed().eval()
    held = net.decoder.state_dict()
    assert {name.split(".")[0] for name in held} == {"coarse", "fine", "last"}
    assert all(torch.equal(held[name], decoder[name]) for name in held)
    code = student.eval().features(batch.inputs, ["stage2"]).tap("stage2")
    assert torch.equal(net(batch.inputs), teacher.resume(code, 2).logits)
    save(net, tmp_path / "pair.safetensors")
    assert torch.equal(load(tmp_path / "pair.safetensors")(batch.inputs), net(batch.inputs))


@pytest.mark.parametrize("name", ["encoderkd", "exchangekd"])
def test_codewords_of_other_lengths_are_refused(name):
    message = rf"method .{name}.: a codeword of the student has the shape \(4, 1, 1\), the teacher's \(16, 1, 1\)"
    with pytest.raises(AttarError, match=message) as error:
        made(name, csinet(8), csinet(compression=16))
    assert "\n" not in str(error.value)


def test_exchangekd_never_reads_the_teachers_decoder_in_training(batch):
    totals = []
    for broken in (False, True):
        teacher = csinet(8, seed=1)
        if broken:
            with torch.no_grad():
                teacher.last.weight.fill_(7.0)
        totals.append(made("exchangekd", teacher).train().batch_losses(batch).total)
    assert torch.equal(*totals)


def test_exchangekd_is_three_errors_and_deploys_both_pairs(batch):
    teacher, student = csinet(8, seed=1), csinet()
    method = made("exchangekd", teacher, student, hard=2.0, code=3.0, decoder=5.0).eval()
    codes = [net.features(batch.inputs, ["stage2"]).tap("stage2") for net in (student, teacher)]
    own, given = (student.resume(code, 2).logits for code in codes)
    expected = 2 * (own - batch.labels).square().mean() + 3 * (codes[0] - codes[1]).square().mean()
    expected = expected + 5 * (given - batch.labels).square().mean()
    assert method.batch_losses(batch).total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(method.deployed()(batch.inputs), teacher.resume(codes[0], 2).logits)
    assert torch.equal(method.also_deployed()["own"](batch.inputs), own)


def test_csinet_has_the_published_size():
    # At 32 x 32: 5.41 million multiply-adds at 1/4 and 3.84 million at 1/16.
    counts = [macs(create_model("csinet", 2, 2, 32, compression=compression), (2, 32, 32)) for compression in (4, 16)]
    convolutions = 1024 * 9 * (4 + 2 * (16 + 128 + 32) + 4)
    assert counts == [convolutions + 2 * 2048 * 2048 // compression for compression in (4, 16)]
    assert [round(count / 1e6, 2) for count in counts] == [5.41, 3.84]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": 5}, "compression must divide the 64 numbers of a channel, got 5"),
        ({"width": 0}, "width is 0"),
        ({"depth": -1}, "depth -1"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(AttarError, match=message):
        create_model("csinet", 2, 2, SHAPE, **options)


def test_csinet_takes_no_images():
    with pytest.raises(AttarError, match="2 channels, the real and the imaginary part, not 3 and 10"):
        create_model("csinet", 10, 3, 32)
