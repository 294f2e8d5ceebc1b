"""timm behind one function."""

import pytest
import timm
import torch

from repose.errors import UserError
from repose.nn import backbones
from repose.nn.backbones import backbone, concatenated


def test_maps_channels_and_strides():
    net = backbone("cspnext_tiny")
    assert net.channels == (48, 96, 192, 384) and net.strides == (4, 8, 16, 32)
    maps = net(torch.zeros(1, 3, 96, 72))
    assert [tuple(m.shape) for m in maps] == [(1, 48, 24, 18), (1, 96, 12, 9), (1, 192, 6, 5), (1, 384, 3, 3)]


def test_parameters_of_cspnext():
    assert sum(p.numel() for p in backbone("cspnext_s").parameters()) == 4_378_320


def test_fewer_levels_build_less():
    net = backbone("cspnext_tiny", levels=3)
    assert net.strides == (4, 8, 16)
    assert sum(p.numel() for p in net.parameters()) == 495_708  # of 2 348 700


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_other_families(name):
    """With and without a stride-2 map in front."""
    assert backbone(name).strides == (4, 8, 16, 32)


def test_hrnet_gives_its_branches():
    net = backbone("hrnet_w18_small")
    assert net.strides == (4, 8, 16, 32)
    assert net.channels == (16, 32, 64, 128)


def test_typo_names_the_nearest():
    with pytest.raises(UserError, match=r"backbone.name='cspnext_mm' is not a timm model; did you mean 'cspnext_m'"):
        backbone("cspnext_mm")


def test_wrong_strides_are_refused():
    with pytest.raises(UserError, match="strides"):
        backbone("vit_tiny_patch16_224")


def test_offline_pretrained_is_one_line(monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("Network is unreachable\nmore")

    monkeypatch.setattr(backbones.timm, "create_model", no_network)
    with pytest.raises(UserError, match=r"pretrained=true: timm could not fetch .*weights=FILE") as error:
        backbone("cspnext_tiny", pretrained=True)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(1)
    return timm.create_model("cspnext_tiny", num_classes=10).state_dict()


def openmmlab(state):
    """The same weights under OpenMMLab's names: backbone.stem..., backbone.stage1..."""
    out = {}
    for key, value in state.items():
        if key.startswith("stages."):
            _, number, rest = key.split(".", 2)
            key = f"stage{int(number) + 1}.{rest}"
        out[f"backbone.{key}"] = value
    return {"state_dict": out, "meta": {}}


@pytest.mark.parametrize("form", ["timm", "openmmlab"])
def test_weights_from_a_file(tmp_path, classifier, form):
    file = tmp_path / "w.pth"
    torch.save(classifier if form == "timm" else openmmlab(classifier), file)
    state = backbone("cspnext_tiny", weights=str(file)).state_dict()
    mine = {k.removeprefix("body.model."): v for k, v in state.items()}
    assert len(mine) > 100
    assert all(torch.equal(v, classifier[k]) for k, v in mine.items())


def test_a_missing_tensor_is_an_error(tmp_path, classifier):
    file = tmp_path / "w.pth"
    torch.save({k: v for k, v in classifier.items() if "stages.2" not in k}, file)
    with pytest.raises(UserError, match=r"lacks \d+ tensors of cspnext_tiny, first 'stages\.2"):
        backbone("cspnext_tiny", weights=str(file))


def test_weights_of_another_size_are_an_error(tmp_path, classifier):
    file = tmp_path / "w.pth"
    torch.save(classifier, file)
    with pytest.raises(UserError, match="cspnext_s"):
        backbone("cspnext_s", weights=str(file))


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        backbone("cspnext_tiny", weights=str(tmp_path / "nothing.pth"))
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    with pytest.raises(UserError, match="not a readable weight file"):
        backbone("cspnext_tiny", weights=str(tmp_path / "broken.pth"))


# --- HRNet as pose networks use it -----------------------------------------------------------------------------------


def hrnet_file(tmp_path, drop: str = "", classifier: bool = True):
    """A file under the official HRNet names, with or without the layers of its classifier."""
    torch.manual_seed(2)
    state = timm.create_model("hrnet_w18_small").state_dict()
    if not classifier:
        state = {k: v for k, v in state.items() if not k.startswith(("incre", "downsamp", "final", "classifier"))}
    state = {k: v for k, v in state.items() if not drop or not k.startswith(drop)}
    file = tmp_path / "hrnet.pth"
    torch.save(state, file)
    return file, state


def test_hrnet_w32_has_the_size_of_pose_papers():
    """29,305,536 parameters with all four outputs; the classifier's wider maps would have 30.88 M."""
    with torch.device("meta"):
        net = backbone("hrnet_w32")
    assert sum(p.numel() for p in net.parameters()) == 29_305_536
    assert net.channels == (32, 64, 128, 256) and net.strides == (4, 8, 16, 32)


@pytest.mark.parametrize("classifier", [True, False])
def test_official_hrnet_files(tmp_path, classifier):
    file, state = hrnet_file(tmp_path, classifier=classifier)
    net = backbone("hrnet_w18_small", weights=str(file))
    mine = {k.removeprefix("body."): v for k, v in net.state_dict().items()}
    assert len(mine) > 200
    assert all(torch.equal(v, state[k]) for k, v in mine.items())


def test_a_missing_branch_of_hrnet_is_an_error_with_its_key(tmp_path):
    file, _ = hrnet_file(tmp_path, drop="stage4.0.fuse_layers.3")
    with pytest.raises(UserError, match=r"lacks \d+ tensors of hrnet_w18_small, first 'stage4\.0\.fuse_layers\.3"):
        backbone("hrnet_w18_small", weights=str(file))


def test_concatenated_maps_have_the_finest_size():
    maps = [torch.zeros(1, 2, 5, 3), torch.ones(1, 3, 3, 2), torch.full((1, 1, 2, 1), 2.0)]
    joined = concatenated(maps)
    assert joined.shape == (1, 6, 5, 3)
    assert joined[0, :, 0, 0].tolist() == [0, 0, 1, 1, 1, 2]
    ramp = concatenated([torch.zeros(1, 1, 1, 4), torch.tensor([[[[0.0, 4.0]]]])])[0, 1, 0]
    assert ramp.tolist() == [0, 1, 3, 4]  # half-pixel centres
