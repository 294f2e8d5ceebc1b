"""Settings that cannot work are refused in one line that names them."""

import pytest
from kdc_kit import config

from repose.errors import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["loss.stride=1"], "set data.masks=full"),
        (["data.view=person"], "set data.view=image"),
        (["data.test_scales=[1.0,0.5]"], "KDC tests at one scale"),
        (["model.radius=0"], "model.radius=0"),
        (["model.backbone.width=0"], "the width must be above 0"),
        (["decode.seg_threshold=0"], "decode.seg_threshold=0"),
        (["decode.vote_threshold=1"], "it must lie between 0 and 1"),
        (["decode.tau=0"], "the smallest peak must be above 0"),
        (["decode.match_radius=-1"], "decode.match_radius=-1"),
        (["decode.pgo.sigma_lvk=-0.1"], "decode.pgo.sigma_lvk=-0.1"),
        (["decode.igo.sigma=-1"], "0 or more"),
        (["decode.igo.mode=bandwidth", "decode.igo.sigma=0"], "above 0 with decode.igo.mode=bandwidth"),
        (["model.stride=12"], r"one of \[8, 16, 32\]"),
        (["decode.pgo.sigma=0.4"], "did you mean"),
    ],
)
def test_wrong_settings_are_one_line(settings, message):
    with pytest.raises(UserError, match=message) as error:
        config(*settings)
    assert "\n" not in str(error.value)


def test_limits_that_work():
    assert config("loss.stride=1", "data.masks=full").loss.stride == 1
    assert config("decode.igo.sigma=0").decode.igo.sigma == 0
