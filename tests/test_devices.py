"""Accelerators that are in use or are not used: one line for each, with fakes in JAX's place."""

import fnmatch
import types

import jax
import pytest

from jaxprune import cli
from jaxprune.devices import check_devices, describe_devices
from jaxprune.errors import UserError

# As libtpu and JAX say it.
BACKEND = "Unable to initialize backend 'tpu': "
IN_USE = (
    "ABORTED: The TPU is already in use by process with pid 2718466. Not attempting to load libtpu.so in this process."
)
NAMED = f"{BACKEND}{IN_USE} (set JAX_PLATFORMS='' to automatically choose an available backend)"
CPU = [types.SimpleNamespace(platform="cpu", device_kind="cpu")]


def fake(monkeypatch, devices, *, platforms=None, **reasons: str) -> None:
    """JAX with these devices, or this error; and its reason for each platform that it does not use."""

    def answer(platform=None):
        if platform is None and isinstance(devices, str):
            raise RuntimeError(devices)
        if platform is None:
            return devices
        if platform in reasons:
            raise RuntimeError(
                f"Backend '{platform}' failed to initialize: {reasons[platform]}. Available backends are ['cpu']"
            )
        raise RuntimeError(f"Unknown backend {platform}. Available backends are ['cpu']")

    monkeypatch.setattr(jax, "devices", answer)
    monkeypatch.setattr(jax, "config", types.SimpleNamespace(jax_platforms=platforms))


def there(*paths: str):
    """A machine with these devices in /dev."""
    return lambda pattern: fnmatch.filter(paths, pattern)


@pytest.mark.parametrize(
    ("text", "by"),
    [
        (NAMED, "process 2718466"),
        (
            f"{BACKEND}ABORTED: The TPU is already in use by another process probably owned by another user.",
            "another process",
        ),
        (
            f"{BACKEND}ABORTED: Internal error when accessing libtpu multi-process lockfile. Run "
            '"$ sudo rm /tmp/libtpu_lockfile".',
            "another process",
        ),
        (
            f"{BACKEND}UNAVAILABLE: TPU initialization failed: open(/dev/accel0): Device or resource busy",
            "another process",
        ),
    ],
)
def test_a_tpu_in_use_is_said_in_one_line_with_the_way_out(monkeypatch, text, by) -> None:
    fake(monkeypatch, text)
    with pytest.raises(UserError) as caught:
        check_devices({}, there())
    message = str(caught.value)
    assert message.startswith(f"the TPU is in use by {by}; in a notebook, call jaxprune.run(...) in the kernel")
    assert "JAX_PLATFORMS=cpu" in message
    assert "\n" not in message


def test_other_troubles_with_devices_are_one_line_too(monkeypatch) -> None:
    fake(
        monkeypatch,
        "Unable to initialize backend 'foo': it is not in the list\nof known backends: ['cpu', 'tpu']. "
        "(set JAX_PLATFORMS='' to automatically choose an available backend)",
    )
    with pytest.raises(UserError) as caught:
        check_devices({}, there())
    assert str(caught.value) == (
        "JAX cannot start its devices: Unable to initialize backend 'foo': it is not in the list of known backends: "
        "['cpu', 'tpu']; set JAX_PLATFORMS to what this machine has, such as cpu"
    )


def test_tpu_in_use(monkeypatch) -> None:
    """A TPU in use is an error where JAX falls back to the CPU."""
    fake(monkeypatch, CPU, tpu=IN_USE)
    with pytest.raises(UserError, match="the TPU is in use by process 2718466"):
        check_devices({}, there("/dev/accel0"))


@pytest.mark.parametrize("chosen", [{"platforms": "cpu"}, {}])
def test_the_cpu_is_fine_where_it_was_asked_for(monkeypatch, chosen) -> None:
    fake(monkeypatch, CPU, tpu=IN_USE, **chosen)
    environment = {} if chosen else {"JAX_PLATFORMS": "cpu"}
    assert check_devices(environment, there("/dev/accel0", "/dev/nvidia0")) is None


@pytest.mark.parametrize(
    ("paths", "environment", "parts"),
    [
        (["/dev/nvidia0"], {}, ["an NVIDIA GPU (/dev/nvidia0)", "pip install 'jax[cuda12]'"]),
        (["/dev/accel0", "/dev/accel1"], {}, ["a TPU (/dev/accel0)", "pip install 'jax[tpu]'"]),
        ([], {"TPU_NAME": "local"}, ["a TPU (TPU_NAME)"]),
        ([], {"COLAB_TPU_ADDR": "10.0.0.2:8470"}, ["a TPU (COLAB_TPU_ADDR)"]),
        (["/dev/kfd"], {}, ["an AMD GPU (/dev/kfd)", "install a JAX for ROCm"]),
    ],
)
def test_unused_accelerator_warning(monkeypatch, paths, environment, parts) -> None:
    """An accelerator that is not used is a warning of one line."""
    fake(monkeypatch, CPU)
    warning = check_devices(environment, there(*paths))
    assert warning is not None
    for part in (*parts, "but JAX uses the CPU;", "JAX_PLATFORMS=cpu"):
        assert part in warning
    assert "\n" not in warning


def test_the_reason_that_jax_has_is_told(monkeypatch) -> None:
    fake(monkeypatch, CPU, cuda="no supported devices\nfound for platform CUDA.")
    warning = check_devices({}, there("/dev/nvidia0"))
    assert warning is not None
    assert "but JAX uses the CPU (no supported devices found for platform CUDA); " in warning


def test_nothing_is_said_where_nothing_is_amiss(monkeypatch) -> None:
    fake(monkeypatch, CPU)
    assert check_devices({}, there("/dev/nvidiactl", "/dev/accel")) is None, "no device of theirs"
    tpus = [types.SimpleNamespace(platform="tpu", device_kind="TPU v5 lite")] * 8
    fake(monkeypatch, tpus)
    assert check_devices({"TPU_NAME": "local"}, there("/dev/accel0")) is None
    assert describe_devices() == "8 TPU v5 lite devices"
    fake(monkeypatch, CPU)
    assert describe_devices() == "1 CPU device"


def test_the_command_line_ends_with_one_line(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(jax, "devices", lambda *_: (_ for _ in ()).throw(RuntimeError(NAMED)))
    assert cli.main(["run", "--out", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("jaxprune: error: the TPU is in use by process 2718466; ")
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
