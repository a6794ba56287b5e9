"""Published numbers: of whom they are, and what they are compared with."""

import pytest

from attar.report.method_records import gain_over_kd
from attar.report.published import published_score


@pytest.mark.parametrize("teacher", ["", "resnet56", "resnet110"])
def test_a_student_alone_has_its_number_whoever_might_teach_it(teacher):
    assert published_score("supervised", teacher, "resnet20", "cifar100")[0] == 69.06
    assert published_score("supervised", teacher, "resnet8", "cifar100") is None


def test_sdd_has_the_numbers_of_its_own_form():
    """SD-DKD, as the method here, and not SD-KD."""
    pairs = (("resnet32x4", "shufflenetv1", 77.3), ("wrn_40_2", "shufflenetv1", 77.21), ("vgg13", "mobilenetv2", 70.25))
    for teacher, student, top1 in pairs:
        assert published_score("sdd", teacher, student, "cifar100")[0] == top1


@pytest.mark.parametrize("name", ["srrl", "semckd", "simkd"])
def test_what_was_run_with_another_kd_has_no_gain_over_kd(name):
    assert published_score(name, "resnet32x4", "resnet8x4", "cifar100")[0] > 75
    assert gain_over_kd(name) is None
