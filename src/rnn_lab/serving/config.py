"""The options of `rnn-lab serve`, as conf/serve.yaml lists them."""

import ipaddress
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from rnn_lab.inference.config import Device
from rnn_lab.validation import AUTO, FilePath, StrictConfig, Text

MAX_RUNS = 4
MIN_TOKEN_LENGTH = 16


def _as_runs(value: Any) -> Any:
    runs = value if isinstance(value, list | tuple) else [value]
    if not runs or not all(runs):
        raise ValueError(
            "give the folder of a finished run, or a .ckpt, .safetensors or .onnx file: run=<path>"
        )
    if len(runs) > MAX_RUNS:
        raise ValueError(f"{len(runs)} runs; at most {MAX_RUNS} are served together")
    return runs


def _check_token(value: Any) -> Any:
    if value in (None, AUTO):
        return value
    is_usable = isinstance(value, str) and value.isascii() and value.isprintable()
    if not is_usable or " " in value or len(value) < MIN_TOKEN_LENGTH:
        raise PydanticCustomError(
            "secret",
            "needs at least 16 printable ASCII characters and no space; `auto` generates one",
        )
    return value


class ServeOptions(StrictConfig):
    """Finished runs, the address to serve them on, and the limits of requests."""

    run: Annotated[tuple[FilePath, ...], BeforeValidator(_as_runs)]
    host: Text = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    token: Annotated[str | None, BeforeValidator(_check_token)] = None
    allowed_hosts: tuple[Text, ...] = ()
    max_body_bytes: PositiveInt = 8 * 2**20
    max_texts: PositiveInt = 1000
    max_text_length: PositiveInt = 20_000
    max_queue: PositiveInt = 2000
    max_connections: PositiveInt = 256
    timeout_s: float = Field(default=30, gt=0, le=3600)
    max_batch_size: PositiveInt = 64
    max_wait_ms: NonNegativeFloat = 2
    device: Device = "auto"
    plugins: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _room_in_the_queue(self) -> Self:
        if self.max_queue < self.max_texts:
            raise ValueError(
                f"max_queue={self.max_queue}: is below max_texts={self.max_texts}; a request of "
                "that many texts would never be accepted"
            )
        return self

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
