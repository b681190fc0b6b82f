"""Start MLflow's scoring server for models that only ONNX Runtime loads."""

from pathlib import Path
from typing import Any

from pipeline.serving.errors import UnsafeModelError

# The only settings of an MLmodel that are accepted, apart from versions.
_FLAVOURS: dict[str, dict[str, Any]] = {
    "onnx": {"data": "model.onnx", "providers": ["CPUExecutionProvider"]},
    "python_function": {
        "data": "model.onnx",
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},  # file names; nothing here reads these files
        "loader_module": "mlflow.onnx",
    },
}


_VERSIONS = ("onnx_version", "python_version")


def scoring_app(folder: Path) -> Any:
    """Return MLflow's scoring server for the downloaded model in `folder`, as an ASGI application.

    Raises:
        UnsafeModelError: something other than ONNX Runtime would load the model.
    """
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    check_flavours(folder)
    return scoring_server.init(pyfunc.load_model(str(folder)))


def check_flavours(folder: Path) -> None:
    """Raise UnsafeModelError unless MLflow would load model.onnx with ONNX Runtime and run no other code of the model.

    MLflow imports any module that the file MLmodel names as the loader, and the loaders of other flavours unpickle files.
    """
    from mlflow.models import Model

    try:
        flavours = {name: dict(settings) for name, settings in Model.load(str(folder)).flavors.items()}
    except Exception as error:  # MLflow passes on any exception of its YAML parser
        raise UnsafeModelError(f"a file that cannot be read ({type(error).__name__})") from error
    if set(flavours) != {"onnx", "python_function"}:
        raise UnsafeModelError(f"the flavours {', '.join(map(str, flavours)) or 'none'}")
    for flavour, settings in _FLAVOURS.items():
        for key, value in flavours[flavour].items():
            if key not in _VERSIONS and value != settings.get(key):
                raise UnsafeModelError(f"{key} {value!r} of {flavour}")
    if missing := [key for key in ("data", "loader_module") if key not in flavours["python_function"]]:
        raise UnsafeModelError(f"no {missing[0]} of python_function")
